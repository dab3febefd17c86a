"""Train an SAE from a store: one loop, for every architecture.

config → state → step. Batches come shuffled from the store; figures go to metrics.jsonl; the state
goes to a checkpoint now and then and when the run is interrupted. At the end the scale of training
is folded into the weights, and the inference threshold is calibrated where there is one.
"""

import copy
import logging
import math
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError, ShapeError, StoreError
from saetools.interrupt import deferred_interrupt
from saetools.repro import fingerprint
from saetools.sae import SAE
from saetools.sae.init import geometric_median
from saetools.store import ActivationSource
from saetools.train.calibrate import calibrate
from saetools.train.checkpoint import load_checkpoint, save_checkpoint
from saetools.train.config import TrainConfig
from saetools.train.metrics_log import MetricsLog, live_figures
from saetools.train.sink import check_sinks
from saetools.train.state import Scales, TrainState, step

__all__ = ["train"]

logger = logging.getLogger(__name__)

_MEDIAN_TOKENS = 32_768


def train(
    sae: SAE,
    store: ActivationSource,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    hook_name: str | None = None,
    resume: bool = True,
) -> SAE:
    """Train a copy of `sae` on the training split of a store and return it, ready for use.

    Args:
        sae: from `build_sae`; not changed. Its device is where training runs.
        store: activations, a store or an `ActivationStream`; rows of held-out documents are never
            seen.
        config: lengths, learning rate and so on; the defaults suit a few million tokens.
        out: folder for metrics.jsonl and metrics.csv, the checkpoint and the finished SAE
            (`out/sae`); None writes nothing.
        hook_name: which hook of the store; its first one by default.
        resume: go on from the checkpoint in `out`, or return its finished SAE, if one is there and
            belongs to this run; False starts again.

    Raises:
        ShapeError: the SAE reads another width than the store has.
        ConfigError: `out` holds another run; a package that `config.log_to` needs is missing; or
            the loss diverges (the last checkpoint is kept).
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    config = config or TrainConfig()
    hook = hook_name or store.hook_name
    _check_width(sae, store, hook)
    folder = None if out is None else Path(out)
    check_sinks(config.log_to, folder)
    identity = _identity(sae, store, hook, config)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume and (done := _finished(folder / "sae", identity)) is not None:
            logger.info("%s is already trained", folder / "sae")
            return done.to(sae.device)
    scales = _scales(store, hook)
    state = _start(sae, store, hook, scales, config)
    run = _Run(store, hook, config, scales, folder, identity)
    if resume and run.checkpoint is not None and run.checkpoint.exists():
        load_checkpoint(run.checkpoint, state, identity=identity)
    _take_steps(state, run)

    trained = state.sae.folded(scales.scale).requires_grad_(False)
    trained.meta |= _meta(run)
    trained = calibrate(trained, store, hook_name=hook, seed=config.seed)
    if folder is not None and run.checkpoint is not None:
        trained.save(folder / "sae")
        run.checkpoint.unlink(missing_ok=True)
    return trained


class _Run(NamedTuple):
    """What stays the same from the first step to the last."""

    store: ActivationSource
    hook: str
    config: TrainConfig
    scales: Scales
    folder: Path | None
    identity: dict[str, Any]

    @property
    def checkpoint(self) -> Path | None:
        return None if self.folder is None else self.folder / "checkpoint.safetensors"


def _take_steps(state: TrainState, run: _Run) -> None:
    """Take all steps that are left; on an interrupt write a checkpoint first."""
    config, checkpoint = run.config, run.checkpoint
    every = max(1, config.checkpoint_tokens // config.batch_tokens)
    with (
        progress.task("train", total=config.n_steps, unit="steps") as bar,
        deferred_interrupt() as interrupted,
        MetricsLog(run.folder, config, state.n_steps_done, settings=run.identity) as log,
    ):
        bar.advance(state.n_steps_done)
        on_gpu = state.sae.device.type == "cuda"
        for x in _batches(run, start=state.n_steps_done, pin_memory=on_gpu):
            report = step(state, x.to(state.sae.device, non_blocking=True), config, run.scales)
            bar.advance()
            row = log.add(report, state, n_tokens=len(x))
            if row is not None:
                _refuse_divergence(row, checkpoint)
                bar.row("", live_figures(row))
            if checkpoint is not None and (interrupted() or state.n_steps_done % every == 0):
                save_checkpoint(checkpoint, state, identity=run.identity)
            if interrupted():
                raise KeyboardInterrupt(
                    f"training stopped after step {state.n_steps_done} of {config.n_steps}; "
                    + (
                        f"run it again to go on from {checkpoint}"
                        if checkpoint
                        else "nothing saved"
                    )
                )


def _batches(run: _Run, *, start: int, pin_memory: bool) -> Iterator[Tensor]:
    """Batches `start` to the last, epoch after epoch."""
    size, seed = run.config.batch_tokens, run.config.seed
    per_epoch = run.store.n_batches(size)
    if per_epoch == 0:
        raise StoreError(
            f"{run.store!r} has no rows to train on: all its documents are held out; "
            "harvest more documents, or with a smaller held_out_fraction"
        )
    done = start
    while done < run.config.n_steps:
        epoch, first = divmod(done, per_epoch)
        epoch_batches = run.store.batches(
            size, seed=seed, epoch=epoch, start=first, hook_name=run.hook, pin_memory=pin_memory
        )
        for x in islice(epoch_batches, run.config.n_steps - done):
            yield x
            done += 1


def _start(
    sae: SAE, store: ActivationSource, hook: str, scales: Scales, config: TrainConfig
) -> TrainState:
    """Fresh state; an SAE that was never trained begins with the geometric median as its bias."""
    sae = copy.deepcopy(sae).requires_grad_(True)
    if "trained_tokens" in sae.meta:
        return TrainState.fresh(sae.folded(1 / scales.scale))
    sample: list[Tensor] = []
    for x in store.batches(config.batch_tokens, seed=config.seed, hook_name=hook):
        sample.append(x)
        if sum(map(len, sample)) >= _MEDIAN_TOKENS:
            break
    if sample:
        median = geometric_median(torch.cat(sample)[:_MEDIAN_TOKENS]) * scales.scale
        sae.b_dec.data.copy_(median)
    return TrainState.fresh(sae)


def _scales(store: ActivationSource, hook: str) -> Scales:
    moments = store.moments(hook)
    if moments.mean_sq_norm == 0:
        raise StoreError(f"all activations of {store!r} at {hook} are zero; nothing can be learned")
    scale = math.sqrt(store.width(hook) / moments.mean_sq_norm)
    return Scales(scale, float(moments.variance.sum()) * scale**2)


def _check_width(sae: SAE, store: ActivationSource, hook: str) -> None:
    if sae.config.d_in != store.width(hook):
        raise ShapeError(
            f"this SAE reads width {sae.config.d_in}, but {store!r} holds activations of width "
            f"{store.width(hook)} at {hook}; build the SAE with d_in={store.width(hook)}"
        )


def _refuse_divergence(row: dict[str, Any], checkpoint: Path | None) -> None:
    if math.isfinite(row["loss"]):
        return
    kept = f"the checkpoint {checkpoint} is from before" if checkpoint else "nothing was saved"
    raise ConfigError(
        f"the loss is {row['loss']} at step {row['step']} (learning rate {row['lr']:.3g}): "
        f"training diverged; {kept}; lower train.lr"
    )


def _identity(sae: SAE, store: ActivationSource, hook: str, config: TrainConfig) -> dict[str, Any]:
    """What must be equal for two runs to be the same run."""
    manifest = {key: value for key, value in store.manifest.items() if key != "versions"}
    start = {name: float(tensor.double().sum()) for name, tensor in sae.state_dict().items()}
    return {
        "sae": sae.config.model_dump(mode="json"),
        "start": fingerprint(start),
        "train": config.model_dump(mode="json", exclude={"log_to"}),  # shapes no result
        "store": fingerprint({**manifest, "rows": store.n_tokens}),
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


def _meta(run: _Run) -> dict[str, Any]:
    return {
        "hook_name": run.hook,
        "model": run.store.manifest["model"],
        "corpus": run.store.manifest["corpus"],
        "trained_tokens": run.config.n_steps * run.config.batch_tokens,
        "scale_folded": run.scales.scale,
        "identity": run.identity,
        "versions": {"saetools": version("saetools"), "torch": torch.__version__},
    }
