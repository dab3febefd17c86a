"""A calibrated condition fires on its targets and lets the others pass."""

import pytest
import torch

from saetools.errors import ConfigError
from saetools.intervene import EditSizeTrigger, ProbeTrigger, Scale, ablate
from saetools.intervene.calibrate import calibrate, text_statistics
from saetools.models.base import LanguageModel
from saetools.sae import SAE, build_sae

HOOK = "blocks.0.hook_resid_post"
SEEN = ["the dog ran", "a dog said no", "her big dog", "we play with the dog", "no dog for you"]
UNSEEN = ["she saw a dog", "the dog"]
OTHERS = ["the girl ran", "a tree by the water", "her big house", "we play with you", "no story"]
NEW_OTHERS = ["a fish in the water", "two friends", "the king was happy", "one more time"]


@pytest.fixture(scope="module")
def dog_sae(tiny_lm: LanguageModel) -> SAE:
    """An SAE whose first latent fires on the word "dog" and whose others are random."""
    dog = int(tiny_lm.tokenizer.encode(" dog", add_special_tokens=False)[0])
    tokens = tiny_lm.tokenize([*SEEN, *OTHERS])
    x = tiny_lm.activations(tokens, [HOOK])[HOOK]
    is_dog = tokens.ids == dog
    probe = ProbeTrigger.fitted(x[is_dog], x[tokens.content & ~is_dog])
    sae = build_sae("topk", d_in=64, n_latents=64, k=64, meta={"hook_name": HOOK})
    weight = torch.as_tensor(probe.weight)
    with torch.no_grad():
        sae.W_enc_rows[0] = weight / weight.norm()
        sae.W_dec[0] = weight / weight.norm()
        sae.b_enc[0] = probe.bias / weight.norm()
    return sae


def test_an_edit_size_tells_new_targets_from_new_others(
    tiny_lm: LanguageModel, dog_sae: SAE
) -> None:
    trigger = EditSizeTrigger(dog_sae, Scale({0: -8.0}))
    found = calibrate(tiny_lm, trigger, targets=SEEN, others=OTHERS)
    assert found.targets_met_fraction == 1
    assert found.others_met_fraction == 0
    assert found.auroc == 1
    assert "met by 100.0% of 5 target texts and 0.0% of 5 others" in str(found)
    plain = tiny_lm.logits(tiny_lm.tokenize(NEW_OTHERS))
    with ablate(tiny_lm, dog_sae, [0], when=found.condition) as probe:
        assert torch.equal(tiny_lm.logits(tiny_lm.tokenize(NEW_OTHERS)), plain)
        others = probe.summary().fired
        tiny_lm.logits(tiny_lm.tokenize(UNSEEN))
        both = probe.summary().fired
    assert others is not None
    assert both is not None
    assert (others.n_texts, others.n_texts_met) == (4, 0)
    assert (both.n_texts, both.n_texts_met) == (6, 2)


@pytest.mark.parametrize("statistic", ["max", "mean", "fraction"])
def test_the_threshold_lies_just_below_the_quantile_of_the_targets(
    tiny_lm: LanguageModel, dog_sae: SAE, statistic: str
) -> None:
    trigger = EditSizeTrigger(dog_sae, Scale({0: -8.0}))
    scores = text_statistics(tiny_lm, trigger, SEEN, statistic=statistic)  # type: ignore[arg-type]
    found = calibrate(
        tiny_lm,
        trigger,
        targets=SEEN,
        others=OTHERS,
        statistic=statistic,
        quantile=0.0,  # type: ignore[arg-type]
    )
    assert found.condition.threshold == pytest.approx(0.99 * float(scores.min()))
    half = calibrate(
        tiny_lm,
        trigger,
        targets=SEEN,
        others=OTHERS,
        statistic=statistic,
        quantile=0.5,  # type: ignore[arg-type]
    )
    assert half.condition.threshold == pytest.approx(0.99 * float(scores.median()))


def test_a_statistic_is_that_of_the_content_tokens(tiny_lm: LanguageModel, dog_sae: SAE) -> None:
    trigger = EditSizeTrigger(dog_sae, Scale({0: -8.0}))
    for i, text in enumerate(SEEN):
        tokens = tiny_lm.tokenize([text])
        x = tiny_lm.activations(tokens, [HOOK])[HOOK][tokens.content]
        wanted = float(trigger.scores(x).double().mean())
        assert float(text_statistics(tiny_lm, trigger, SEEN)[i]) == pytest.approx(wanted, rel=1e-4)


def test_texts_of_both_kinds_are_needed(tiny_lm: LanguageModel, dog_sae: SAE) -> None:
    trigger = EditSizeTrigger(dog_sae, Scale({0: 0.0}))
    with pytest.raises(ConfigError, match="0 others"):
        calibrate(tiny_lm, trigger, targets=SEEN, others=[])
