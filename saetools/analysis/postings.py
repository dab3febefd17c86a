"""Every activation of a latent, by document and place: inverted lists in compressed sparse rows.

A list is coded as the steps between its rows and as shares of the latent's largest activation in
float16, 6 bytes an activation before compression. A value is off by at most 1/2048 of itself, or
6e-8 of the largest where it is below 1e-4 of that.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from jaxtyping import Float16, Float32, Int32, Int64, UInt32

from saetools.analysis.codes import CodeLists
from saetools.analysis.index_source import IndexSource

__all__ = ["CodedLists", "DocTokens", "FileLists", "Lists", "Postings", "TurnedLists", "decode"]

_TINY = np.float16(6e-8)  # the smallest positive float16: an active latent stays active

Ints = npt.NDArray[np.int64]


class Postings(NamedTuple):
    """Activations of one latent in the order of the corpus.

    Args:
        doc: document.
        pos: place among the tokens of the document, from 0.
        value: activation.
    """

    doc: Int32[np.ndarray, " n"]
    pos: Int32[np.ndarray, " n"]
    value: Float32[np.ndarray, " n"]


class Coded(NamedTuple):
    """A list as it is kept: step from the row before (the first row itself), share of the max."""

    step: UInt32[np.ndarray, " n"]
    share: Float16[np.ndarray, " n"]


class Lists(Protocol):
    """Where the coded lists of all latents are."""

    @property
    def bounds(self) -> Ints:
        """The list of latent j is entries bounds[j] to bounds[j + 1]."""

    def read(self, start: int, stop: int) -> Coded:
        """Entries `start` to `stop - 1`, of whatever lists."""


@dataclass(frozen=True)
class CodedLists:
    """Lists in memory."""

    bounds: Int64[np.ndarray, " n_latents1"]
    step: UInt32[np.ndarray, " n"]
    share: Float16[np.ndarray, " n"]

    def read(self, start: int, stop: int) -> Coded:
        """Entries `start` to `stop - 1`."""
        return Coded(self.step[start:stop], self.share[start:stop])


@dataclass(frozen=True)
class TurnedLists:
    """Lists that are coded as they are read.

    Args:
        lists: rows and activations.
        largest: largest activation of each latent.
    """

    lists: CodeLists
    largest: Float32[np.ndarray, " n_latents"]

    @property
    def bounds(self) -> Ints:
        """Which entries belong to which latent."""
        return self.lists.bounds

    def read(self, start: int, stop: int) -> Coded:
        """Entries `start` to `stop - 1`."""
        row = self.lists.rows[start:stop].astype(np.int64)
        before = int(self.lists.rows[start - 1]) if start else 0
        begins = self.bounds[(self.bounds >= start) & (self.bounds < stop)] - start
        step = np.diff(row, prepend=before)
        step[begins] = row[begins]
        cut = np.clip(self.bounds, start, stop)
        largest = np.repeat(self.largest, cut[1:] - cut[:-1])
        share = (self.lists.values[start:stop] / largest).astype(np.float16)
        return Coded(step.astype(np.uint32), np.maximum(share, _TINY))


@dataclass(frozen=True)
class FileLists:
    """Lists in an index file, which is opened for each read.

    Args:
        source: the file.
        bounds: which entries belong to which latent.
    """

    source: IndexSource
    bounds: Int64[np.ndarray, " n_latents1"]

    def read(self, start: int, stop: int) -> Coded:
        """Entries `start` to `stop - 1`.

        Raises:
            FormatError: the file is gone, or is another index now.
        """
        with self.source.opened() as file:
            return Coded(file["lists/step"][start:stop], file["lists/share"][start:stop])


@dataclass(frozen=True)
class DocTokens:
    """The tokens of every document, one after the other.

    Args:
        bounds: tokens of document d are bounds[d] to bounds[d + 1].
        token: index into the readable tokens.
    """

    bounds: Int64[np.ndarray, " n_docs1"]
    token: Int32[np.ndarray, " n_tokens"]

    def of(self, doc: int) -> npt.NDArray[np.int32]:
        """Tokens of one document."""
        return self.token[int(self.bounds[doc]) : int(self.bounds[doc + 1])]


def decode(coded: Coded, *, largest: float) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Rows and activations of one list."""
    row = np.cumsum(coded.step, dtype=np.int64)
    return row, coded.share.astype(np.float32) * np.float32(largest)
