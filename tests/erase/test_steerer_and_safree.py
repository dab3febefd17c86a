"""The steerer is a vector and SAFREE a rule for single tokens; both on rows with known answers."""

import pytest
import torch

from saetools.erase import LabelledRows, Place, fit_labelled, fit_rows
from saetools.erase.erasers.safree import Safree
from saetools.erase.masked import masked_text
from saetools.errors import ConfigError
from saetools.models.base import TextEncoder
from saetools.testing.concept import PlantedConcept, planted_concept

VARIANTS = ("broadcast", "position", "activation")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_steerer_is_the_identity_at_0_and_linear_in_its_strength(
    planted: PlantedConcept, variant: str
) -> None:
    x, place = planted.rows.x, planted.rows.place

    def steered(strength: float) -> torch.Tensor:
        eraser = fit_labelled(
            "steerer", planted.rows, sae=planted.sae, n_latents=3, variant=variant,
            strength=strength,
        )  # fmt: skip
        return eraser(x, place=place)

    assert torch.equal(steered(0.0), x)
    one, three, back = steered(1.0) - x, steered(3.0) - x, steered(-1.0) - x
    assert one.norm() > 0
    assert torch.allclose(three, 3 * one, atol=1e-5)
    assert torch.allclose(back, -one, atol=1e-5)


def test_one_concept_prompt_gives_the_papers_vectors_place_by_place(
    planted: PlantedConcept,
) -> None:
    g = torch.Generator().manual_seed(0)
    prompt, other = torch.randn(5, 32, generator=g), torch.randn(9, 32, generator=g)
    rows = LabelledRows(
        torch.cat([prompt, other]), torch.tensor([1] * 5 + [0] * 9), torch.tensor([0] * 5 + [1] * 9)
    )
    eraser = fit_labelled("steerer", rows, sae=planted.sae, variant="position", strength=-0.5)
    codes = ((prompt - planted.sae.b_dec) @ planted.sae.W_enc + planted.sae.b_enc).relu()
    place = Place.of_texts(torch.zeros(9, dtype=torch.int64))
    change = eraser(other, place=place) - other
    assert torch.allclose(change[:5], -0.5 * codes @ planted.sae.W_dec, atol=1e-5)
    assert torch.equal(eraser(other, place=place)[5:], other[5:])  # past the prompt's end


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_concept_falls_with_strength_and_neutral_rows_keep_their_direction(
    variant: str,
) -> None:
    planted = planted_concept(n_texts=200, n_concept=1)
    u = planted.sae.W_dec[0]
    # A common direction, as hidden states of real encoders have one.
    mean = planted.rows.x.mean(0)
    base = torch.nn.functional.normalize(mean - u * (mean @ u), dim=0)
    rows = LabelledRows(planted.rows.x + 6 * base, planted.rows.labels, planted.rows.text)
    place, target = rows.place, rows.forget
    at = []
    for strength in (0.0, -0.25, -0.5, -1.0):
        eraser = fit_labelled(
            "steerer", rows, sae=planted.sae, n_latents=1, variant=variant, strength=strength
        )
        at.append(eraser(rows.x, place=place))
    along = [float((x[target] @ u).mean()) for x in at]
    assert along == sorted(along, reverse=True)
    if variant == "activation":
        return  # adds the whole mean, so that all that rows have in common goes as well
    assert along[-1] == pytest.approx(0, abs=0.1 * along[0])
    cosine = torch.cosine_similarity(at[-1][~target], rows.x[~target])
    if variant == "broadcast":
        assert float(cosine.mean()) >= 0.98


def test_plain_activation_addition_moves_neutral_rows_more_than_chosen_latents_do(
    planted: PlantedConcept,
) -> None:
    reports = {
        variant: fit_labelled(
            "steerer", planted.rows, sae=planted.sae, n_latents=3, variant=variant
        ).report
        for variant in VARIANTS
    }
    assert reports["broadcast"].retain_change < 0.7 * reports["activation"].retain_change


def prompts(
    n: int, *, seed: int, toxic: bool, d: int = 64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token rows about a common mean, with one toxic token a text: rows, text, which is toxic."""
    world = torch.Generator().manual_seed(7)
    common, u = torch.linalg.qr(torch.randn(d, 2, generator=world))[0].T
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 12, (n,), generator=g)
    text = torch.arange(n).repeat_interleave(lengths)
    x = 3 * common + torch.randn(len(text), d, generator=g) / d**0.5
    starts = lengths.cumsum(0) - lengths
    hit = starts + (torch.rand(n, generator=g) * lengths).long()
    where = torch.zeros(len(text), dtype=torch.bool)
    if toxic:
        where[hit] = True
        x[hit] = 3 * u + torch.randn(n, d, generator=g) / d**0.5 * 0.3
    return x, text, where


def safree(**config: object) -> Safree:
    world = torch.Generator().manual_seed(7)
    u = torch.linalg.qr(torch.randn(64, 2, generator=world))[0].T[1]
    g = torch.Generator().manual_seed(1)
    phrases = 3 * u + torch.randn(6, 64, generator=g) / 64**0.5 * 0.3
    neutral, text, _ = prompts(40, seed=3, toxic=False)
    eraser = fit_rows(
        "safree",
        torch.cat([phrases, neutral]),
        torch.tensor([1] * 6 + [0] * len(neutral)),
        text=torch.cat([torch.arange(6), text + 6]),
        **config,
    )
    assert isinstance(eraser, Safree)
    return eraser


def test_the_planted_toxic_token_is_the_only_one_flagged() -> None:
    x, text, toxic = prompts(200, seed=5, toxic=True)
    flagged = safree(n_directions=1).triggers(x, Place.of_texts(text))
    wrong = torch.zeros(200).index_add_(0, text, (flagged != toxic).float())
    assert float((wrong == 0).float().mean()) >= 0.95


def test_only_triggers_change_and_they_leave_the_concepts_subspace() -> None:
    x, text, _ = prompts(50, seed=5, toxic=True)
    eraser = safree(n_directions=1)
    place = Place.of_texts(text)
    after, flagged = eraser(x, place=place), eraser.triggers(x, place)
    assert torch.equal(after[~flagged], x[~flagged])
    assert float((after[flagged].double() @ eraser.tensors["basis"]).abs().max()) < 1e-5


def test_alpha_is_calibrated_on_harmless_texts() -> None:
    fixed, calibrated = safree(alpha=0.0), safree(alpha=None, max_flag_fraction=0.02)
    assert fixed.report.figures["share of retain rows flagged"] > 0.2
    assert calibrated.report.figures["share of retain rows flagged"] <= 0.02
    assert float(calibrated.tensors["alpha"]) == calibrated.report.figures["alpha"]


def test_a_text_of_one_token_is_a_trigger_only_if_it_lies_in_the_concept() -> None:
    eraser = safree(n_directions=1)
    x, _, toxic = prompts(30, seed=5, toxic=True)
    alone = eraser.triggers(x, Place.alone(len(x)))
    assert bool(alone[toxic].all())
    assert float(alone[~toxic].float().mean()) < 0.05


def test_many_phrases_do_not_span_everything() -> None:
    x, y = torch.randn(300, 8), torch.arange(300) % 2
    assert fit_rows("safree", x, y, n_directions=3).report.figures["rank"] == 3
    with pytest.raises(ConfigError, match="span all 8"):
        fit_rows("safree", x, y, n_directions=8)


def test_the_papers_rule_masks_each_token_in_the_input(tiny_encoder: TextEncoder) -> None:
    hook = f"blocks.{tiny_encoder.n_layers - 1}.hook_resid_post"
    text = "the little dog ran over the big tree"
    found = masked_text(tiny_encoder, text, hook_name=hook)
    batch = tiny_encoder.tokenize([text])
    content = int(batch.content.sum())
    assert found.x.shape == found.masked.shape == (content, tiny_encoder.d_model)
    ids = batch.ids[0].tolist()
    ids[3] = 0  # the third content token; the tokenizer has no mask token
    changed = type(batch)(torch.tensor([ids]), batch.mask, batch.special)
    rows = tiny_encoder.activations(changed, [hook])[hook][0]
    assert torch.allclose(found.masked[2], rows.mean(0), atol=1e-5)
    g = torch.Generator().manual_seed(0)
    phrases = found.masked.mean(0) + torch.randn(4, tiny_encoder.d_model, generator=g)
    eraser = fit_rows(
        "safree", torch.cat([phrases, found.x]), torch.tensor([1] * 4 + [0] * content),
        n_directions=2,
    )  # fmt: skip
    assert isinstance(eraser, Safree)
    edited, triggers = eraser.edit_text(found.x, found.masked)
    assert torch.equal(edited[~triggers], found.x[~triggers])
    left = edited[triggers].double() @ eraser.tensors["basis"]
    assert bool(triggers.any())
    assert left.abs().max() < 1e-4  # nothing of the concept
