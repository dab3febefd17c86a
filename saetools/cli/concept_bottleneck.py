"""A run's concept bottleneck: fit and score it, and explain what it says of a text."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from saetools.cli.concept_texts import names_of, one_label
from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # types only: `--help` must not pay for torch
    import numpy as np
    import numpy.typing as npt

    from saetools.evaluate.bottleneck import Explanation, HeadComparison
    from saetools.evaluate.concept_search import Pooling, TextFeatures

__all__ = ["run_bottleneck", "run_explain"]

_BOTTLENECK = "bottleneck"
_TEST_SHARE = 0.3


def run_bottleneck(
    run: RunFolder,
    *,
    texts: Path | None = None,
    min_docs: int = 40,
    pooling: Literal["max", "mean"] = "max",
) -> Outcome:
    """Fit and score a bottleneck on a run's documents, or on a file of labelled texts."""
    from saetools.evaluate.bottleneck import compare_heads  # heavy: torch

    features, labels, held_out = _labelled(run, texts, min_docs, pooling)
    compared = compare_heads(
        features, labels, held_out=held_out, names=names_of(run), seed=run.config.seed
    )
    folder = compared.bottleneck.save(run.path / _BOTTLENECK)
    compared.save(folder / "report.json")
    return _compared(compared, run, folder)


def run_explain(
    run: RunFolder,
    text: str,
    *,
    of: str | None = None,
    against: str | None = None,
    set_to: Mapping[int | str, float] | None = None,
) -> Outcome:
    """Explain the bottleneck's prediction for one text."""
    # heavy: torch
    from saetools.evaluate.bottleneck import ConceptBottleneck
    from saetools.evaluate.concept_search import pool_features

    folder = run.path / _BOTTLENECK
    if not folder.is_dir():
        raise ConfigError(
            f"there is no bottleneck in {run.path}; run `saetools concept bottleneck {run.path}`"
        )
    fitted = ConceptBottleneck.load(folder)
    pooling: Literal["max", "mean"] = "max" if fitted.pooling == "max" else "mean"
    features = pool_features(
        run.model, run.sae(), [text], pooling=pooling, ctx_len=run.config.harvest.ctx_len
    )
    if not len(features):
        raise ConfigError(f"{text!r} has no token to classify it by")
    told = fitted.explain(features, of=of, against=against)
    figures: dict[str, object] = {
        "predicted": told.predicted,
        "probability": told.probability,
        f"score of {told.of}": told.logit,
    }
    if set_to:
        after = fitted.intervene(features, 0, set_to)
        figures |= {"predicted then": after.predicted[1], "probability then": after.after.max()}
        figures |= {"not read": ", ".join(map(str, after.unused))} if after.unused else {}
    return Outcome(f"explained {text[:60]!r}", figures, table=_contributions(told))


def _labelled(
    run: RunFolder, texts: Path | None, min_docs: int, pooling: "Pooling"
) -> "tuple[TextFeatures, list[str], npt.NDArray[np.bool_]]":
    """Pooled texts of frequent labels, their labels, and which of them are held out."""
    # heavy: torch
    import numpy as np

    from saetools.corpus import held_out
    from saetools.evaluate.concept_search import pool_features, store_features

    with run.store() as store:
        if texts is None:
            labels, kept_out = list(store.labels), np.asarray(store.held_out)
        else:
            contents, labels = one_label(texts)
            kept_out = held_out(len(labels), fraction=_TEST_SHARE, seed=run.config.seed)
        sizes = Counter(name for name, out in zip(labels, kept_out, strict=True) if not out)
        frequent = [name is not None and sizes[name] >= min_docs for name in labels]
        docs = np.flatnonzero(frequent).astype(np.int64)
        if len({labels[i] for i in docs}) < 2:
            raise ConfigError(
                f"a bottleneck tells two labels or more with {min_docs} texts each apart; the "
                f"largest have {sizes.most_common(3)}; give --min-docs or --texts FILE"
            )
        if texts is None:
            features = store_features(run.sae(), store, docs, pooling=pooling)
            at = features.place
        else:
            features = pool_features(
                run.model,
                run.sae(),
                [contents[i] for i in docs],
                pooling=pooling,
                ctx_len=run.config.harvest.ctx_len,
            )
            at = docs[features.place]
    return features, [str(labels[i]) for i in at], kept_out[at]


def _compared(compared: "HeadComparison", run: RunFolder, folder: Path) -> Outcome:
    scores = {"bottleneck": compared.latents, "raw head": compared.raw}
    return Outcome(
        title=f"classified {len(compared.bottleneck.classes)} labels by named latents",
        figures={
            "documents to learn from, held out": f"{compared.n_train:,}, {compared.n_held_out:,}",
            "most frequent class alone": compared.majority,
        },
        table=[
            {
                "head": name,
                "units": s.n_units,
                "accuracy": s.accuracy,
                "low": s.accuracy_low,
                "high": s.accuracy_high,
                "balanced": s.balanced,
            }
            for name, s in scores.items()
        ],
        text=compared.verdict,
        wrote=(folder,),
        next=f'saetools concept explain {run.path} --text "..."',
    )


def _contributions(told: "Explanation") -> list[dict[str, object]]:
    return [
        {
            "latent": c.latent,
            "name": c.name,
            "activation": c.activation,
            "weight": c.weight,
            "adds": c.value,
        }
        for c in told.contributions
    ]
