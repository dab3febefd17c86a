"""Measure the health of a trained SAE on rows of a store: one pass, bounded memory.

Sums are in float64; a batch of rows and its latents are in memory, and counts of the size of the
dictionary.
"""

from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError, ShapeError, StoreError
from saetools.sae import SAE
from saetools.store import ActivationSource, Split
from saetools.train.health.advice import advise
from saetools.train.health.report import DENSE, L0_LEVELS, MASSIVE, HealthReport, WidthHealth
from saetools.train.health.weights import Spread, find_duplicates

__all__ = ["health_report"]

_BATCH_TOKENS = 1024
_MOST_NORMS = 4_194_304  # the first so many, of shuffled rows, tell of all


@torch.no_grad()
def health_report(
    sae: SAE,
    store: ActivationSource,
    *,
    hook_name: str | None = None,
    n_tokens: int = 262_144,
    seed: int = 0,
) -> HealthReport:
    """Measure how well a trained SAE is, with warnings in plain words.

    On held-out rows, or on training rows where none are held out; `about["split"]` says which.
    Thresholds of the warnings are in `saetools.train.health.advice`.

    Args:
        sae: a trained SAE.
        store: activations of the hook that it reads.
        hook_name: which hook of the store; that of the SAE's meta, or the first, by default.
        n_tokens: at most so many rows are read. A latent that never fires on them counts as dead,
            so few rows make rare latents look dead.
        seed: of the choice of rows.

    Raises:
        ShapeError: the SAE reads another width than the store has.
        StoreError: the store has no rows.
        ConfigError: `n_tokens` is not positive.

    >>> report = health_report(sae, store)          # doctest: +SKIP
    >>> report.values["dead_fraction"]              # doctest: +SKIP
    """
    if n_tokens < 1:
        raise ConfigError(f"health_report reads n_tokens rows, at least 1; got {n_tokens}")
    hook = hook_name or _hook(sae, store)
    target_hook = sae.target_hook_name or hook
    _check_width(store, "reads", sae.config.d_in, hook)
    _check_width(store, "writes", sae.d_out, target_hook)
    split, n_batches, size = _rows(store, n_tokens)
    sums = _Sums(sae, torch.as_tensor(store.moments(target_hook).mean, dtype=torch.float32))
    # The order is a function of the seed alone, so two hooks stay in step.
    inputs, targets = (
        store.batches(size, seed=seed, split=split, hook_name=name) for name in (hook, target_hook)
    )
    pairs = zip(inputs, targets, strict=False) if target_hook != hook else ((x, x) for x in inputs)
    with progress.task("health", total=n_batches, unit="batches") as bar:
        for x, target in islice(pairs, n_batches):
            sums.add(x.to(sae.device), target.to(sae.device))
            bar.advance()
    config = sae.config.model_dump(mode="json")
    about = {**config, "hook_name": hook, "split": split, "seed": seed}
    report = _report(sae, sums, about, seed)
    return replace(report, warnings=advise(report))


def _rows(store: ActivationSource, n_tokens: int) -> tuple[Split, int, int]:
    """The split to measure on, the number of its batches that make `n_tokens`, and their size."""
    size = min(_BATCH_TOKENS, n_tokens)
    splits: tuple[Split, ...] = ("held_out", "train")
    for split in splits:
        n_batches = min(n_tokens // size, store.n_batches(size, split=split))
        if n_batches > 0:
            return split, n_batches, size
    raise StoreError(f"{store!r} has no rows to measure on; harvest documents first")


def _check_width(store: ActivationSource, verb: str, width: int, hook: str) -> None:
    if width != store.width(hook):
        raise ShapeError(
            f"this SAE {verb} width {width}, but {store!r} holds activations of width "
            f"{store.width(hook)} at {hook}; give the store that it was trained on"
        )


def _hook(sae: SAE, store: ActivationSource) -> str:
    wanted = str(sae.meta.get("hook_name"))
    return wanted if wanted in store.manifest["widths"] else store.hook_name


class _Sums:
    """Sums over the rows that were seen.

    Squares are centred on a fixed vector near the mean, so that taking off the exact mean at the
    end loses no digits.
    """

    def __init__(self, sae: SAE, centre: Tensor) -> None:
        n_latents = sae.config.n_latents
        self._sae, self._centre = sae, centre.to(sae.device)
        self._offset = torch.zeros_like(self._centre, dtype=torch.float64)
        self._square = 0.0
        self.n_tokens = 0
        self.fired = torch.zeros(n_latents, dtype=torch.int64, device=sae.device)
        self.l0_counts = torch.zeros(n_latents + 1, dtype=torch.int64)  # tokens of each l0
        self.error = dict.fromkeys(sae.widths, 0.0)
        self.n_active = dict.fromkeys(sae.widths, 0)
        self._norms: list[Tensor] = []

    def add(self, x: Tensor, target: Tensor) -> None:
        """Take in a batch of rows, and what they should become."""
        latents = self._sae.encode(x)
        active = latents.active
        n_latents = len(self.fired)
        self.fired += torch.bincount(latents.indices[active], minlength=n_latents)
        self.l0_counts += torch.bincount(latents.l0().cpu(), minlength=n_latents + 1)
        for width in self.error:
            part = latents if width == n_latents else latents.prefix(width)
            self.error[width] += float((target - self._sae.decode(part)).double().square().sum())
            self.n_active[width] += int(part.active.sum())
        centred = (target - self._centre).double()
        self._offset += centred.sum(0)
        self._square += float(centred.square().sum())
        if self.n_tokens < _MOST_NORMS:
            self._norms.append(x.norm(dim=1).cpu())
        self.n_tokens += len(x)

    @property
    def variance(self) -> float:
        """Σ‖target − its mean‖² with the exact mean of the rows."""
        return self._square - float(self._offset @ self._offset) / self.n_tokens

    @property
    def norms(self) -> Tensor:
        """‖x‖ of the rows."""
        return torch.cat(self._norms)

    def fvu(self, width: int) -> float:
        """Fraction of variance unexplained with the first `width` latents."""
        return self.error[width] / self.variance if self.variance > 0 else float("nan")

    def l0_quantile(self, share: float) -> float:
        """Smallest l0 that at least `share` of the tokens do not exceed."""
        needed = torch.tensor(share * self.n_tokens, dtype=torch.float64)
        return float(torch.searchsorted(self.l0_counts.cumsum(0).double(), needed))


def _report(sae: SAE, sums: _Sums, about: dict[str, Any], seed: int) -> HealthReport:
    rate = sums.fired.double().cpu() / sums.n_tokens
    norms, duplicates = sums.norms, find_duplicates(sae.W_dec, seed=seed)
    spread = Spread.of(norms)
    return HealthReport(
        n_tokens=sums.n_tokens,
        n_latents=sae.config.n_latents,
        fvu=sums.fvu(sae.widths[-1]),
        l0=sums.n_active[sae.widths[-1]] / sums.n_tokens,
        l0_quantiles=tuple(sums.l0_quantile(level / 100) for level in L0_LEVELS),
        dead_fraction=float((rate == 0).double().mean()),
        dense_fraction=float((rate > DENSE).double().mean()),
        n_compared=duplicates.n_compared,
        duplicate_fraction=duplicates.fraction,
        n_duplicate_pairs=duplicates.n_pairs,
        duplicates=duplicates.closest,
        encoder_norms=Spread.of(sae.W_enc_rows.norm(dim=1)),
        decoder_norms=Spread.of(sae.W_dec.norm(dim=1)),
        activation_norms=spread,
        massive_fraction=float((norms > MASSIVE * spread.median).double().mean()),
        widths=_levels(sae, sums, rate),
        about=about,
    )


def _levels(sae: SAE, sums: _Sums, rate: Tensor) -> tuple[WidthHealth, ...]:
    if len(sae.widths) == 1:
        return ()
    starts = (0, *sae.widths[:-1])
    return tuple(
        WidthHealth(
            width,
            sums.fvu(width),
            sums.n_active[width] / sums.n_tokens,
            float((rate[start:width] == 0).double().mean()),
        )
        for start, width in zip(starts, sae.widths, strict=True)
    )
