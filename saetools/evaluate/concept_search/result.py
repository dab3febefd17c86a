"""What a search for a concept found: latents with their evidence, and what else reads it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saetools.errors import ConfigError, FormatError
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.concept_search.readers import RAW_PROBE, Reader
from saetools.evaluate.concept_search.show import search_html
from saetools.repro import read_json, write_json

__all__ = ["ConceptSearch", "Effect", "FoundLatent", "Ranking", "Side"]

_FORMAT = "saetools-concept-search/1"

Side = Literal["up", "down", "both"]
"""Latents that fire more with the concept, that fire less, or either."""

Effect = Literal["auroc", "difference"]


@dataclass(frozen=True)
class FoundLatent:
    """What speaks for one latent: on training texts down to `q`, on held-out ones from there.

    Args:
        latent: its number.
        auroc_train: AUROC that it was ranked by.
        difference_train: standardised mean difference of the pooled activation.
        p: two-sided p value of the rank sum.
        q: the same after Benjamini and Hochberg, over all live latents.
        auroc: AUROC; 0.5 is chance, below it the latent speaks against the concept.
        auroc_low, auroc_high: its 95 % interval over texts.
        difference: standardised mean difference.
        difference_low, difference_high: its 95 % interval over texts.
        fires_positive, fires_negative: share of texts of either class in which it fires.
    """

    latent: int
    auroc_train: float
    difference_train: float
    p: float
    q: float
    auroc: float
    auroc_low: float
    auroc_high: float
    difference: float
    difference_low: float
    difference_high: float
    fires_positive: float
    fires_negative: float


@dataclass(frozen=True)
class Ranking:
    """All live latents, best first: the fields of `FoundLatent` as columns, (n_live,) each."""

    latent: npt.NDArray[np.int64]
    auroc_train: Floats
    difference_train: Floats
    p: Floats
    q: Floats
    auroc: Floats
    auroc_low: Floats
    auroc_high: Floats
    difference: Floats
    difference_low: Floats
    difference_high: Floats
    fires_positive: Floats
    fires_negative: Floats

    def __len__(self) -> int:
        return len(self.latent)


@dataclass(frozen=True, repr=False)
class ConceptSearch:
    """The latents of a concept. `find_concept` makes it.

    Args:
        concept: what it is called.
        pooling: how a text's activations of a latent became one number; x is a mean.
        n_train, n_held_out: texts with the concept, and without it.
        n_latents: size of the dictionary.
        ranking: live latents, best first by |AUROC − 0.5| on training texts.
        readers: the best latent, probes of latents and the raw baselines, on held-out texts.
        few: name of the reader that is a probe of k latents.
        gap: AUROC of the raw probe less that of `few`, and its 95 % interval.
        positive: which held-out texts have the concept, (n_held_out,).
        shown: held-out pooled activations of the first latents of the ranking, for the plot.
        names: names of latents, where they were given.
        notes: what to be careful about.
        seed: of the split, the resamples and the folds.
    """

    concept: str
    pooling: str
    n_train: tuple[int, int]
    n_held_out: tuple[int, int]
    n_latents: int
    ranking: Ranking
    readers: tuple[Reader, ...]
    few: str
    gap: tuple[float, float, float]
    positive: npt.NDArray[np.bool_]
    shown: Floats
    names: Mapping[int, str]
    notes: tuple[str, ...] = ()
    seed: int = 0

    def latents(
        self,
        *,
        q: float = 0.05,
        side: Side = "up",
        by: Effect = "auroc",
        most: int | None = None,
    ) -> list[int]:
        """Latents chosen with a share of false discoveries of at most `q`, best first.

        By AUROC, general latents that fire more or less everywhere can come first; the standardised
        difference favours latents that are silent without the concept.

        Args:
            q: bound on the expected share of latents that have nothing to do with the concept.
            side: those that fire more with the concept ("up"), less ("down"), or "both".
            by: training figure that they are ordered by.
            most: how many at most.
        """
        if side not in ("up", "down", "both"):
            raise ConfigError(f"side is 'up', 'down' or 'both', not {side!r}")
        if by not in ("auroc", "difference"):
            raise ConfigError(f"by is 'auroc' or 'difference', not {by!r}")
        kept = self.ranking.q <= q
        if side != "both":
            above = self.ranking.auroc_train > 0.5
            kept &= above if side == "up" else ~above
        rows = np.flatnonzero(kept)
        if by == "difference":
            size = np.abs(self.ranking.difference_train[rows])
            rows = rows[np.argsort(-size, kind="stable")]
        return [int(i) for i in self.ranking.latent[rows][:most]]

    def reader(self, name: str) -> Reader:
        """One of the readers by its name."""
        return next(reader for reader in self.readers if reader.name == name)

    @property
    def verdict(self) -> str:
        """Whether latents read the concept as well as the raw activation, in one sentence."""
        raw, few = self.reader(RAW_PROBE), self.reader(self.few)
        gap, low, high = self.gap
        spelled = f"held-out AUROC {raw.auroc:.3f} against {few.auroc:.3f}"
        if low > 0:
            return (
                f"The raw probe beats the {self.few}: {spelled}, {gap:.3f} more "
                f"[{low:.3f}, {high:.3f}]."
            )
        if high < 0:
            return (
                f"The {self.few} beats the raw probe: {few.auroc:.3f} against {raw.auroc:.3f}, "
                f"{-gap:.3f} more [{-high:.3f}, {-low:.3f}]."
            )
        return (
            f"These texts show no difference between the raw probe and the {self.few}: {spelled} "
            f"[{low:.3f}, {high:.3f}]."
        )

    def __len__(self) -> int:
        return len(self.ranking)

    def __getitem__(self, rank: int) -> FoundLatent:
        columns = {f.name: getattr(self.ranking, f.name)[rank] for f in fields(Ranking)}
        latent = int(columns.pop("latent"))
        return FoundLatent(latent, **{key: float(value) for key, value in columns.items()})

    def __iter__(self) -> Iterator[FoundLatent]:
        return (self[rank] for rank in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"ConceptSearch({self.concept!r}: {len(self.latents()):,} of {len(self):,} live "
            f"latents fire more with it at q = 0.05; the best is {self[0].latent}, held-out AUROC "
            f"{self[0].auroc:.3f})"
        )

    def _repr_html_(self) -> str:
        return search_html(self)

    def save(self, path: str | Path) -> Path:
        """Write a JSON file."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content |= {
            "ranking": {key: value.tolist() for key, value in vars(self.ranking).items()},
            "readers": [asdict(r) | {"scores": r.scores.tolist()} for r in self.readers],
            "positive": self.positive.tolist(),
            "shown": self.shown.tolist(),
            "names": {str(latent): name for latent, name in self.names.items()},
        }
        for key, value in content["ranking"].items():
            content["ranking"][key] = [_spell(number) for number in value]
        return write_json(path, {"format": _FORMAT, **content})

    @classmethod
    def load(cls, path: str | Path) -> "ConceptSearch":
        """Read what `save` wrote.

        Raises:
            FormatError: it is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FormatError(f"there is no search at {path}; `ConceptSearch.save` writes one")
        content = read_json(path, _FORMAT)
        try:
            return cls(**_parse({key: content[key] for key in (f.name for f in fields(cls))}))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path.name} lacks a part of a search or has a wrong one ({error}); make it anew"
            ) from error


def _spell(number: float) -> float | str:
    """JSON has no infinity: a difference that is infinite is spelled out."""
    return str(number) if isinstance(number, float) and math.isinf(number) else number


def _parse(content: dict[str, Any]) -> dict[str, Any]:
    columns = {key: np.array(value, dtype=float) for key, value in content["ranking"].items()}
    latent = columns.pop("latent").astype(np.int64)
    return content | {
        "n_train": tuple(content["n_train"]),
        "n_held_out": tuple(content["n_held_out"]),
        "ranking": Ranking(latent=latent, **columns),
        "readers": tuple(
            Reader(**(reader | {"scores": np.array(reader["scores"], dtype=float)}))
            for reader in content["readers"]
        ),
        "gap": tuple(content["gap"]),
        "positive": np.array(content["positive"], dtype=bool),
        "shown": np.array(content["shown"], dtype=float),
        "names": {int(latent): name for latent, name in content["names"].items()},
        "notes": tuple(content["notes"]),
    }
