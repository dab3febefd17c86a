"""One SAE of a training run: its settings, its state, its files, its beginning and its end."""

import copy
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.repro import fingerprint
from saetools.sae import SAE
from saetools.sae.init import geometric_median
from saetools.store import ActivationSource
from saetools.train.calibrate import calibrate
from saetools.train.checkpoint import load_checkpoint, save_checkpoint
from saetools.train.config import TrainConfig
from saetools.train.metrics_log import MetricsLog
from saetools.train.scales import Scales, find_scales
from saetools.train.sink import check_sinks
from saetools.train.state import TrainState

__all__ = ["Member"]

logger = logging.getLogger(__name__)

_MEDIAN_TOKENS = 32_768


@dataclass
class Member:
    """An SAE that is trained, alone or beside others.

    Args:
        name: its name among the others; empty when it is alone.
        config: its settings.
        hook: canonical hook that it reads; `target_hook` what it reconstructs, if another.
        scales: fixed maps of the data.
        state: what changes.
        log: where figures go.
        folder: where its files go, if anywhere.
        identity: what must be equal for two runs to be the same run.
        finished: the finished SAE, if it was there already.
    """

    name: str
    config: TrainConfig
    hook: str
    target_hook: str | None
    scales: Scales
    state: TrainState
    log: MetricsLog
    folder: Path | None
    identity: dict[str, Any]
    finished: SAE | None = None

    @classmethod
    def begin(
        cls,
        name: str,
        sae: SAE,
        store: ActivationSource,
        config: TrainConfig,
        *,
        folder: Path | None,
        hook: str | None,
        resume: bool,
    ) -> "Member":
        """Check everything, then start, or pick up where an earlier run of the same kind was."""
        hook, target_hook = hook or store.hook_name, sae.target_hook_name
        _check_widths(sae, store, hook, target_hook)
        check_sinks(config.log_to, folder)
        scales = find_scales(store, hook, config, target_hook=target_hook)
        identity = _identity(sae, store, hook, config)
        finished = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            finished = _finished(folder / "sae", identity) if resume else None
        state = _start(sae, store, hook, target_hook, scales, config)
        if finished is not None:
            logger.info("%s is already trained", folder)
            finished = finished.to(sae.device)
        elif folder is not None and resume and (folder / _CHECKPOINT).exists():
            load_checkpoint(folder / _CHECKPOINT, state, identity=identity)
        done = config.n_steps if finished is not None else state.n_steps_done
        log = MetricsLog(folder, config, done, settings=identity)
        return cls(name, config, hook, target_hook, scales, state, log, folder, identity, finished)

    @property
    def checkpoint(self) -> Path | None:
        """Where its checkpoint lies."""
        return None if self.folder is None else self.folder / _CHECKPOINT

    def save(self) -> Path | None:
        """Write a checkpoint, if there is a folder for it."""
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, self.state, identity=self.identity)
        return self.checkpoint

    def result(self, store: ActivationSource) -> SAE:
        """Fold the scale into the weights, calibrate, save; the SAE as it will be used."""
        if self.finished is not None:
            return self.finished
        ready = self.state.finished(self.config)
        trained = _folded(ready, self.scales).requires_grad_(False)
        self._check_fold(ready, trained, store)
        trained.meta |= self._meta(store)
        trained = calibrate(trained, store, hook_name=self.hook, seed=self.config.seed)
        if self.folder is not None and self.checkpoint is not None:
            trained.save(self.folder / "sae")
            self.checkpoint.unlink(missing_ok=True)
        self.finished = trained
        return trained

    @torch.no_grad()
    def _check_fold(self, ready: SAE, folded: SAE, store: ActivationSource) -> None:
        """Assert that the folded SAE reconstructs what the trained one did."""
        x = next(iter(store.batches(256, seed=self.config.seed, hook_name=self.hook)))
        x = x.to(ready.device)
        if ready.calibrated_l0 is not None:  # not calibrated yet: all that is positive
            ready, folded = ready.with_threshold(0.0), folded.with_threshold(0.0)
        wanted = self.scales.outputs.undo(ready(self.scales.inputs(x)))
        got = folded(x)
        off = float((got - wanted).norm() / wanted.norm().clamp_min(1e-12))
        assert off < 1e-3, f"folding the scale into the weights changed x_hat by {off:.2g}"

    def _meta(self, store: ActivationSource) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "hook_name": self.hook,
            "model": store.manifest["model"],
            "corpus": store.manifest["corpus"],
            "trained_tokens": self.config.n_steps * self.config.batch_tokens,
            "normalize": self.config.normalize,
            "scale_folded": self.scales.inputs.scale,
            "identity": self.identity,
            "versions": {"saetools": version("saetools"), "torch": torch.__version__},
        }
        if self.state.threshold_ema is not None and self.state.sae.calibrated_l0 is not None:
            meta["threshold_ema"] = self.state.threshold_ema / self.scales.outputs.scale
        return meta


_CHECKPOINT = "checkpoint.safetensors"


def _folded(sae: SAE, scales: Scales) -> SAE:
    if scales.shared:
        return sae.folded(scales.inputs)
    return sae.folded(scales.inputs, scales.outputs)


def _start(
    sae: SAE,
    store: ActivationSource,
    hook: str,
    target_hook: str | None,
    scales: Scales,
    config: TrainConfig,
) -> TrainState:
    """Fresh state; an SAE that was never trained begins with the geometric median as its bias."""
    sae = copy.deepcopy(sae).requires_grad_(True)
    if "trained_tokens" in sae.meta:
        if scales.shared:
            back = sae.folded(scales.inputs.inverse())
        else:
            back = sae.folded(scales.inputs.inverse(), scales.outputs.inverse())
        return TrainState.fresh(back.requires_grad_(True), config)
    sample: list[Tensor] = []
    for x in store.batches(config.batch_tokens, seed=config.seed, hook_name=target_hook or hook):
        sample.append(x)
        if sum(map(len, sample)) >= _MEDIAN_TOKENS:
            break
    if sample:
        median = geometric_median(torch.cat(sample)[:_MEDIAN_TOKENS])
        sae.b_dec.data.copy_(scales.outputs(median.unsqueeze(0)).squeeze(0))
        read = sample[0] if target_hook is None else _first(store, hook, config)
        sae.begin(scales.inputs(read).to(sae.device))
    return TrainState.fresh(sae, config)


def _first(store: ActivationSource, hook: str, config: TrainConfig) -> Tensor:
    return next(iter(store.batches(config.batch_tokens, seed=config.seed, hook_name=hook)))


def _check_widths(sae: SAE, store: ActivationSource, hook: str, target_hook: str | None) -> None:
    wanted = [("reads", sae.config.d_in, hook)]
    if target_hook is not None:
        wanted.append(("writes", sae.d_out, target_hook))
    for verb, width, name in wanted:
        if width != store.width(name):
            raise ShapeError(
                f"this SAE {verb} width {width}, but {store!r} holds activations of width "
                f"{store.width(name)} at {name}; build the SAE with "
                f"{'d_in' if verb == 'reads' else 'd_out'}={store.width(name)}"
            )


def _identity(sae: SAE, store: ActivationSource, hook: str, config: TrainConfig) -> dict[str, Any]:
    """What must be equal for two runs to be the same run."""
    manifest = {key: value for key, value in store.manifest.items() if key != "versions"}
    start = {name: float(tensor.double().sum()) for name, tensor in sae.state_dict().items()}
    moments = store.moments(hook)
    rows = {"rows": store.n_tokens, "norm": moments.mean_sq_norm, "mean": float(moments.mean.sum())}
    return {
        "sae": sae.config.model_dump(mode="json"),
        "start": fingerprint(start),
        "train": config.identity,
        "store": fingerprint({**manifest, **rows}),
        "hook_name": hook,
    }


def _finished(folder: Path, identity: dict[str, Any]) -> SAE | None:
    if not (folder / "config.json").exists():
        return None
    sae = SAE.load(folder)
    held = sae.meta.get("identity")
    if held != identity:
        raise ConfigError(
            f"{folder} holds an SAE of another run (its settings: {held}); choose another folder, "
            "or pass resume=False to replace it"
        )
    return sae
