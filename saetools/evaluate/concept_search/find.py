"""Find the latents of a concept from texts that have it and texts that do not.

Latents are ranked, tested and chosen on one part of the texts; every figure of a chosen latent, and
of what it is compared with, comes from the other part.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from saetools.errors import ConfigError, UnknownNameError, nearest
from saetools.evaluate.concept_search.effects import (
    auroc_of_latents,
    class_draws,
    difference_of_latents,
)
from saetools.evaluate.concept_search.features import (
    Pooling,
    TextFeatures,
    pool_features,
    store_features,
)
from saetools.evaluate.concept_search.rank_test import (
    adjusted,
    rank_p_values,
    smallest_p_value,
)
from saetools.evaluate.concept_search.readers import (
    RAW_PROBE,
    compare_readers,
    few_latents,
    held_out_scores,
    score_readers,
)
from saetools.evaluate.concept_search.result import ConceptSearch, Ranking
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["find_concept", "find_label", "search_features"]

Bools = npt.NDArray[np.bool_]
Text = str | Sequence[int]

_log = logging.getLogger(__name__)

_FEW = 8
_LEAST_TRAIN, _LEAST_TEST = 3, 2  # the penalty's folds need three texts of each class
_N_DRAWS = 400
_LATENTS_AT_ONCE = 2048
_SHOWN = 6


def find_concept(
    model: SubjectModel,
    sae: SAE,
    *,
    positive: Sequence[Text],
    negative: Sequence[Text],
    concept: str = "concept",
    pooling: Pooling = "max",
    k: int = 8,
    test_fraction: float = 0.5,
    names: Mapping[int, str] | None = None,
    hook_name: str | None = None,
    ctx_len: int | None = None,
    seed: int = 0,
) -> ConceptSearch:
    """Rank an SAE's latents by how well they tell texts with a concept from texts without it.

        found = find_concept(model, sae, positive=about_the_sea, negative=about_farms)
        found.latents(q=0.05)         # for st.steer or st.ablate

    Args:
        model: language model or text encoder.
        sae: its SAE.
        positive, negative: texts that have the concept, and that do not; equal texts count once.
        concept: what to call it.
        pooling: a text's activation of a latent is the largest or the mean over content tokens.
        k: latents of the sparse probe.
        test_fraction: share of each class that is kept for testing.
        names: names of latents, to show.
        hook_name: where the SAE reads; by default the hook it was trained at.
        ctx_len: tokens of a text that are read, specials included.
        seed: of the split, the resamples and the folds.

    Raises:
        ConfigError: a text is in both classes, or a class has fewer than five texts.
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction lies between 0 and 1; got {test_fraction}")
    up, down, notes = _distinct(positive, negative)
    features = pool_features(
        model, sae, [*up, *down], pooling=pooling, hook_name=hook_name, ctx_len=ctx_len
    )
    member = features.place < len(up)
    return search_features(
        features,
        member,
        held_out=_split(member, test_fraction, seed),
        concept=concept,
        k=k,
        names=names,
        notes=notes,
        seed=seed,
    )


def find_label(
    sae: SAE,
    store: ActivationStore,
    *,
    label: str,
    pooling: Pooling = "max",
    k: int = 8,
    names: Mapping[int, str] | None = None,
    hook_name: str | None = None,
    seed: int = 0,
) -> ConceptSearch:
    """`find_concept` for the documents of one label against those of all others; runs no model.

    Latents are chosen on the store's training documents and reported on its held-out ones.
    Documents without a label are left out.

    Raises:
        UnknownNameError: no document has the label.
        ConfigError: too few documents have it in one of the splits.
    """
    labels = store.labels
    known = {name for name in labels if name is not None}
    if label not in known:
        raise UnknownNameError(
            f"no document of {store.path} has the label '{label}'; nearest: "
            f"{', '.join(nearest(label, known)) or 'there are no labels'}"
        )
    docs = np.array([i for i, name in enumerate(labels) if name is not None], dtype=np.int64)
    features = store_features(sae, store, docs, pooling=pooling, hook_name=hook_name)
    return search_features(
        features,
        np.array([labels[doc] == label for doc in features.place]),
        held_out=np.asarray(store.held_out)[features.place],
        concept=label,
        k=k,
        names=names,
        seed=seed,
    )


def search_features(
    features: TextFeatures,
    positive: Bools,
    *,
    held_out: Bools,
    concept: str = "concept",
    k: int = 8,
    names: Mapping[int, str] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> ConceptSearch:
    """`find_concept` on texts that are pooled already.

    Args:
        positive: which texts have the concept, (n,).
        held_out: which texts are kept for testing, (n,).
    """
    notes = [*notes, *_check(positive, held_out, k)]
    train, test = features.take(~held_out), features.take(held_out)
    order, columns = _rank(train, positive[~held_out])
    if not len(order):
        raise ConfigError(
            f"no latent fires in any of the {len(train)} training texts; is the SAE of this "
            "model and hook?"
        )
    side = positive[held_out]
    draws = class_draws(side, seed=seed, n_draws=_N_DRAWS)
    columns |= _measure(test, side, order, draws)
    scores = held_out_scores(train, positive[~held_out], test, best=int(order[0]), k=k, seed=seed)
    notes += _power(positive[~held_out], len(order))
    for note in notes:
        _log.warning("%s: %s", concept, note)
    best = order[:_SHOWN]
    return ConceptSearch(
        concept=concept,
        pooling=features.pooling,
        n_train=(int(positive[~held_out].sum()), int((~positive[~held_out]).sum())),
        n_held_out=(int(side.sum()), int((~side).sum())),
        n_latents=features.n_latents,
        ranking=Ranking(latent=order, **columns),
        readers=tuple(score_readers(scores, side, draws)),
        few=few_latents(k),
        gap=compare_readers(scores[RAW_PROBE], scores[few_latents(k)], side, draws),
        positive=side,
        shown=np.asarray(test.latents[:, best].todense(), dtype=np.float64),
        names={int(i): names[int(i)] for i in order if int(i) in names} if names else {},
        notes=tuple(notes),
        seed=seed,
    )


def _power(positive: Bools, n_live: int) -> list[str]:
    least = smallest_p_value(positive) * n_live
    if least <= 0.05:
        return []
    return [
        f"so few texts cannot bring a single one of {n_live:,} live latents to q = 0.05 (its least "
        f"q is {min(least, 1):.2g}), only many at once; give more texts"
    ]


def _rank(
    train: TextFeatures, positive: Bools
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """Live latents, best first, and what the training texts say of them."""
    table = train.latents.tocsc()
    table.eliminate_zeros()
    live = np.flatnonzero(np.diff(table.indptr))
    table = table[:, live]
    whole = np.ones((1, len(positive)))
    auroc = auroc_of_latents(table, positive, whole)[0]
    difference = difference_of_latents(table, positive, whole)[0]
    p = rank_p_values(table, positive)
    q = adjusted(p)
    order = np.lexsort((p, -np.abs(auroc - 0.5)))
    return live[order].astype(np.int64), {
        "auroc_train": auroc[order],
        "difference_train": difference[order],
        "p": p[order],
        "q": q[order],
    }


def _measure(
    test: TextFeatures,
    positive: Bools,
    latents: npt.NDArray[np.int64],
    draws: npt.NDArray[np.float64],
) -> dict[str, npt.NDArray[np.float64]]:
    """What the held-out texts say of latents, with intervals over texts."""
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    table = test.latents.tocsc()
    table.eliminate_zeros()
    for start in range(0, len(latents), _LATENTS_AT_ONCE):
        part = table[:, latents[start : start + _LATENTS_AT_ONCE]]
        fires = part.tocsr() != 0
        columns = {
            "auroc": auroc_of_latents(part, positive, draws),
            "difference": difference_of_latents(part, positive, draws),
        }
        for name, values in columns.items():
            low, high = np.quantile(values[1:], [0.025, 0.975], axis=0, method="nearest")
            for key, column in ((name, values[0]), (f"{name}_low", low), (f"{name}_high", high)):
                found.setdefault(key, []).append(column)
        for key, side in (("fires_positive", positive), ("fires_negative", ~positive)):
            share = np.asarray(fires[np.flatnonzero(side)].mean(0)).ravel()
            found.setdefault(key, []).append(share)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def _distinct(
    positive: Sequence[Text], negative: Sequence[Text]
) -> tuple[list[Text], list[Text], list[str]]:
    """Both classes without repetitions, which would tell the held-out texts beforehand."""
    sides, notes = [], []
    for name, texts in (("positive", positive), ("negative", negative)):
        if isinstance(texts, str):
            raise ConfigError(f"{name}= is a list of texts, not one text")
        distinct = {_key(text): text for text in texts}
        if len(distinct) < len(texts):
            n = len(texts) - len(distinct)
            notes.append(f"{n} repeated {name} text{'s' if n > 1 else ''} left out")
        sides.append(distinct)
    both = sides[0].keys() & sides[1].keys()
    if both:
        raise ConfigError(
            f"{len(both)} texts are positive and negative, e.g. {str(min(both, key=str))[:60]!r}; "
            "a text has the concept or has it not"
        )
    return list(sides[0].values()), list(sides[1].values()), notes


def _key(text: Text) -> str | tuple[int, ...]:
    return text if isinstance(text, str) else tuple(text)


def _split(positive: Bools, test_fraction: float, seed: int) -> Bools:
    """Which texts are held out: so large a share of either class."""
    rng = np.random.default_rng([seed, 0xF1D])
    held = np.zeros(len(positive), dtype=bool)
    for side in (positive, ~positive):
        rows = rng.permutation(np.flatnonzero(side))
        most = max(len(rows) - _LEAST_TRAIN, 0)
        held[rows[: min(max(_LEAST_TEST, round(test_fraction * len(rows))), most)]] = True
    return held


def _check(positive: Bools, held_out: Bools, k: int) -> list[str]:
    if k < 1:
        raise ConfigError(f"the sparse probe has at least one latent; got k={k}")
    notes = []
    for name, side in (("with the concept", positive), ("without it", ~positive)):
        n_train, n_test = int((side & ~held_out).sum()), int((side & held_out).sum())
        if n_train < _LEAST_TRAIN or n_test < _LEAST_TEST:
            raise ConfigError(
                f"texts {name}: {n_train} to choose latents on and {n_test} to test them on; at "
                f"least {_LEAST_TRAIN} and {_LEAST_TEST} are needed, and {_FEW} of each to say much"
            )
        if min(n_train, n_test) < _FEW:
            notes.append(
                f"few texts {name}: {n_train} to choose latents on and {n_test} to test them on; "
                "intervals that rest on so few are too narrow"
            )
    return notes
