"""One SAE of a training run: its settings, its state, its files, its beginning and its end."""

import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.repro import fingerprint
from saetools.sae import SAE
from saetools.sae.init import geometric_median
from saetools.sae.sharing import ALONE, Ranks
from saetools.sae.slices import hollow, joined_slices, slice_of
from saetools.store import ActivationSource
from saetools.train.calibrate import calibrate
from saetools.train.checkpoint import (
    checkpoint_path,
    load_checkpoint,
    newest_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from saetools.train.config import TrainConfig
from saetools.train.metrics_log import MetricsLog
from saetools.train.scales import Scales, find_scales
from saetools.train.sink import check_sinks
from saetools.train.state import TrainState
from saetools.train.team import Team

__all__ = ["Member", "fold_error"]

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
        team: the processes that train it.
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
    team: Team
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
        team: Team,
        device: torch.device,
    ) -> "Member":
        """Check everything, then start, or pick up where an earlier run of the same kind was."""
        hook, target_hook = hook or store.hook_name, sae.target_hook_name
        _check_widths(sae, store, hook, target_hook)
        check_sinks(config.log_to, folder)
        if config.compute_dtype != "float32" and not sae.takes_compute_dtype:
            logger.warning(
                "train.compute_dtype=%s is ignored: a %s SAE selects nothing before it computes",
                config.compute_dtype,
                sae.config.type,
            )
        rows, latents = team.axes(sae, config.parallel)
        scales = team.first_does(lambda: find_scales(store, hook, config, target_hook=target_hook))
        identity = _identity(sae, store, hook, config, latents)
        finished = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            finished = _finished(folder / "sae", identity) if resume else None
        median = team.first_does(lambda: _median(store, target_hook or hook, config))
        begun = _start(sae, median, scales, latents).requires_grad_(True).to(device)
        if median is not None and "trained_tokens" not in sae.meta:
            begun.begin(scales.inputs(_first(store, hook, config)).to(device))
        state = TrainState.fresh(begun, config, rows=rows, latents=latents)
        if finished is not None:
            logger.info("%s is already trained", folder)
            finished = finished.to(device) if latents.size == 1 else finished
            finished = hollow(finished) if latents.rank else finished
        elif folder is not None and resume and (found := newest_checkpoint(folder)):
            load_checkpoint(found, state, identity=identity)
        done = config.n_steps if finished is not None else state.n_steps_done
        team.agree("checkpoint: it ends at step", done)
        log = MetricsLog(folder if team.first else None, config, done, settings=identity)
        return cls(
            name, config, hook, target_hook, scales, state, log, folder, identity, team, finished
        )

    def save(self) -> Path | None:
        """Write a checkpoint, if there is a folder for it; all processes of the team do."""
        if self.folder is None:
            return None
        path = checkpoint_path(self.folder, self.state)
        if self.state.rows.rank == 0:
            save_checkpoint(path, self.state, identity=self.identity)
        self.team.any(False)  # the set is complete before an older one goes
        if self.state.latents.size > 1:
            if self.team.first:
                kept = newest_checkpoint(self.folder)
                remove_checkpoints(self.folder, but=kept)
            self.team.any(False)
        elif self.team.first:
            remove_checkpoints(self.folder, but=[path])
        return path

    def result(self, store: ActivationSource) -> SAE:
        """Fold the scale into the weights, calibrate, save; the SAE as it will be used.

        Where processes hold slices, only the first one gets it whole, in host memory.
        """
        if self.finished is not None:
            return self.finished
        latents = self.state.latents
        ready = self.state.finished(self.config)
        trained = _folded(ready, self.scales).requires_grad_(False)
        self._check_fold(ready, trained, store)
        trained.meta |= self._meta(store)
        trained = calibrate(
            trained, store, hook_name=self.hook, seed=self.config.seed, latents=latents
        )
        trained = joined_slices(trained, latents)
        if self.folder is not None and self.team.first:
            trained.save(self.folder / "sae")
            remove_checkpoints(self.folder)
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
        off = fold_error(got, wanted)
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


def fold_error(got: Float[Tensor, "n d"], wanted: Float[Tensor, "n d"]) -> float:
    """Relative error of the typical row.

    Rounding may turn round which of two latents that are nearly equal is the k-th; such a row is
    off by the difference of two latents, and a scale that is wrong is wrong in every row.
    """
    off = (got - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-12)
    return float(off.median()) if len(off) else 0.0


def _folded(sae: SAE, scales: Scales) -> SAE:
    if scales.shared:
        return sae.folded(scales.inputs)
    return sae.folded(scales.inputs, scales.outputs)


def _start(sae: SAE, median: Tensor | None, scales: Scales, latents: Ranks) -> SAE:
    """The SAE, or a slice of it, in the scale of training; one never trained begins at the median.

    The bias of the decoder is then the geometric median of what is reconstructed.
    """
    if "trained_tokens" in sae.meta:
        if scales.shared:
            back = sae.folded(scales.inputs.inverse())
        else:
            back = sae.folded(scales.inputs.inverse(), scales.outputs.inverse())
        return slice_of(back, latents)
    begun = slice_of(sae, latents)
    if median is not None:
        begun.b_dec.data.copy_(scales.outputs(median.unsqueeze(0)).squeeze(0))
    return begun


def _median(store: ActivationSource, hook: str, config: TrainConfig) -> Tensor | None:
    """The geometric median of the first rows of a hook; None where there are none."""
    sample: list[Tensor] = []
    for x in store.batches(config.batch_tokens, seed=config.seed, hook_name=hook):
        sample.append(x)
        if sum(map(len, sample)) >= _MEDIAN_TOKENS:
            break
    return geometric_median(torch.cat(sample)[:_MEDIAN_TOKENS]) if sample else None


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


def _identity(
    sae: SAE, store: ActivationSource, hook: str, config: TrainConfig, latents: Ranks
) -> dict[str, Any]:
    """What must be equal for two runs to be the same run."""
    manifest = {key: value for key, value in store.manifest.items() if key != "versions"}
    is_part = len(sae.W_dec) < sae.config.n_latents
    start = {
        name: (latents if is_part and name in sae.by_latent else ALONE).total(_sum_of_bits(tensor))
        for name, tensor in sae.state_dict().items()
    }
    moments = store.moments(hook)
    rows = {"rows": store.n_tokens, "norm": moments.mean_sq_norm, "mean": float(moments.mean.sum())}
    return {
        "sae": sae.config.model_dump(mode="json"),
        "start": fingerprint(start),
        "train": config.identity,
        "store": fingerprint({**manifest, **rows}),
        "hook_name": hook,
    }


def _sum_of_bits(tensor: Tensor) -> int:
    """A number that tells weights apart; integers, so that parts add up to it exactly."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.detach().contiguous().view(kinds[tensor.element_size()])
    return int(bits.sum(dtype=torch.int64))


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
