"""What a name is tried on: held-out contexts in which its latent fires, and in which it is silent.

Activating contexts are drawn evenly over the quantiles of the latent's activation. Of the silent
ones some are drawn at random, and some are near misses: a neighbour of the latent (it fires on the
same tokens, or its decoder row points the same way) fires there and the latent does not. In a
silent context the latent is silent on every token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, UInt8
from pydantic import BaseModel, ConfigDict, Field

from saetools.naming.scores.held_out import Firings, HeldOut, Indexed

__all__ = [
    "ACTIVATING",
    "NEAR_MISS",
    "RANDOM",
    "Evidence",
    "EvidenceConfig",
    "gather",
    "near_latents",
]

Ints = npt.NDArray[np.int64]
ACTIVATING, RANDOM, NEAR_MISS = 0, 1, 2
_NEIGHBOURS = 5  # of each kind, whose contexts may be near misses
_TRIES = 8  # draws of silent contexts before it is believed that there are no more


class EvidenceConfig(BaseModel):
    """How many contexts, and how wide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_activating: int = Field(default=50, ge=1, description="activating contexts, at most")
    n_silent: int = Field(default=50, ge=1, description="silent contexts, at most")
    near_miss_fraction: float = Field(
        default=0.5, ge=0, le=1, description="share of the silent contexts that are near misses"
    )
    n_quantiles: int = Field(default=10, ge=1, description="quantiles of activation drawn from")
    window: int = Field(default=10, ge=0, description="tokens on each side of the centre")
    min_activating: int = Field(
        default=5, ge=1, description="a latent with fewer activating tokens has no score"
    )
    max_firing_rate: float = Field(
        default=0.1, gt=0, le=1, description="a latent that fires more often is dense: no score"
    )


@dataclass(frozen=True)
class Evidence:
    """Contexts of one latent, activating ones first.

    Args:
        latent: its number.
        rows: rows of `HeldOut`, -1 beyond the document.
        acts: the latent's activation on each.
        centre: row in the middle of each context.
        kind: ACTIVATING, RANDOM or NEAR_MISS.
    """

    latent: int
    rows: Int64[np.ndarray, "c w"]
    acts: Float32[np.ndarray, "c w"]
    centre: Int64[np.ndarray, " c"]
    kind: UInt8[np.ndarray, " c"]

    @property
    def fires(self) -> npt.NDArray[np.bool_]:
        """Which contexts are activating."""
        fires: npt.NDArray[np.bool_] = self.kind == ACTIVATING
        return fires

    def take(self, which: npt.NDArray[np.generic]) -> "Evidence":
        """Some of the contexts, chosen by a mask or by their places."""
        return Evidence(
            self.latent, self.rows[which], self.acts[which], self.centre[which], self.kind[which]
        )


def gather(
    held_out: HeldOut,
    latent: int,
    config: EvidenceConfig,
    *,
    firings_of: Callable[[int], Firings],
    neighbours: Sequence[int] = (),
    seed: int = 0,
) -> Evidence:
    """Draw the contexts of one latent; the same for the same seed, whatever else is scored.

    Args:
        firings_of: where a latent fires in the held-out documents.
        neighbours: latents whose contexts are near misses where `latent` is silent.
    """
    rng = np.random.default_rng((seed, latent))
    firings = firings_of(latent)
    acts = np.zeros(len(held_out) + 1, dtype=np.float32)  # the last stands for row -1
    acts[firings.row] = firings.value
    activating = _stratified(firings, held_out, config, rng)
    silent = _Silent(held_out, acts, config.window, rng)
    none = np.zeros(0, dtype=np.int64)
    candidates = np.unique(np.concatenate([none, *(firings_of(i).row for i in neighbours)]))
    near = silent.draw(candidates, round(config.n_silent * config.near_miss_fraction))
    drawn = silent.draw_anywhere(config.n_silent - len(near))
    centre = np.concatenate([activating, drawn, near])
    kind = np.repeat(
        np.array([ACTIVATING, RANDOM, NEAR_MISS], dtype=np.uint8),
        [len(activating), len(drawn), len(near)],
    )
    rows = held_out.windows(centre, config.window)
    return Evidence(latent, rows, acts[rows], centre, kind)


def _stratified(
    firings: Firings, held_out: HeldOut, config: EvidenceConfig, rng: np.random.Generator
) -> Ints:
    """Rows drawn evenly over runs of equal length by activation, of different documents if any."""
    order = np.argsort(-firings.value, kind="stable")
    wanted = min(config.n_activating, len(order))
    n_runs = min(config.n_quantiles, wanted)
    chosen: list[Ints] = []
    for run in range(n_runs):
        part = order[len(order) * run // n_runs : len(order) * (run + 1) // n_runs]
        quota = wanted * (run + 1) // n_runs - wanted * run // n_runs
        shuffled = firings.row[rng.permutation(part)]
        _, first = np.unique(held_out.doc[shuffled], return_index=True)
        again = np.setdiff1d(np.arange(len(shuffled)), first)
        chosen.append(shuffled[np.r_[np.sort(first), again][:quota]])
    return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])


class _Silent:
    """Draws centres of contexts in which a latent is silent, none twice."""

    def __init__(
        self,
        held_out: HeldOut,
        acts: npt.NDArray[np.float32],
        window: int,
        rng: np.random.Generator,
    ) -> None:
        self._held_out, self._acts, self._window, self._rng = held_out, acts, window, rng
        self._taken = np.zeros(0, dtype=np.int64)

    def draw(self, candidates: Ints, n: int) -> Ints:
        """Up to `n` of the candidates."""
        shuffled = self._rng.permutation(candidates)[: n * 20]
        rows = self._held_out.windows(shuffled, self._window)
        silent = shuffled[(self._acts[rows] == 0).all(1)]
        found: Ints = silent[~np.isin(silent, self._taken)][:n]
        self._taken = np.concatenate([self._taken, found])
        return found

    def draw_anywhere(self, n: int) -> Ints:
        """Up to `n` of all rows."""
        found = np.zeros(0, dtype=np.int64)
        for _ in range(_TRIES):
            if len(found) >= n or not len(self._held_out):
                break
            some = self._rng.integers(len(self._held_out), size=2 * n)
            found = np.concatenate([found, self.draw(np.unique(some), n - len(found))])
        return found


def near_latents(index: Indexed, latent: int) -> list[int]:
    """The neighbours of a latent by firing and by decoder, each once."""
    pairs = [
        *index.coactivation.of(latent)[:_NEIGHBOURS],
        *index.decoder_neighbours.of(latent)[:_NEIGHBOURS],
    ]
    return [other for other in dict.fromkeys(other for other, _ in pairs) if other != latent]
