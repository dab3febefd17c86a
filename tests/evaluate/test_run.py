"""The report: which metrics run, what it remembers, and what it refuses."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saetools.errors import ConfigError, FormatError, ShapeError, UnknownNameError
from saetools.evaluate import (
    METRICS,
    EvaluationReport,
    Figure,
    Findings,
    Metric,
    MetricContext,
    Table,
    evaluate,
)
from saetools.models.base import LanguageModel, TextEncoder
from saetools.sae import SAE, build_sae
from saetools.store import ActivationStore
from saetools.types import SparseLatents

SaeMaker = Callable[..., SAE]


def test_metrics_that_lack_a_model_are_left_out_with_a_logged_reason(
    tiny_store: ActivationStore, identity_sae: SaeMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="saetools.evaluate.run"):
        report = evaluate(identity_sae(16), tiny_store)
    assert {"fvu", "l0", "dead_fraction"} <= report.values.keys()
    of_model = {name for name in METRICS.names() if METRICS.get(name).needs is not None}
    of_labels = {"scr", "separability", "sparse_probing", "tpp"}
    assert set(report.skipped) == of_model | of_labels | {"stability"}
    assert "needs two concepts with 20 texts each" in report.skipped["tpp"]
    assert "no model was given" in caplog.text
    assert "no model was given" in report._repr_html_()


def test_a_metric_asked_for_by_name_must_be_able_to_run(
    tiny_store: ActivationStore,
    tiny_encoder: TextEncoder,
    tiny_lm: LanguageModel,
    identity_sae: SaeMaker,
) -> None:
    sae = identity_sae(16)
    with pytest.raises(ConfigError, match="no model was given"):
        evaluate(sae, tiny_store, metrics=["loss_recovered"])
    with pytest.raises(ConfigError, match="tiny-encoder is a text encoder"):
        evaluate(sae, tiny_store, metrics=["loss_recovered"], model=tiny_encoder)
    with pytest.raises(ConfigError, match="corpus="):
        evaluate(sae, tiny_store, metrics=["loss_recovered"], model=tiny_lm)
    with pytest.raises(UnknownNameError, match="did you mean 'sparsity'"):
        evaluate(sae, tiny_store, metrics=["sparsty"])


def test_saving_and_loading_keeps_every_number_and_word(
    tiny_store: ActivationStore, tmp_path: Path
) -> None:
    sae = build_sae("topk", d_in=16, n_latents=64, k=4)
    report = evaluate(sae, tiny_store, seed=4)
    again = EvaluationReport.load(report.save(tmp_path / "evaluation.json"))
    assert again.values == report.values
    assert again.stderr == report.stderr
    assert again.curves == report.curves
    assert again.skipped == report.skipped
    assert again.about == report.about
    assert [row.figure for row in again.rows] == [row.figure for row in report.rows]


def test_nan_survives_as_json_null(tmp_path: Path, tiny_store: ActivationStore) -> None:
    report = evaluate(build_sae("topk", d_in=16, n_latents=64, k=4), tiny_store)
    text = report.save(tmp_path / "evaluation.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    count = next(
        row for row in EvaluationReport.load(tmp_path / "evaluation.json").rows
        if row.figure.name == "n_tokens"
    )  # fmt: skip
    assert math.isnan(count.stderr), "a count has no error"


def test_tables_and_both_standard_errors_survive_saving(tmp_path: Path) -> None:
    figure = Figure("probe_auroc_k1", "AUROC of a probe", "higher", (0.0, 1.0))
    report = EvaluationReport(
        (figure.measured(0.75, stderr=0.01, stderr_concepts=0.05),),
        tables=(
            Table("pets", "a row a pet", ("pet", "auroc"), (("dog", 0.75), ("cat", math.nan))),
        ),
    )
    path = report.save(tmp_path / "evaluation.json")
    (row,), (table,) = (
        EvaluationReport.load(path).rows, EvaluationReport.load(path).tables
    )  # fmt: skip
    assert (row.stderr, row.stderr_concepts) == (0.01, 0.05)
    assert table.rows[0] == ("dog", 0.75)
    assert math.isnan(float(table.rows[1][1]))
    assert table.cells() == [("dog", "0.75"), ("cat", "")]
    assert "<summary>pets: a row a pet</summary>" in report._repr_html_()


def test_reports_of_before_there_were_tables_are_read(
    tmp_path: Path, tiny_store: ActivationStore
) -> None:
    report = evaluate(build_sae("topk", d_in=16, n_latents=64, k=4), tiny_store)
    path = report.save(tmp_path / "evaluation.json")
    content = json.loads(path.read_text())
    del content["tables"]
    for row in content["rows"]:
        del row["stderr_concepts"]
    path.write_text(json.dumps(content))
    old = EvaluationReport.load(path)
    assert (old.values, old.tables) == (report.values, ())
    assert all(math.isnan(row.stderr_concepts) for row in old.rows)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for text in (
        "{",
        "[]",
        '{"format": "saetools-evaluation/9"}',
        '{"format": "saetools-evaluation/1"}',
    ):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"report\.json"):
            EvaluationReport.load(path)


def test_a_store_of_another_hook_or_width_is_refused(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    with pytest.raises(ConfigError, match=r"blocks\.7\.hook_mlp_out.*blocks\.0\.hook_resid_post"):
        evaluate(identity_sae(16, hook_name="blocks.7.hook_mlp_out"), tiny_store)
    with pytest.raises(ShapeError, match=r"width 12.*width 16"):
        evaluate(identity_sae(12), tiny_store)


def test_an_empty_split_says_what_to_do(
    make_store: Callable[..., ActivationStore], identity_sae: SaeMaker
) -> None:
    store = make_store(torch.randn(64, 16), held_out_fraction=0.0)
    with pytest.raises(ConfigError, match="held_out_fraction"):
        evaluate(identity_sae(16), store)


def test_another_corpus_than_the_stores_is_refused(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    with pytest.raises(ConfigError, match="not the one"):
        evaluate(identity_sae(16), tiny_store, corpus=["only one text"])


def test_two_metrics_cost_one_encoding(tiny_store: ActivationStore) -> None:
    sae = build_sae("topk", d_in=16, n_latents=64, k=4)
    encode, seen = sae.encode, []

    def counted(x: torch.Tensor) -> SparseLatents:
        seen.append(len(x))
        return encode(x)

    sae.encode = counted  # type: ignore[method-assign]
    evaluate(sae, tiny_store, metrics=["reconstruction", "sparsity"])
    assert sum(seen) == tiny_store.held_out.sum() * 16


def test_a_metric_registered_in_a_notebook_runs_like_any_other(
    tiny_store: ActivationStore, identity_sae: SaeMaker
) -> None:
    figure = evaluate(identity_sae(16), tiny_store, metrics=["sparsity"]).rows[0].figure

    @METRICS.register("always_seven")
    class AlwaysSeven(Metric):
        figures = (figure,)

        def compute(self, ctx: MetricContext) -> Findings:
            return Findings((figure.measured(7.0),))

    try:
        report = evaluate(identity_sae(16), tiny_store, metrics=["always_seven"])
        assert report.values == {"l0": 7.0}
    finally:
        METRICS._table.pop("always_seven")


def test_the_table_has_every_figure(tiny_store: ActivationStore, identity_sae: SaeMaker) -> None:
    report = evaluate(identity_sae(16), tiny_store)
    assert report.table().row_count == len(report.rows)
    for row in report.rows:
        assert row.figure.name in report._repr_html_()
