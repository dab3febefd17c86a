"""Headline figures and facts: which of the many numbers a reader should see first, and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from saetools.analysis import LatentIndex
from saetools.evaluate import EvaluationReport
from saetools.sae import SAE

__all__ = ["arch_label", "evaluation_rows", "facts", "headline", "label_of", "training_rows"]

_FIRST = (
    "fvu",
    "l0",
    "dead_fraction",
    "loss_recovered_zero",
    "loss_recovered_mean",
    "embedding_cosine",
    "embedding_recovered",
    "neighbour_overlap",
    "cosine",
)
_LABELS = {
    "kl": "KL",
    "lr": "Learning rate",
    "loss_recovered_zero": "Loss recovered (from zero)",
    "loss_recovered_mean": "Loss recovered (from mean)",
    "n_tokens": "Tokens",
}
_ARCHS = {
    "topk": "TopK",
    "batch_topk": "BatchTopK",
    "hierarchical_topk": "Hierarchical TopK",
    "jumprelu": "JumpReLU",
}
_CAPITALS = {
    name: name.upper()
    for name in ("auroc", "ce", "fvu", "kl", "l0", "mrr", "nmse", "ravel", "scr", "tpp")
}
_N_HEADLINE = 6
_LAST_STEP = {
    "fvu": ("FVU", "Fraction of variance unexplained on the last training batches.", "lower"),
    "l0": ("L0", "Active latents a token, on the last training batches.", None),
    "dead_fraction": (
        "Dead fraction",
        "Latents that no longer fired at the last step.",
        "lower",
    ),
}

Row = dict[str, Any]


def label_of(name: str) -> str:
    """A figure's name as a heading: `norm_ratio` becomes `Norm ratio`, `ce_clean` `CE clean`."""
    if name in _LABELS:
        return _LABELS[name]
    first, *rest = name.split("_")
    spelled = (_CAPITALS.get(word, word) for word in rest)
    return " ".join([_CAPITALS.get(first, first.capitalize()), *spelled])


def arch_label(name: str) -> str:
    """An architecture's name as people write it: `batch_topk` becomes `BatchTopK`."""
    return _ARCHS.get(name, label_of(name))


def evaluation_rows(report: EvaluationReport) -> list[Row]:
    """All figures of a report with their meaning, in its order."""
    return [
        {
            "name": row.figure.name,
            "label": label_of(row.figure.name),
            "value": row.value,
            "stderr": row.stderr,
            "meaning": _sentence(row.figure.meaning),
            "direction": None if row.figure.direction == "none" else row.figure.direction,
        }
        for row in report.rows
    ]


def training_rows(last_step: Mapping[str, Any]) -> list[Row]:
    """Figures of the last training step, for a page without an evaluation."""
    return [
        {
            "name": name,
            "label": label,
            "value": last_step[name],
            "meaning": meaning,
            "direction": direction,
        }
        for name, (label, meaning, direction) in _LAST_STEP.items()
        if isinstance(last_step.get(name), int | float)
    ]


def headline(rows: Sequence[Row]) -> list[Row]:
    """The figures to show large, at most six, most telling first."""
    by_name = {row["name"]: row for row in rows}
    first = [by_name[name] for name in _FIRST if name in by_name]
    return first[:_N_HEADLINE]


def facts(
    index: LatentIndex, sae: SAE | None, evaluation: EvaluationReport | None
) -> list[tuple[str, str]]:
    """What was trained on what, as pairs of a heading and a value; unknown ones are left out."""
    config = index.source.get("sae", {})
    store = index.source.get("store", {})
    trained = None if sae is None else sae.meta.get("trained_tokens")
    pairs = [
        ("Model", store.get("model", {}).get("name")),
        ("Hook", index.hook_name),
        ("SAE", arch_label(config["type"]) if "type" in config else None),
        ("Latents", f"{index.n_latents:,}"),
        ("k", config.get("k")),
        ("Width of the activation", config.get("d_in")),
        ("Corpus", store.get("corpus", {}).get("name")),
        ("Tokens trained on", None if trained is None else f"{trained:,}"),
        ("Tokens indexed", f"{index.n_tokens:,}"),
        ("Evaluated on", None if evaluation is None else _evaluated_on(evaluation.about)),
    ]
    return [(heading, str(value)) for heading, value in pairs if value is not None]


def _evaluated_on(about: Mapping[str, Any]) -> str | None:
    split = {"held_out": "held-out ", "train": "training ", "all": ""}.get(about.get("split", ""))
    return None if split is None else f"{about['n_docs']:,} {split}documents"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
