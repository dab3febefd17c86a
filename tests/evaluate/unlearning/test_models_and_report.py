"""Models under intervention count as edited, are never changed, and lack what they lack openly."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import saetools as st
from saetools.corpus import Question
from saetools.errors import ConfigError, FormatError, UnknownNameError
from saetools.evaluate.unlearning import (
    TextSpan,
    UnlearningData,
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
    intervened,
    neighbours_of,
    random_edit,
    trainable_copy,
)

QUICK = UnlearningSettings(measures=("efficacy", "utility", "residue", "edit_norm"), n_draws=50)
TOWNS = (" Ulm", " Oslo")


def silenced(model):
    """An intervention that wipes the last layer's residual stream."""
    return lambda: model.editing({"resid_post.1": lambda x, content: torch.zeros_like(x)})


def test_an_intervention_counts_in_every_score(original, data) -> None:
    edited = intervened(original, silenced(original))
    report = evaluate_unlearning(edited, original=original, data=data, settings=QUICK)
    assert report.row("efficacy").value > 0.8
    assert report.row("utility").value < 0.1
    assert report.row("n_changed").value == 0
    probed = [report.curve(f"probe logistic {model}") for model in ("edited", "original")]
    assert probed[0] is not None
    assert probed[1] is not None
    assert probed[0].y[0] == probed[1].y[0]  # layer 0 is as it was,
    assert probed[0].y[1] < probed[1].y[1] - 0.15  # layer 1 is wiped
    # Nothing stays open.
    assert evaluate_unlearning(original, original=original, data=data, settings=QUICK).row(
        "efficacy"
    ).value == pytest.approx(0)


def test_a_block_around_a_separate_model_counts_too(original, world, trained, data) -> None:
    other = trained("original", world.retain + world.forget, 1)
    if other.hf is original.hf:
        pytest.skip("the loader returned one module twice")
    with silenced(other)():
        report = evaluate_unlearning(other, original=original, data=data, settings=QUICK)
    assert report.row("efficacy").value > 0.8


def test_a_block_that_would_edit_both_sides_is_refused(original, data) -> None:
    with silenced(original)(), pytest.raises(ConfigError, match="intervened"):
        evaluate_unlearning(original, original=original, data=data, settings=QUICK)


def test_a_copy_learns_and_the_model_stays(original) -> None:
    tokens = original.tokenize(["Ar ban lives in Ulm ."])
    before, weights = original.logits(tokens), original.fingerprint
    copy = trainable_copy(original)
    assert torch.equal(copy.logits(tokens).detach(), before)
    optimizer = torch.optim.SGD(copy.trained(), lr=0.1)
    copy.logits(tokens).square().mean().backward()
    optimizer.step()
    assert not torch.allclose(copy.logits(tokens), before)
    assert torch.equal(original.logits(tokens), before)
    assert original.fingerprint == weights
    assert all(weight.grad is None for weight in original.hf.parameters())


def test_a_copy_is_trained_through_the_intervention(original) -> None:
    tokens = original.tokenize(["Ar ban lives in Ulm ."])
    halved = lambda: original.editing({"resid_post.0": lambda x, content: x / 2})  # noqa: E731
    copy = trainable_copy(intervened(original, halved))
    with halved():
        wanted = original.logits(tokens)
    got = copy.logits(tokens)
    assert torch.allclose(got, wanted, atol=1e-5)
    assert not torch.allclose(got, original.logits(tokens), atol=0.1)
    got.square().mean().backward()
    assert all(weight.grad is not None for weight in copy.trained())


def test_without_an_oracle_the_score_is_not_given(original, data) -> None:
    settings = UnlearningSettings(n_draws=20, generate={"n_texts": 5})
    other = intervened(original, silenced(original))
    data = UnlearningData(data.forget, data.retain[:60], texts=data.texts)
    report = evaluate_unlearning(other, original=original, data=data, settings=settings)
    assert set(report.missing) >= {
        "relearn_resistance",
        "forget_quality",
        "kl_to_oracle",
        "privacy_leak",
        "verbatim",
    }
    assert "pass oracles=" in report.missing["relearn_resistance"]
    assert "no forget_texts" in report.missing["privacy_leak"]
    if report.score is None:
        assert "relearn_resistance" in report.missing["score"]
        assert report.row("partial_score").value > 0
    else:
        assert report.score == 0


def test_what_was_not_asked_for_is_said_to_be_missing(original, data) -> None:
    report = evaluate_unlearning(original, original=original, data=data, settings=QUICK)
    assert report.missing["in_context"] == "not asked for"
    assert report.score is not None  # E is 0, whatever else
    with pytest.raises(UnknownNameError, match="not asked for"):
        report.row("in_context")
    wrong = UnlearningSettings(measures=("efficiency",))
    with pytest.raises(UnknownNameError, match="nearest: efficacy"):
        evaluate_unlearning(original, original=original, data=data, settings=wrong)


def test_the_same_seed_gives_the_same_report(original, oracles, data) -> None:
    settings = UnlearningSettings(
        measures=("efficacy", "residue", "relearn_resistance"),
        n_draws=20,
        relearn={"n_steps": 5, "every": 5},
        probe={"layers": (1,), "max_rows": 100},
    )

    def report() -> UnlearningReport:
        return evaluate_unlearning(
            oracles[0], original=original, oracles=oracles[1:2], data=data, settings=settings
        )

    first, second = report(), report()
    assert repr(first.rows) == repr(second.rows)  # NaN is not equal to itself
    assert first.curves == second.curves


def test_a_report_survives_the_disk(original, oracles, data, tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"measures": ("efficacy", "relearn_resistance")})
    report = evaluate_unlearning(
        oracles[0], original=original, oracles=oracles[1:2], data=data, settings=settings
    )
    assert report.row("relearning_steps").value == float("inf")
    path = report.save(tmp_path / "report.json")
    loaded = UnlearningReport.load(path)
    assert repr(loaded.rows) == repr(report.rows)
    assert loaded.curves == report.curves
    assert loaded.missing == report.missing
    text = json.loads(path.read_text())
    assert text["format"] == "saetools-unlearning/1"
    assert text["about"]["n_forget_entities"] == 8
    path.write_text(path.read_text().replace('"low"', '"lowest"', 1))
    with pytest.raises(FormatError, match="damaged"):
        UnlearningReport.load(path)


def test_a_report_shows_every_figure(original, data) -> None:
    report = evaluate_unlearning(original, original=original, data=data, settings=QUICK)
    out = StringIO()
    Console(file=out, width=200).print(report.table())
    shown = out.getvalue()
    page = report._repr_html_()
    for row in report.rows:
        assert row.name in shown
        assert row.name in page
    assert "in_context: not asked for" in page


def test_neighbours_share_an_attribute_with_what_is_forgotten() -> None:
    forget = (Question("Zed lives in", " Ulm", TOWNS, "Zed", "town"),)
    near = Question("Om lives in", " Ulm", TOWNS, "Om", "town")
    far = Question("Om keeps a", " cat", (" cat",), "Om", "pet")
    assert neighbours_of(forget, (near, far)) == (near,)
    assert UnlearningData(forget, (near, far)).near == (near,)
    assert UnlearningData(forget, (near, far), neighbours=(far,)).near == (far,)


def test_data_that_contradict_themselves_are_refused() -> None:
    question = Question("Zed lives in", " Ulm", TOWNS, "Zed", "town")
    with pytest.raises(ConfigError, match="at least one question"):
        UnlearningData(())
    with pytest.raises(ConfigError, match="to be forgotten and to be kept"):
        UnlearningData((question,), (question,))


def test_a_random_edit_is_as_large_as_the_edit(original, oracles, data) -> None:
    control = random_edit(original, oracles[1], seed=3)
    settings = UnlearningSettings(measures=("edit_norm",))

    def norm(edited) -> float:
        report = evaluate_unlearning(edited, original=original, data=data, settings=settings)
        return report.row("edit_norm").value

    assert norm(control) == pytest.approx(norm(oracles[1]), rel=1e-4)
    assert random_edit(original, oracles[1], seed=3).fingerprint == control.fingerprint
    assert random_edit(original, oracles[1], seed=4).fingerprint != control.fingerprint
    with pytest.raises(ConfigError, match="random latents"):
        random_edit(original, intervened(original, silenced(original)))


def test_tokens_are_classed_by_given_spans_or_by_names(original, oracles, data) -> None:
    name = data.forget[0].entity
    text = f"a child looks at a gate . {name} lives in Ulm ."
    settings = UnlearningSettings(measures=("kl_to_oracle",), n_draws=20)

    def kl_elsewhere(spans: tuple[TextSpan, ...] | None) -> float:
        report = evaluate_unlearning(
            original,
            original=original,
            oracles=oracles[:1],
            data=UnlearningData(data.forget[:1], texts=(text,), spans=spans),
            settings=settings,
        )
        return report.row("kl_to_oracle", detail="unrelated").value

    named = text.index(name)
    by_name = kl_elsewhere(None)
    assert kl_elsewhere((TextSpan(0, named, len(text), "concept"),)) == by_name
    # Without a span the sentence about the forgotten person counts as unrelated text.
    assert kl_elsewhere(()) != by_name


def test_retain_questions_are_asked_up_to_their_number(original, data) -> None:
    settings = UnlearningSettings(measures=("accuracy",), n_questions=30, n_draws=20)
    report = evaluate_unlearning(original, original=original, data=data, settings=settings)
    assert report.about["n_retain_questions"] == 288
    assert report.about["n_retain_questions_asked"] == 30


def test_ablated_latents_are_evaluated_and_relearned_through(
    original, oracles, data, identity_sae
) -> None:
    sae = identity_sae(original.d_model, hook_name="blocks.1.hook_resid_post")
    # Half of all coordinates, both signs: the answer loses much of what carries it.
    latents = [*range(32), *range(64, 96)]
    edited = intervened(original, lambda: st.ablate(original, sae, latents))
    settings = UnlearningSettings(
        measures=("efficacy", "relearn_resistance", "edit_norm"),
        relearn={"lr": 3e-4, "n_steps": 4, "every": 2},
        n_draws=20,
    )
    before = original.fingerprint
    report = evaluate_unlearning(
        edited, original=original, oracles=oracles[:1], data=data, settings=settings
    )
    assert report.row("efficacy").value > 0
    assert report.row("n_changed").value == 0
    curve = report.curve("relearning edited")
    assert curve is not None
    assert len(curve.y) == 3
    assert original.fingerprint == before
    assert all(weight.grad is None for weight in sae.parameters())
