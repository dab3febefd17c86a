"""Every spelling of a hook leads to one name, and a miss says what would have been right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saetools.errors import HookNotFoundError
from saetools.models import LanguageModel, SubjectModel, TextEncoder
from saetools.models.hook_names import HookSite, canonical, parse


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("blocks.3.hook_resid_post", "blocks.3.hook_resid_post"),
        ("blocks.3.hook_out", "blocks.3.hook_resid_post"),
        ("resid_post.3", "blocks.3.hook_resid_post"),
        ("model.layers.3", "blocks.3.hook_resid_post"),
        ("encoder.layer.3", "blocks.3.hook_resid_post"),
        ("transformer.h.3", "blocks.3.hook_resid_post"),
        ("blocks.0.hook_in", "blocks.0.hook_resid_pre"),
        ("resid_pre.0", "blocks.0.hook_resid_pre"),
        ("attn_out.1", "blocks.1.hook_attn_out"),
        ("blocks.1.hook_mlp_out", "blocks.1.hook_mlp_out"),
    ],
)
def test_all_spellings_give_the_canonical_name(
    tiny_lm: LanguageModel, spelling: str, name: str
) -> None:
    assert tiny_lm.resolve(spelling) == name


@given(st.sampled_from(["resid_pre", "attn_out", "mlp_out", "resid_post"]), st.integers(0, 999))
def test_a_canonical_name_is_its_own_spelling(kind: str, layer: int) -> None:
    site = parse(f"{kind}.{layer}")
    assert site == HookSite(kind, layer)  # type: ignore[arg-type]
    assert parse(canonical(site)) == site


@pytest.mark.parametrize("name", ["", "resid_post", "blocks.x.hook_out", "hook_embed", "head.3"])
def test_other_names_are_no_plain_site(name: str) -> None:
    assert parse(name) is None


def test_a_misspelt_hook_names_the_three_nearest(tiny_lm: LanguageModel) -> None:
    with pytest.raises(HookNotFoundError) as caught:
        tiny_lm.resolve("resid_pots.2")
    message = str(caught.value)
    named = [name for name in tiny_lm.hook_names() if name in message]
    assert len(named) == 3
    assert "blocks.2.hook_resid_post" in named
    assert "resid_pots.2" in message
    assert "tiny" in message


@pytest.mark.parametrize("name", ["resid_post.4", "blocks.4.attn.hook_q", "blocks.17.hook_out"])
def test_a_layer_out_of_range_is_said_plainly(tiny_lm: LanguageModel, name: str) -> None:
    with pytest.raises(HookNotFoundError, match="has 4 layers, 0 to 3, so there is no layer"):
        tiny_lm.resolve(name)


def test_the_aliases_of_a_site_are_its_spellings(
    tiny_lm: LanguageModel, tiny_encoder: TextEncoder, random_gpt2: LanguageModel
) -> None:
    name = "blocks.3.hook_resid_post"
    want = [name, "blocks.3.hook_out", "resid_post.3", "model.layers.3"]
    for spelling in want:
        assert tiny_lm.aliases(spelling) == want
    assert tiny_lm.aliases("resid_pre.0") == [
        "blocks.0.hook_resid_pre",
        "blocks.0.hook_in",
        "resid_pre.0",
    ]
    assert random_gpt2.aliases("resid_post.1")[-1] == "transformer.h.1"
    assert random_gpt2.aliases("mlp_out.1")[-1] == "transformer.h.1.mlp"
    assert tiny_encoder.aliases("attn_out.2")[-1] == "encoder.layer.2.attention.output.dense"


@pytest.mark.parametrize("fixture", ["tiny_lm", "tiny_encoder", "random_gpt2"])
def test_every_alias_leads_back_and_to_the_module_it_names(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    seen: set[str] = set()
    for name in model.hook_names():
        spellings = model.aliases(name)
        assert spellings[0] == name
        assert not seen & set(spellings)
        seen |= set(spellings)
        assert all(model.resolve(spelling) == name for spelling in spellings)
        if "resid_pre" not in name:
            assert model.hf.get_submodule(spellings[-1]) is not None


def test_a_name_of_the_bridge_alone_has_one_spelling(tiny_lm: LanguageModel) -> None:
    assert tiny_lm.aliases("blocks.1.attn.hook_q") == ["blocks.1.attn.hook_q"]
    with pytest.raises(HookNotFoundError):
        tiny_lm.aliases("resid_post.9")
