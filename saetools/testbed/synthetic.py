"""Synthetic activations: rows that are sparse sums of planted directions, of any length, streamed.

    x = centre + Σ_j on_j · size_j · direction_j + noise

Any row is a function of (seed, its number) alone. `train` takes the source in the place of a store;
`write` makes a store of it, for `evaluate`.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.corpus import ConceptLabels, held_out
from saetools.errors import ConfigError, HookNotFoundError
from saetools.repro import fingerprint, generator
from saetools.store import ActivationStore, Moments, Split, StoreWriter, TokenColumns
from saetools.store.shuffle import shuffled_batches
from saetools.testbed.planting import (
    SyntheticConfig,
    draw_concepts,
    plant_centre,
    plant_chances,
    plant_directions,
    plant_sizes,
)

__all__ = ["SyntheticRows", "SyntheticSource"]

HOOK = "synthetic"

_CHUNK_ROWS = 1024
_DOC_ROWS = 64
_MOMENT_ROWS = 65_536


class SyntheticRows(NamedTuple):
    """Rows with the truth beside them: x (n, d_in), and the size of each concept, 0 where off."""

    x: Float[Tensor, "n d_in"]
    sizes: Float[Tensor, "n m"]

    @property
    def on(self) -> Bool[Tensor, "n m"]:
        """Which concepts are on."""
        return self.sizes > 0


class SyntheticSource:
    """Planted activations in the place of a store; keeps nothing but the directions in memory.

    Args:
        config: what is planted.
        n_tokens: rows; a number as large as you like, since they are made when they are read.
        held_out_fraction: share of the rows that training does not see, by whole chunks.
        seed: of the directions and of every row.

    >>> source = SyntheticSource(SyntheticConfig(d_in=32, n_concepts=64), n_tokens=100_000)
    >>> sae = st.train(sae, source, config)                             # doctest: +SKIP
    """

    def __init__(
        self,
        config: SyntheticConfig,
        *,
        n_tokens: int,
        held_out_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        if n_tokens < 1:
            raise ConfigError(f"a synthetic source has at least one row; got n_tokens={n_tokens}")
        self.config = config
        self.seed = seed
        self._n_tokens = n_tokens
        n_chunks = -(-n_tokens // _CHUNK_ROWS)
        self._held_out = held_out(n_chunks, fraction=held_out_fraction, seed=seed)
        self.directions = plant_directions(config, generator(seed, "directions"))
        self.chances = plant_chances(config)
        self._centre = plant_centre(config, generator(seed, "centre"))
        self._median_sizes = plant_sizes(config, generator(seed, "sizes"))
        about = {**asdict(config), "seed": seed, "n_tokens": n_tokens}
        mark = fingerprint(about)
        self.manifest: dict[str, Any] = {
            "model": {"name": "synthetic", "kind": "text_encoder", "fingerprint": mark},
            "corpus": {"name": "synthetic", "fingerprint": mark, "n_docs": self.n_docs},
            "widths": {HOOK: config.d_in},
            "dtype": "float32",
            "synthetic": {**about, "held_out_fraction": held_out_fraction},
        }

    @property
    def hook_name(self) -> str:
        """The only hook, "synthetic"."""
        return HOOK

    @property
    def n_tokens(self) -> int:
        """Number of rows, held-out ones included."""
        return self._n_tokens

    @property
    def n_docs(self) -> int:
        """Number of documents, runs of 64 rows."""
        return -(-self._n_tokens // _DOC_ROWS)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the concepts, in the order of the directions."""
        c = self.config
        parents = [f"parent{i}" for i in range(c.n_trees)]
        children = [f"parent{i}.child{j}" for i in range(c.n_trees) for j in range(c.n_children)]
        return (*parents, *children, *(f"concept{i}" for i in range(c.n_free)))

    def width(self, hook_name: str | None = None) -> int:
        """Width of the rows."""
        self._check_hook(hook_name)
        return self.config.d_in

    def moments(self, hook_name: str | None = None) -> Moments:
        """Count, mean and variance of the first 65,536 training rows."""
        self._check_hook(hook_name)
        return self._moments

    def n_rows(self, split: Split = "all") -> int:
        """Number of rows in a split."""
        return int(self._counts[self._chunks(split)].sum())

    def n_batches(self, batch_tokens: int, *, split: Split = "train") -> int:
        """Number of batches that `batches` gives an epoch."""
        rows = self.n_rows(split)
        return max(rows // batch_tokens, 1 if rows else 0)

    def batches(
        self,
        batch_tokens: int,
        *,
        seed: int,
        epoch: int = 0,
        start: int = 0,
        split: Split = "train",
        hook_name: str | None = None,
        pin_memory: bool = False,
    ) -> Iterator[Float[Tensor, "n d_in"]]:
        """Shuffled float32 batches (batch_tokens, d_in) of one epoch, from batch `start` on.

        A last batch that is not full is left out, unless it is the only one.
        """
        self._check_hook(hook_name)
        chunks = self._chunks(split)
        return shuffled_batches(
            lambda chunk: self._chunk(int(chunks[chunk])).x,
            self._counts[chunks],
            batch_tokens=batch_tokens,
            seed=seed,
            epoch=epoch,
            start=start,
            pin_memory=pin_memory and torch.cuda.is_available(),
        )

    def rows(self, *, split: Split = "all", n_rows: int | None = None) -> Iterator[SyntheticRows]:
        """Rows of a split in order with the truth beside them, at most 1024 at a time.

        Args:
            n_rows: end after about so many, a whole number of chunks; None: all.
        """
        given = 0
        for chunk in self._chunks(split):
            if n_rows is not None and given >= n_rows:
                return
            found = self._chunk(int(chunk))
            given += len(found.x)
            yield found

    def write(self, path: str | Path) -> ActivationStore:
        """Write all rows into a store, with documents of 64 rows; token ids are all 0.

        Raises:
            StoreError: the file exists and is another store.
        """
        held = np.repeat(self._held_out, _CHUNK_ROWS // _DOC_ROWS)[: self.n_docs]
        blank = [""] * self.n_docs
        with StoreWriter(
            path, manifest=self.manifest, labels=blank, titles=blank, held_out=held
        ) as writer:
            while not writer.complete and writer.n_tokens < self._n_tokens:
                found = self._chunk(writer.n_tokens // _CHUNK_ROWS)
                row = np.arange(writer.n_tokens, writer.n_tokens + len(found.x))
                columns = TokenColumns(
                    np.zeros(len(row), np.int32),
                    (row // _DOC_ROWS).astype(np.int32),
                    (row % _DOC_ROWS).astype(np.int32),
                )
                done = -(-int(row[-1] + 1) // _DOC_ROWS)
                writer.commit({HOOK: found.x}, columns, n_docs_done=done)
            writer.finish()
        return ActivationStore.open(path)

    def labels(self) -> ConceptLabels:
        """Which concepts are on at each row, with the parents of those that have one.

        Holds n_tokens · n_concepts bytes: meant for sources that are written into a store.
        """
        on = np.concatenate([found.on.numpy() for found in self.rows()])
        children = self.names[self.config.n_trees : self.config.n_in_trees]
        return ConceptLabels(self.names, on, {name: name.split(".")[0] for name in children})

    def __repr__(self) -> str:
        c = self.config
        return (
            f"SyntheticSource({c.n_concepts} concepts in width {c.d_in}, "
            f"{self._n_tokens:,} tokens, seed {self.seed})"
        )

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        counts = np.full(len(self._held_out), _CHUNK_ROWS, np.int64)
        counts[-1] = self._n_tokens - _CHUNK_ROWS * (len(counts) - 1)
        return counts

    @cached_property
    def _moments(self) -> Moments:
        found = Moments.empty(self.config.d_in)
        for rows in self.rows(split="train", n_rows=_MOMENT_ROWS):
            found = found.merged(rows.x)
        return found

    def _chunks(self, split: Split) -> npt.NDArray[np.int64]:
        if split == "all":
            return np.arange(len(self._held_out))
        return np.flatnonzero(self._held_out == (split == "held_out"))

    def _chunk(self, number: int) -> SyntheticRows:
        g = generator(self.seed, "rows", number)
        n, c = _CHUNK_ROWS, self.config
        on = draw_concepts(c, self.chances, n, g)
        jitter = (c.magnitude_jitter * torch.randn(on.shape, generator=g)).exp()
        sizes = on * self._median_sizes * jitter  # (n, m)
        x = self._centre + sizes @ self.directions
        x += c.noise * torch.randn(x.shape, generator=g)
        kept = int(self._counts[number])
        return SyntheticRows(x[:kept], sizes[:kept])

    def _check_hook(self, hook_name: str | None) -> None:
        if hook_name not in (None, HOOK):
            raise HookNotFoundError(
                f"a synthetic source has no activations at '{hook_name}'; it has one hook, '{HOOK}'"
            )
