"""A sweep measures what its figures say, and picks the strength that its limits allow."""

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from saetools.errors import ConfigError
from saetools.intervene import steer
from saetools.intervene.dose import (
    Damage,
    DosePoint,
    DoseResponse,
    _repetition,
    dose_response,
    encoder_dose_response,
)
from saetools.models.base import LanguageModel, TextEncoder
from saetools.sae import SAE, build_sae

NEUTRAL = ["the girl said no to her mother", "we play", "a big tree by the water"]


def made(effects: list[float], kls: list[float], *, strengths: Any = (0, 1, 2, 3)) -> DoseResponse:
    return DoseResponse(
        tuple(
            DosePoint(float(s), effect, {"kl": Damage(kl, 0.1), "perplexity": Damage(9.0)})
            for s, effect, kl in zip(strengths, effects, kls, strict=True)
        )
    )


def test_the_largest_effect_within_the_limits_is_chosen() -> None:
    found = made([0.0, 0.2, 0.5, 0.9], [0.0, 0.02, 0.09, 0.4])
    assert found.usable == (0.0, 1.0, 2.0)
    assert found.chosen == 2.0
    assert "usable from 0 to 2" in found.verdict
    assert "0 -> 0.5 at kl 0.09" in found.verdict


def test_the_gentlest_of_equals_is_chosen_and_no_strength_without_an_effect() -> None:
    assert made([0.1, 0.4, 0.4, 0.4], [0.0, 0.01, 0.02, 0.03]).chosen == 1.0
    none = made([0.4, 0.4, 0.3, 0.2], [0.0, 0.01, 0.02, 0.03])
    assert none.chosen is None
    assert "no usable strength has an effect" in none.verdict


def test_a_negative_strength_is_judged_by_what_it_takes_away() -> None:
    found = made([0.0, 0.3, 0.5, 0.55], [0.09, 0.05, 0.0, 0.05], strengths=(-2, -1, 0, 1))
    assert found.chosen == -2.0
    assert found.usable == (-2.0, -1.0, 0.0, 1.0)


def test_what_lies_beyond_a_broken_strength_is_not_usable() -> None:
    found = made([0.0, 0.1, 0.2, 0.9], [0.0, 0.01, 0.5, 0.05])
    assert found.usable == (0.0, 1.0)
    assert found.chosen == 1.0


def test_the_figures_are_those_that_counting_by_hand_gives(
    tiny_lm: LanguageModel, sae: SAE
) -> None:
    counted: list[list[str]] = []

    def effect(texts: Any) -> float:
        counted.append(list(texts))
        return float(len(counted))

    found = dose_response(
        tiny_lm,
        lambda s: steer(tiny_lm, sae, {7: s}),
        [4.0, 1.0],
        prompts=["the dog", "a girl"],
        neutral=NEUTRAL,
        effect=effect,
        n_tokens=6,
        seed=5,
    )
    assert [p.strength for p in found.points] == [0.0, 1.0, 4.0]
    assert [p.effect for p in found.points] == [1.0, 2.0, 3.0]
    assert found.at_rest.damages["kl"].value == 0
    with steer(tiny_lm, sae, {7: 4.0}):
        texts = [tiny_lm.generate("the dog", 6, temperature=1.0, seed=5)]
        texts.append(tiny_lm.generate("a girl", 6, temperature=1.0, seed=6))
    assert counted[2] == texts
    assert found.points[2].sample == texts[0]
    tokens = tiny_lm.tokenize(NEUTRAL)
    p = tiny_lm.logits(tokens).double().log_softmax(-1)[tokens.content]
    with steer(tiny_lm, sae, {7: 4.0}):
        q = tiny_lm.logits(tokens).double().log_softmax(-1)[tokens.content]
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    assert found.points[2].damages["kl"].value == pytest.approx(kl, rel=1e-4)
    assert found.points[1].damages["kl"].value < kl
    # Sampling differs for the same prompt in another place, so the prompts are told apart.
    assert found.points[0].damages["perplexity"].value > 1


def test_repetition_is_the_share_of_trigrams_that_came_before() -> None:
    assert _repetition([1, 2]) == 0
    assert _repetition([1, 2, 3, 4, 5]) == 0
    assert _repetition([7] * 12) == pytest.approx(0.9)
    assert _repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(0.25)


def test_an_encoder_is_measured_by_its_embeddings(tiny_encoder: TextEncoder) -> None:
    sae = build_sae("topk", d_in=64, n_latents=32, k=4, meta={"hook_name": "resid_post.1"})
    target = tiny_encoder.embed(["the dog"])[0]
    found = encoder_dose_response(
        tiny_encoder,
        lambda s: steer(tiny_encoder, sae, {3: s}),
        [1.0, 50.0],
        neutral=NEUTRAL,
        effect=lambda v: float(torch.cosine_similarity(v, target.unsqueeze(0)).mean()),
    )
    before = tiny_encoder.embed(NEUTRAL)
    with steer(tiny_encoder, sae, {3: 50.0}):
        after = tiny_encoder.embed(NEUTRAL)
    turned = 1 - float(torch.cosine_similarity(before, after).mean())
    losses = [p.damages["cosine_loss"].value for p in found.points]
    assert losses == pytest.approx([0.0, losses[1], turned], abs=1e-5)
    assert losses[1] < turned


def test_a_sweep_is_read_again_as_it_was_and_draws_its_curve(tmp_path: Path) -> None:
    found = made([0.0, 0.2, 0.5, 0.9], [0.0, 0.02, 0.09, math.nan])
    again = DoseResponse.load(found.save(tmp_path / "dose.json"))
    assert again.verdict == found.verdict
    assert again.points[:3] == found.points[:3]
    assert math.isnan(again.points[3].damages["kl"].value)
    root = ElementTree.fromstring(found.svg())
    circles = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(circles) == 4 + 3 + 4  # a figure that is not a number has no place
    assert "limit 0.1" in "".join(root.itertext())
    assert "svg" in found._repr_html_()


def test_a_sweep_of_nothing_is_refused(tiny_lm: LanguageModel) -> None:
    def sweep(strengths: list[float], prompts: list[str]) -> None:
        dose_response(
            tiny_lm,
            lambda s: None,
            strengths,
            prompts=prompts,
            neutral=NEUTRAL,
            effect=len,  # type: ignore[arg-type,return-value]
        )

    for strengths in ([], [0.0], [1.0, math.inf]):
        with pytest.raises(ConfigError, match="finite strengths"):
            sweep(strengths, ["a"])
    with pytest.raises(ConfigError, match="prompts to continue"):
        sweep([1.0], [])
