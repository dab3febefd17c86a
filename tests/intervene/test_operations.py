"""Each operation does to the activation what its formula says, and nothing to other rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saetools.errors import ConfigError, ShapeError, UnknownNameError
from saetools.intervene import (
    OPERATIONS,
    Add,
    AddDirection,
    CapProjection,
    Clamp,
    Direction,
    Mean,
    ProjectOut,
    Request,
    Resample,
    Scale,
    SetProjection,
    Zero,
    ablate,
    in_units_of,
    intervene,
    steer,
)
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"


def rows(model: LanguageModel, tokens: TokenBatch, hook: str = HOOK) -> Tensor:
    return model.activations(tokens, [hook])[hook][tokens.content]


def under(model: LanguageModel, tokens: TokenBatch, *requests: Request) -> Tensor:
    with intervene(model, requests):
        return rows(model, tokens)


@pytest.fixture
def common(tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch) -> list[int]:
    """Two latents that fire on some of the tokens, each on fewer than half."""
    share = (sae.encode(rows(tiny_lm, tokens)).dense() != 0).float().mean(0)
    return [int(i) for i in torch.argsort(-share) if 0 < share[i] < 0.5][:2]


@pytest.fixture
def direction(tiny_lm: LanguageModel) -> Direction:
    vector = torch.randn(tiny_lm.d_model, generator=torch.Generator().manual_seed(5))
    return Direction(vector, hook_name="resid_post.1")


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("name", ["add", "scale", "clamp", "clamp_active", "zero", "mean"])
def test_an_operation_on_latents_adds_the_difference_that_it_makes(
    tiny_lm: LanguageModel,
    sae: SAE,
    tokens: TokenBatch,
    common: list[int],
    name: str,
    keep_error: bool,
) -> None:
    a, b = common
    amounts = {a: 2.5, b: -1.5}
    operation: Any = {
        "add": Add(amounts),
        "scale": Scale(amounts),
        "clamp": Clamp(amounts),
        "clamp_active": Clamp(amounts, when="active"),
        "zero": Zero(common),
        "mean": Mean(amounts),
    }[name]
    x = rows(tiny_lm, tokens)
    dense = sae.encode(x).dense().detach()
    old, value = dense[:, common], torch.tensor([2.5, -1.5])
    new = dense.clone()
    new[:, common] = {
        "add": old + value,
        "scale": old * value,
        "clamp": value.expand_as(old),
        "clamp_active": torch.where(old > 0, value, old),
        "zero": torch.zeros_like(old),
        "mean": value.expand_as(old),
    }[name]
    error = x - (dense @ sae.W_dec + sae.b_dec)
    expected = new @ sae.W_dec + sae.b_dec + (error if keep_error else 0)
    after = under(tiny_lm, tokens, Request(operation, sae=sae, keep_error=keep_error))
    assert torch.allclose(after, expected, atol=1e-5)
    if keep_error:
        untouched = (new == dense).all(1)
        assert torch.equal(after[untouched], x[untouched])


def test_an_operation_along_a_direction_does_what_its_formula_says(
    tiny_lm: LanguageModel, tokens: TokenBatch, direction: Direction
) -> None:
    x, v = rows(tiny_lm, tokens), direction.unit
    along, length = (x @ v).unsqueeze(1), x.norm(dim=-1, keepdim=True)
    center = x.mean(0)
    middle = float(along.median())
    expected = {
        AddDirection(3.0): x + 3 * v,
        AddDirection(-0.5, "residual_norm"): x - 0.5 * length * v,
        AddDirection(2.0, "own_length"): x + 2 * direction.tensor,
        ProjectOut(): x - along * v,
        ProjectOut(0.25): x - 0.25 * along * v,
        SetProjection(4.0): x + (4 - along) * v,
        SetProjection(0.0, tuple(center.tolist())): x - ((x - center) @ v).unsqueeze(1) * v,
        CapProjection(cap=middle): x - (along - middle).clamp(min=0) * v,
        CapProjection(floor=middle): x + (middle - along).clamp(min=0) * v,
    }
    for operation, wanted in expected.items():
        after = under(tiny_lm, tokens, Request(operation, direction=direction))
        assert torch.allclose(after, wanted, atol=1e-5), operation
    capped = under(tiny_lm, tokens, Request(CapProjection(cap=middle), direction=direction))
    inside = (along <= middle).squeeze(1)
    assert inside.any()
    assert torch.equal(capped[inside], x[inside])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_strength_is_bit_identical_to_none(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, direction: Direction, dtype: torch.dtype
) -> None:
    import saetools as st

    model = tiny_lm if dtype == torch.float32 else st.load_model("tiny", dtype=dtype)
    assert isinstance(model, LanguageModel)
    plain = model.logits(tokens)
    nothing = [
        Request(Add({5: 0.0, 9: 0.0}), sae=sae, strict=False),
        Request(Add({5: 0.0}, "residual_norm"), sae=sae, strict=False),
        Request(Scale({5: 1.0}), sae=sae, strict=False),
        Request(Zero([]), sae=sae, strict=False),
        Request(AddDirection(0.0), direction=direction),
        Request(ProjectOut(0.0), direction=direction),
        Request(CapProjection(cap=1e9, floor=-1e9), direction=direction),
    ]
    for request in nothing:
        with intervene(model, [request]):
            assert torch.equal(model.logits(tokens), plain), request.operation
    with intervene(model, nothing):
        assert torch.equal(model.logits(tokens), plain)
        text = model.generate("the dog", 8)
    assert text == model.generate("the dog", 8)


def test_amounts_in_a_latents_own_units(
    tiny_lm: LanguageModel, sae: SAE, common: list[int]
) -> None:
    references = torch.arange(256.0)
    found = in_units_of({4: -2.0, 100: 0.5}, references)
    assert found == {4: -8.0, 100: 50.0}
    with pytest.raises(ConfigError, match="never fired"):
        in_units_of({0: 1.0}, references)
    with pytest.raises(ConfigError, match="0 to 255"):
        in_units_of({256: 1.0}, references)


def test_resampled_activations_come_from_the_given_rows_and_depend_on_the_token_alone(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, common: list[int]
) -> None:
    values = torch.rand(50, 2, generator=torch.Generator().manual_seed(2)) + 1
    x = rows(tiny_lm, tokens)
    old = sae.encode(x).dense()[:, common]
    change = under(tiny_lm, tokens, Request(Resample(common, values), sae=sae)) - x
    # Two decoder rows are independent, so the change tells both activations.
    new = old + torch.linalg.lstsq(sae.W_dec[common].T, change.T).solution.T
    nearest = (new.unsqueeze(1) - values).abs().amax(-1).min(1)
    assert nearest.values.max() < 1e-4
    assert len(set(nearest.indices.tolist())) > 5
    other = under(tiny_lm, tokens, Request(Resample(common, values, seed=1), sae=sae)) - x
    assert not torch.allclose(other, change, atol=1e-2)
    alone = tiny_lm.tokenize(["the little dog ran over the big tree"])
    n = int(alone.content.sum())
    single = under(tiny_lm, alone, Request(Resample(common, values), sae=sae))
    assert torch.allclose(single, (x + change)[:n], atol=1e-5)
    with ablate(tiny_lm, sae, common, mode="resample", values=values):
        texts = [tiny_lm.generate("the dog", 8, use_cache=cache) for cache in (True, False)]
    assert texts[0] == texts[1]


def test_draws_are_spread_evenly() -> None:
    from saetools.intervene.operations.resample import _draws

    place, token = torch.arange(300).repeat(40), torch.arange(40).repeat_interleave(300)
    counts = torch.bincount(_draws(place, token, 0, 12), minlength=12)
    assert counts.sum() == 12000
    assert (counts.float() / 1000 - 1).abs().max() < 0.12  # four standard deviations


def test_requests_at_one_hook_happen_in_their_order(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, common: list[int]
) -> None:
    latent = common[0]
    raise_it = Request(Add({latent: 30.0}), sae=sae)
    double = Request(Scale({latent: 2.0}), sae=sae)
    x = rows(tiny_lm, tokens)
    one_way = under(tiny_lm, tokens, raise_it, double)
    raised = x + 30 * sae.W_dec[latent]
    expected = raised + sae.encode(raised).dense()[:, [latent]] * sae.W_dec[latent]
    assert torch.allclose(one_way, expected, atol=1e-4)
    assert not torch.allclose(under(tiny_lm, tokens, double, raise_it), one_way, atol=1.0)
    with intervene(tiny_lm, [raise_it]), intervene(tiny_lm, [double]):
        nested = rows(tiny_lm, tokens)
    assert torch.equal(nested, one_way)


def test_two_additions_are_their_sum_and_layers_add_up(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch
) -> None:
    both = under(tiny_lm, tokens, Request(Add({5: 3.0}), sae=sae), Request(Add({9: 2.0}), sae=sae))
    with steer(tiny_lm, sae, {5: 3.0, 9: 2.0}):
        at_once = rows(tiny_lm, tokens)
    assert torch.allclose(both, at_once, atol=1e-5)
    later = build_sae(
        "topk", d_in=64, n_latents=32, k=4, meta={"hook_name": "resid_post.2"}, seed=3
    )
    requests = [Request(Add({5: 3.0}), sae=sae), Request(Add({7: 4.0}), sae=later)]
    third = "blocks.2.hook_resid_post"
    with steer(tiny_lm, sae, {5: 3.0}):
        lower_only = rows(tiny_lm, tokens, third)
    with intervene(tiny_lm, requests) as (first, second):
        assert torch.allclose(
            rows(tiny_lm, tokens, third), lower_only + 4 * later.W_dec[7], atol=1e-5
        )
    assert (first.hook_name, second.hook_name) == (HOOK, third)
    assert first.n_tokens == second.n_tokens == int(tokens.content.sum())


def test_contradictory_requests_are_named(
    tiny_lm: LanguageModel, sae: SAE, direction: Direction
) -> None:
    def fails(*requests: Request) -> None:
        with pytest.raises(ConfigError, match=r"requests 1 .* and 2 .* both fix"):
            intervene(tiny_lm, requests).__enter__()

    fails(Request(Clamp({5: 3.0}), sae=sae), Request(Zero([5, 6]), sae=sae))
    fails(Request(Mean({5: 3.0}), sae=sae), Request(Clamp({5: 2.0}), sae=sae, positions="last"))
    fails(
        Request(SetProjection(1.0), direction=direction),
        Request(SetProjection(2.0), direction=direction),
    )
    fine = [
        (Request(Clamp({5: 3.0}), sae=sae), Request(Clamp({5: 3.0}), sae=sae)),
        (Request(Clamp({5: 3.0}), sae=sae), Request(Zero([6]), sae=sae)),
        (
            Request(Clamp({5: 3.0}), sae=sae, positions="prompt"),
            Request(Zero([5]), sae=sae, positions="generated"),
        ),
    ]
    for requests in fine:
        with intervene(tiny_lm, requests):
            pass


def test_what_does_not_fit_is_refused_with_a_sentence(
    tiny_lm: LanguageModel, sae: SAE, direction: Direction
) -> None:
    with pytest.raises(ConfigError, match="give sae="):
        Request(Zero([1]), direction=direction)
    with pytest.raises(ConfigError, match="give direction="):
        Request(ProjectOut(), sae=sae)
    bad: list[tuple[type[Exception], str, Request]] = [
        (UnknownNameError, "latent 256 .* 0 to 255", Request(Zero([256]), sae=sae)),
        (
            ShapeError,
            "width 3",
            Request(ProjectOut(), direction=Direction([1.0, 2.0, 3.0]), hook_name="resid_post.1"),
        ),
        (ConfigError, "hook_name=", Request(ProjectOut(), direction=Direction(torch.ones(64)))),
    ]
    for kind, message, request in bad:
        with pytest.raises(kind, match=message), intervene(tiny_lm, [request]):
            pass
    with pytest.raises(ConfigError, match="not finite"):
        Add({3: float("nan")})
    with pytest.raises(ConfigError, match="number for each latent"):
        Clamp([3, 4])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="column for each"):
        Resample([1, 2], torch.ones(4, 3))
    with pytest.raises(ConfigError, match="zero"):
        Direction(torch.zeros(4))
    with pytest.raises(ConfigError, match="floor"):
        CapProjection(cap=1.0, floor=2.0)


def test_every_operation_is_found_by_its_files_name() -> None:
    assert len(OPERATIONS.names()) == 10
    for name in OPERATIONS.names():
        assert OPERATIONS.get(name).type == name
