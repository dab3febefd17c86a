"""Switch latents off and ask fixed probes of the activation what they still see: for scr and tpp.

Definitions of SAEBench (Karvonen et al. 2025, arXiv:2503.09532). A probe (w, b) is trained on the
mean activation over content tokens and never again. The effect of latent j on it is

    e_j = (μ⁺_j − μ⁻_j) · (w · W_dec[j])        μ: mean of the pooled latent in each class, training

Switched-off latents are off at every token and the SAE's error is kept, x' = x − Σ_j z_j W_dec[j],
so a text's score changes by exactly − Σ_j mean(z_j) (w · W_dec[j]): no second run is needed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit

from saetools.evaluate.bootstrap import Floats
from saetools.sae import SAE

__all__ = [
    "N_LATENTS",
    "FixedProbe",
    "ablated_scores",
    "effects",
    "fit_probe",
    "pulls",
    "split_rows",
    "strongest",
]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]

N_LATENTS = (2, 5, 10, 20, 50, 100, 500)
"""How many latents are switched off."""

_EPOCHS = 20
_BATCH = 16
_LR = 1e-3
_L1 = 1e-3
_TEST_SHARE = 0.3


@dataclass(frozen=True)
class FixedProbe:
    """A linear probe of raw activations: x @ weight + bias > 0 says that x has the concept."""

    weight: Floats
    bias: float

    def scores(self, x: Rows) -> Floats:
        """Scores of rows, (n,)."""
        found: Floats = x @ self.weight + self.bias
        return found


def fit_probe(x: Rows, positive: Bools, *, scale: float, seed: int) -> FixedProbe:
    """Train a probe as SAEBench does: Adam at 1e-3, L1 of 1e-3, batches of 16, 20 epochs.

    Small batches matter: they set how much a biased probe leans on the spurious concept. Other than
    there, activations are divided by one number before, so that models with small activations are
    learned from as fast as others; the probe that is returned reads raw activations.

    Args:
        scale: what activations are divided by, e.g. their root mean square.
    """
    rng = np.random.default_rng([seed, 0xAD])
    rows = np.column_stack([x / scale, np.ones(len(x))]).astype(np.float64)
    adam = _Adam(rows.shape[1])
    for _ in range(_EPOCHS):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), _BATCH):
            batch = order[start : start + _BATCH]
            adam.step(_gradient(rows[batch], positive[batch], adam.weight))
    return FixedProbe(adam.weight[:-1] / scale, float(adam.weight[-1]))


def pulls(sae: SAE, probe: FixedProbe) -> Floats:
    """How much a unit of each latent adds to the probe's score, (n_latents,)."""
    rows = sae.W_dec.detach().double().cpu().numpy()
    found: Floats = rows @ probe.weight
    return found


def effects(latents: sparse.csr_matrix, positive: Bools, pull: Floats, *, signed: bool) -> Floats:
    """Effect of each latent on a probe, (n_latents,).

    Args:
        signed: as in tpp: latents that fire more without the concept have none, and those that
            speak against it a negative one; else absolute values, as in scr.
    """
    up, down = (np.asarray(latents[side].mean(0)).ravel() for side in (positive, ~positive))
    gap = np.maximum(up - down, 0.0) if signed else up - down
    found: Floats = gap * pull
    return found if signed else np.abs(found)


def strongest(effect: Floats, n: int) -> Ints:
    """The up to `n` latents with the largest effect above zero."""
    order = np.argsort(-effect, kind="stable")[:n]
    kept: Ints = order[effect[order] > 0]
    return kept


def ablated_scores(scores: Floats, latents: sparse.csr_matrix, pull: Floats, off: Ints) -> Floats:
    """Scores of texts after the latents `off` were switched off at every token, (n,)."""
    found: Floats = scores - np.asarray(latents[:, off] @ pull[off]).ravel()
    return found


def split_rows(cells: list[Ints], rng: np.random.Generator) -> tuple[list[Ints], list[Ints]]:
    """Cut each group of texts into those to train on and those to test on (three tenths)."""
    train, test = [], []
    for rows in cells:
        mixed = rng.permutation(rows)
        n_test = max(1, round(_TEST_SHARE * len(rows)))
        test.append(mixed[:n_test])
        train.append(mixed[n_test:])
    return train, test


class _Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) on one vector that starts at zero."""

    def __init__(self, n: int) -> None:
        self.weight, self._mean, self._square = np.zeros(n), np.zeros(n), np.zeros(n)
        self._steps = 0

    def step(self, gradient: Floats) -> None:
        self._steps += 1
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.001 * (gradient**2 - self._square)
        mean, square = self._mean / (1 - 0.9**self._steps), self._square / (1 - 0.999**self._steps)
        self.weight -= _LR * mean / (np.sqrt(square) + 1e-8)


def _gradient(rows: Floats, positive: Bools, weight: Floats) -> Floats:
    """Gradient of the mean cross-entropy plus L1; the last weight is the bias, free of L1."""
    penalty = _L1 * np.sign(weight)
    penalty[-1] = 0.0
    found: Floats = rows.T @ (expit(rows @ weight) - positive) / len(rows) + penalty
    return found
