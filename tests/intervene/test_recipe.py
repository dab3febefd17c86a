"""A recipe does what the requests did that it was made of, on that model and SAE and no other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import saetools as st
from saetools.errors import ConfigError, FormatError
from saetools.intervene import (
    Add,
    AddDirection,
    CapProjection,
    Clamp,
    Condition,
    Direction,
    EditSizeTrigger,
    LatentTrigger,
    Mean,
    Positions,
    ProbeTrigger,
    ProjectOut,
    Request,
    Resample,
    Scale,
    SetProjection,
    Zero,
    intervene,
)
from saetools.intervene.recipe import InterventionRecipe, sae_fingerprint
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae


def everything(sae: SAE) -> list[Request]:
    """Every operation, kind of position and trigger there is."""
    direction = Direction(torch.linspace(-1, 1, 64), "given", "resid_post.2", {"n": 3})
    probe = ProbeTrigger(torch.ones(64), 0.5, "resid_post.0")
    return [
        Request(Add({5: 3.0, 7: -1.0}), sae=sae, positions="every"),
        Request(Add({5: 0.1}, "residual_norm"), sae=sae, positions="generated"),
        Request(
            Scale({8: -2.0}), sae=sae, when=Condition(LatentTrigger(sae, [1, 2]), 0.1, "token")
        ),
        Request(
            Clamp({9: 4.0}, "active", 0.01),
            sae=sae,
            when=Condition(EditSizeTrigger(sae, Scale({9: -8.0})), 1e-4, "text", "mean"),
        ),
        Request(Zero([10, 11]), sae=sae, positions=Positions(tokens="word")),
        Request(Mean({12: 0.3}), sae=sae, positions=Positions(tokens=(5, 6, 7))),
        Request(
            Resample([13], [[1.0], [2.0]], 3), sae=sae, positions=Positions(spans=((2, None),))
        ),
        Request(AddDirection(2.0), direction=direction, when=Condition(probe, -1.0, release=-2.0)),
        Request(ProjectOut(0.5), direction=direction, hook_name="resid_post.1"),
        Request(SetProjection(1.0, [0.1] * 64), direction=direction, positions="last"),
        Request(CapProjection(cap=1.0), direction=direction, label="cap it"),
    ]


def test_a_recipe_that_is_read_again_does_the_same_to_the_last_bit(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, tmp_path: Path
) -> None:
    requests = everything(sae)
    recipe = InterventionRecipe.of(tiny_lm, requests, evidence={"kl": 0.03})
    again = InterventionRecipe.load(recipe.save(tmp_path / "recipe.json"))
    assert again.requests == recipe.requests
    assert again.evidence == {"kl": 0.03}
    for i in range(len(requests)):
        one = InterventionRecipe(again.requests[i : i + 1], again.model)
        with intervene(tiny_lm, requests[i : i + 1]):
            wanted, text = tiny_lm.logits(tokens), tiny_lm.generate("the dog", 6)
        with one.applied(tiny_lm, sae) as (probe,):
            assert torch.equal(tiny_lm.logits(tokens), wanted), requests[i]
            assert tiny_lm.generate("the dog", 6) == text
        assert probe.kind == requests[i].name
    assert not torch.equal(wanted, tiny_lm.logits(tokens))


def test_the_sae_is_found_where_the_recipe_says(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, tmp_path: Path
) -> None:
    sae.save(tmp_path / "sae")
    request = Request(Clamp({5: 3.0}), sae=sae)
    recipe = InterventionRecipe.of(
        tiny_lm, [request], paths={sae_fingerprint(sae): tmp_path / "sae"}
    )
    with intervene(tiny_lm, [request]):
        wanted = tiny_lm.logits(tokens)
    with recipe.applied(tiny_lm):
        assert torch.equal(tiny_lm.logits(tokens), wanted)
    other = build_sae("topk", d_in=64, n_latents=256, k=8, meta=sae.meta, seed=4)
    with recipe.applied(tiny_lm, [other, sae]):
        assert torch.equal(tiny_lm.logits(tokens), wanted)


def test_another_model_or_sae_is_one_clear_error(
    tiny_lm: LanguageModel, sae: SAE, tmp_path: Path
) -> None:
    recipe = InterventionRecipe.of(tiny_lm, [Request(Zero([5]), sae=sae)])
    other_sae = build_sae("topk", d_in=64, n_latents=256, k=8, meta=sae.meta, seed=4)
    with pytest.raises(ConfigError, match=f"{sae_fingerprint(sae)}.*{sae_fingerprint(other_sae)}"):
        recipe.bound(tiny_lm, other_sae)
    with pytest.raises(ConfigError, match="found: none"):
        recipe.bound(tiny_lm)
    other = st.load_model("tiny", seed=1)
    with pytest.raises(ConfigError, match=f"{tiny_lm.fingerprint}.*{other.fingerprint}"):
        recipe.bound(other, sae)
    assert len(recipe.bound(other, sae, strict=False)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "saetools-intervention/2"}, "update saetools"),
        ({"format": "something/1"}, "name an intervention recipe"),
        ({"requests": None}, "damaged|lacks|not iterable"),
        ({"requests": [{"operation": {"type": "explode"}}]}, "request 1"),
    ],
)
def test_a_file_that_is_no_recipe_of_this_version_is_refused(
    tiny_lm: LanguageModel, sae: SAE, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = InterventionRecipe.of(tiny_lm, [Request(Zero([5]), sae=sae)]).save(tmp_path / "a.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError, match=message):
        InterventionRecipe.load(path).bound(tiny_lm, sae)


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot read"):
        InterventionRecipe.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        InterventionRecipe.load(tmp_path / "bad.json")


def test_a_field_that_this_version_does_not_know_is_refused(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    recipe = InterventionRecipe.of(tiny_lm, [Request(Zero([5]), sae=sae)])
    (fields,) = recipe.requests
    for place, extra in (("operation", {"softly": True}), ("positions", {"phase": "moon"})):
        changed = {**fields, place: {**fields[place], **extra}}
        with pytest.raises(FormatError, match="request 1"):
            InterventionRecipe([changed], recipe.model).bound(tiny_lm, sae)
