"""Erasers through an SAE: what each does to known latents, and that random ones do not do it."""

import pytest
import torch

from saetools.erase import LabelledRows, Place, apply_rows, fit_labelled, random_control
from saetools.errors import ConfigError
from saetools.evaluate.erasure import ProbeReading, fresh_probe
from saetools.testing.concept import PlantedConcept, exact_sae, planted_concept

CHOOSING = {
    "zero": {},
    "clamp": {},
    "range_suppress": {"width": 3.0},
    "app": {},
    "itd": {},
    "sauce": {},
}


def pooled(x: torch.Tensor, rows: LabelledRows) -> torch.Tensor:
    place = rows.place
    total = torch.zeros(place.n_texts, x.shape[1]).index_add_(0, place.text, x)
    return total / torch.bincount(place.text).unsqueeze(1)


def one_latent(sizes: dict[int, tuple[float, float, int]], *, seed: int = 0) -> LabelledRows:
    """Rows along one direction; class -> (mean, standard deviation, number of rows)."""
    g = torch.Generator().manual_seed(seed)
    x, labels = [], []
    for label, (mean, std, n) in sizes.items():
        value = mean + std * torch.randn(n, generator=g)
        x.append(torch.nn.functional.pad(value.unsqueeze(1), (0, 3)))
        labels += [label] * n
    return LabelledRows(torch.cat(x), torch.tensor(labels), torch.arange(len(labels)))


SAE_OF_ONE = exact_sae(torch.eye(4)[:1], threshold=0.05)
TOY = {"n_latents": 1, "score": "saliency"}


@pytest.mark.parametrize("name", CHOOSING)
def test_the_planted_latents_are_chosen_with_their_evidence(
    name: str, planted: PlantedConcept
) -> None:
    eraser = fit_labelled(name, planted.rows, sae=planted.sae, n_latents=3, **CHOOSING[name])
    assert sorted(eraser.tensors["latents"].tolist()) == [0, 1, 2]
    fires = planted.sae.encode(planted.rows.x).dense() != 0
    counted_by_text = name == "sauce"
    for row in eraser.report.evidence:
        assert row["retain_rate"] == 0
        if not counted_by_text:
            rate = float(fires[planted.rows.forget][:, int(row["latent"])].float().mean())
            assert row["forget_rate"] == pytest.approx(rate, abs=1e-6)


def reading(rows: LabelledRows, x: torch.Tensor, *, n_train: int) -> ProbeReading:
    """What a fresh linear probe on some texts' means reads on the other texts'."""
    means, y = pooled(x, rows).numpy(), rows.text_labels.numpy() > 0
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(2)).numpy()
    train, test = order[:n_train], order[n_train:]
    return fresh_probe(means[train], y[train], means[test], y[test])


@pytest.mark.parametrize("name", CHOOSING)
def test_a_fresh_probe_loses_the_concept_and_random_latents_do_not_do_that(
    name: str, planted: PlantedConcept
) -> None:
    more = planted_concept(n_texts=400, seed=5)
    x = more.rows.x @ more.sae.W_dec.T @ planted.sae.W_dec  # on the directions of `planted`
    rows = LabelledRows(x, more.rows.labels, more.rows.text)
    eraser = fit_labelled(name, planted.rows, sae=planted.sae, n_latents=3, **CHOOSING[name])
    control = random_control(eraser, planted.rows, seed=1)
    sizes = [
        float((apply_rows(edit, planted.rows) - planted.rows.x).norm(dim=1).mean())
        for edit in (eraser, control)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    assert reading(rows, x, n_train=240).accuracy > 0.95
    assert reading(rows, apply_rows(control, rows), n_train=240).accuracy > 0.9
    erased = reading(rows, apply_rows(eraser, rows), n_train=240)
    if name == "clamp":  # what it pushes below zero is read as well as before
        assert erased.accuracy > 0.95
    else:
        assert erased.at_chance, erased


def test_a_clamp_is_a_multiple_of_each_latents_own_99th_percentile(
    planted: PlantedConcept,
) -> None:
    eraser = fit_labelled("clamp", planted.rows, sae=planted.sae, n_latents=3, multiple=2.0)
    z = planted.sae.encode(planted.rows.x).dense()
    after = apply_rows(eraser, planted.rows) @ planted.sae.W_dec.T
    for latent in eraser.tensors["latents"].tolist():
        fires = z[:, latent] != 0
        level = -2 * float(z[fires, latent].quantile(0.99))
        # x · direction is the latent plus what the SAE's error has along it, which is none.
        assert torch.allclose(after[fires, latent], torch.tensor(level), atol=1e-4)
        silent = (after - planted.rows.x @ planted.sae.W_dec.T)[~fires, latent]
        assert silent.abs().max() < 1e-5


def test_a_guarded_clamp_acts_only_in_texts_that_fire_more_than_most() -> None:
    planted = planted_concept()
    x = planted.rows.x.clone()
    x[-8:] += planted.sae.W_dec[0] * (torch.arange(8) == 3).float().unsqueeze(1)  # one stray token
    rows = LabelledRows(x, planted.rows.labels, planted.rows.text)
    eraser = fit_labelled(
        "clamp", rows, sae=planted.sae, n_latents=3, variant="guarded", score="importance",
        max_retain_rate=1.0, gate_percentile=99.0,
    )  # fmt: skip
    changed = (apply_rows(eraser, rows) != x).any(1)
    assert not bool(changed[~rows.forget].any())  # the stray token's text is kept whole
    fires = planted.sae.encode(x).dense()[:, eraser.tensors["latents"]].any(1)
    share = torch.zeros(120).index_add_(0, rows.text, fires.float()) / 8
    passed = share >= eraser.tensors["gate"]
    assert torch.equal(changed, fires & passed[rows.text])
    levels = apply_rows(eraser, rows)[changed] @ planted.sae.W_dec[eraser.tensors["latents"]].T
    assert torch.allclose(levels, eraser.tensors["level"].expand_as(levels), atol=0.05)


def test_a_gate_counts_what_earlier_calls_have_seen(planted: PlantedConcept) -> None:
    eraser = fit_labelled("itd", planted.rows, sae=planted.sae, n_latents=3)
    x = planted.rows.x[planted.rows.forget][:8]
    scores = eraser.scored(x).scores
    best = int(scores.argmax())
    row, first = x[best : best + 1], torch.zeros(1, dtype=torch.int64)

    def after(seen: tuple[float, float]) -> torch.Tensor:
        return eraser(row, place=Place(first, first + 8, torch.tensor([seen])))

    assert not torch.equal(after((float(scores.sum()), 8.0)), row)
    assert torch.equal(after((0.0, 1e6)), row)  # a long text without the concept


@pytest.mark.parametrize("name", ["range_suppress", "app"])
def test_one_concept_goes_and_the_stronger_one_of_the_same_latent_stays(name: str) -> None:
    rows = one_latent({0: (3.0, 0.2, 500), 1: (1.0, 0.2, 500)})
    eraser = fit_labelled(name, rows, sae=SAE_OF_ONE, **TOY)
    after = eraser(rows.x)[:, 0]
    weak, strong = rows.labels == 1, rows.labels == 0
    kept = after / rows.x[:, 0]
    assert float(kept[strong].mean()) >= 0.99
    gone = 1 - kept[weak]
    # Two standard deviations hold 95.4 % of a Gaussian.
    assert float(gone.mean()) > (0.99 if name == "app" else 0.93)
    masked = fit_labelled("zero", rows, sae=SAE_OF_ONE, **TOY)(rows.x)[:, 0]
    assert float(masked.abs().max()) < 1e-5  # full masking loses both


@pytest.mark.parametrize("density", ["kernel", "gaussian"])
def test_where_the_classes_overlap_app_takes_the_prior(density: str) -> None:
    rows = one_latent({0: (2.0, 0.3, 4000), 1: (2.0, 0.3, 4000)})
    eraser = fit_labelled("app", rows, sae=SAE_OF_ONE, prior=0.3, density=density, **TOY)
    inner = (rows.x[:, 0] - 2).abs() < 0.45
    ratio = (eraser(rows.x)[:, 0] / rows.x[:, 0])[inner]
    assert torch.allclose(ratio, torch.tensor(0.7), atol=0.06)


def test_app_of_gaussians_is_the_posterior() -> None:
    rows = one_latent({0: (3.0, 0.5, 20_000), 1: (2.0, 0.5, 20_000)})
    eraser = fit_labelled("app", rows, sae=SAE_OF_ONE, density="gaussian", **TOY)
    at = torch.tensor([1.8, 2.3, 2.5, 2.9])
    x = torch.nn.functional.pad(at.unsqueeze(1), (0, 3))
    odds = torch.exp(-((at - 2) ** 2 - (at - 3) ** 2) / (2 * 0.25))
    assert torch.allclose(eraser(x)[:, 0] / at, 1 - odds / (1 + odds), atol=0.02)


def test_sauce_multiplies(planted: PlantedConcept) -> None:
    eraser = fit_labelled("sauce", planted.rows, sae=planted.sae, n_latents=3, factor=-2.0)
    z, directions = planted.sae.encode(planted.rows.x).dense(), planted.sae.W_dec
    change = (eraser(planted.rows.x) - planted.rows.x) @ directions.T
    assert torch.allclose(change[:, :3], -3 * z[:, :3], atol=1e-4)
    assert change[:, 3:].abs().max() < 1e-4


def test_saliency_alone_takes_latents_that_fire_on_everything() -> None:
    rows = planted_concept()
    x = rows.rows.x + 5 * rows.sae.W_dec[7]
    dense = LabelledRows(x, rows.rows.labels, rows.rows.text)
    for score, expected in (("saliency", True), ("difference", False), ("contrast", False)):
        eraser = fit_labelled("zero", dense, sae=rows.sae, n_latents=3, score=score)
        assert (7 in eraser.tensors["latents"].tolist()) == expected, score


def test_an_empty_selection_says_which_threshold_left_out_what(planted: PlantedConcept) -> None:
    with pytest.raises(ConfigError) as found:
        fit_labelled(
            "clamp", planted.rows, sae=planted.sae, max_retain_rate=0.01, min_forget_rate=0.9
        )
    message = str(found.value)
    assert "min_forget_rate = 0.9: 24" in message
    assert "no latent was selected: of 24" in message
    assert "Loosen what left out most (forget rate below min_forget_rate" in message


def test_a_control_needs_latents(planted: PlantedConcept) -> None:
    plain = fit_labelled("leace", planted.rows)
    with pytest.raises(ConfigError, match="no latents"):
        random_control(plain, planted.rows)
    steerer = fit_labelled("steerer", planted.rows, sae=planted.sae, variant="position")
    with pytest.raises(ConfigError, match="chose no latents"):
        random_control(steerer, planted.rows)
    wide = fit_labelled("zero", planted.rows, sae=planted.sae, n_latents=13, score="saliency")
    with pytest.raises(ConfigError, match="13 other latents"):
        random_control(wide, planted.rows)
