"""A table of scores: by latent and scorer, in all, on disk, and in a notebook."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saetools.errors import FormatError, UnknownNameError
from saetools.naming.scores.base import Score
from saetools.naming.scores.show import scores_html
from saetools.repro import write_json

__all__ = ["FORMAT", "ScoreTable", "Summary"]

FORMAT = "saetools-scores/1"
_DRAWS = 1000


class Summary(NamedTuple):
    """A scorer over all latents that it could score.

    Args:
        scorer: which.
        mean, low, high: mean score and its 95 % interval, latents drawn anew.
        n: latents scored.
        random_name, swapped_name: mean scores of the names of other latents.
        weighted_f1: F1 weighted by firing rate; nan where the scorer has no F1.
        left_out: latents without a score, by reason.
    """

    scorer: str
    mean: float
    low: float
    high: float
    n: int
    random_name: float
    swapped_name: float
    weighted_f1: float
    left_out: Mapping[str, int]


class ScoreTable:
    """Scores of names, one a latent and scorer, by latent, then scorer.

    >>> scores.summary()                                    # doctest: +SKIP
    >>> scores.of(4171, "predicate").value                  # doctest: +SKIP
    """

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._scores = {(score.scorer, score.latent): score for score in scores}

    @property
    def scorers(self) -> list[str]:
        """Scorers in the table, in the order in which they were asked."""
        return list(dict.fromkeys(scorer for scorer, _ in self._scores))

    def of(self, latent: int, scorer: str) -> Score | None:
        """One score, None if that latent was not asked about.

        Raises:
            UnknownNameError: the table has no such scorer.
        """
        self._check(scorer)
        return self._scores.get((scorer, int(latent)))

    def by_scorer(self, scorer: str) -> list[Score]:
        """All scores of one scorer, those without a value included, by latent.

        Raises:
            UnknownNameError: the table has no such scorer.
        """
        self._check(scorer)
        found = [score for (name, _), score in self._scores.items() if name == scorer]
        return sorted(found, key=lambda score: score.latent)

    def columns(self, n_latents: int) -> dict[str, npt.NDArray[np.float32]]:
        """Values by scorer, one for each latent of the dictionary; nan where there is none."""
        out = {s: np.full(n_latents, np.nan, dtype=np.float32) for s in self.scorers}
        for (scorer, latent), score in self._scores.items():
            out[scorer][latent] = score.value
        return out

    def summary(self) -> list[Summary]:
        """One row a scorer."""
        return [_summary(scorer, self.by_scorer(scorer)) for scorer in self.scorers]

    def save(self, path: str | Path) -> Path:
        """Write JSON; a reader of `path` sees the old file or the whole new one."""
        return write_json(path, {"format": FORMAT, "scores": [asdict(score) for score in self]})

    @classmethod
    def load(cls, path: str | Path) -> "ScoreTable":
        """Read what `save` wrote.

        Raises:
            FormatError: no such file, or it is no table of scores of this format.
        """
        path = Path(path)
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FormatError(
                f"there is no table of scores at {path}; `saetools score` writes it"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path} is not JSON ({error}); score the names again") from error
        found = held.get("format") if isinstance(held, dict) else None
        if found != FORMAT:
            raise FormatError(
                f"{path} says format {found!r}; this version reads {FORMAT!r}; score the names "
                "again"
            )
        try:
            return cls(_score(row) for row in held["scores"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} is damaged ({error}); score the names again") from error

    def __len__(self) -> int:
        return len(self._scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self._scores.values())

    def __repr__(self) -> str:
        parts = [f"{row.scorer} {row.mean:.2f} ({row.n:,} latents)" for row in self.summary()]
        return f"ScoreTable({', '.join(parts) or 'no scores'})"

    def _repr_html_(self) -> str:
        return scores_html(
            [
                (row._asdict(), [s for s in self.by_scorer(row.scorer) if _has_value(s)])
                for row in self.summary()
            ]
        )

    def _check(self, scorer: str) -> None:
        if scorer not in self.scorers:
            raise UnknownNameError(
                f"the table has no scores of '{scorer}'; it has {', '.join(self.scorers) or 'none'}"
            )


def _summary(scorer: str, scores: list[Score]) -> Summary:
    told = [score for score in scores if _has_value(score)]
    value = np.array([score.value for score in told])
    low = high = math.nan
    if len(value) > 1:
        rng = np.random.default_rng(0)
        drawn = value[rng.integers(len(value), size=(_DRAWS, len(value)))].mean(1)
        low, high = (float(q) for q in np.quantile(drawn, [0.025, 0.975]))
    left_out: dict[str, int] = {}
    for score in scores:
        if not _has_value(score):
            left_out[score.status] = left_out.get(score.status, 0) + 1
    return Summary(
        scorer,
        _mean(value),
        low,
        high,
        len(told),
        _mean(np.array([score.random_name for score in told])),
        _mean(np.array([score.swapped_name for score in told])),
        _weighted(told),
        left_out,
    )


def _weighted(scores: list[Score]) -> float:
    """Mean F1 weighted by firing rate: what a token drawn from where latents fire would say."""
    pairs = [
        (score.details["f1"], score.firing_rate)
        for score in scores
        if math.isfinite(score.details.get("f1", math.nan))
    ]
    total = sum(rate for _, rate in pairs)
    return sum(f1 * rate for f1, rate in pairs) / total if total > 0 else math.nan


def _mean(values: npt.NDArray[np.float64]) -> float:
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else math.nan


def _has_value(score: Score) -> bool:
    return math.isfinite(score.value)


def _score(row: Mapping[str, Any]) -> Score:
    numbers = {f.name for f in fields(Score) if f.type is float or f.type == "float"}
    cells: dict[str, Any] = {
        k: math.nan if v is None and k in numbers else v for k, v in row.items()
    }
    details = {k: math.nan if v is None else float(v) for k, v in row["details"].items()}
    cells["details"] = details
    return Score(**cells)
