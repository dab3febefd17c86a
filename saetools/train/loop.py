"""Train SAEs from a store: one loop, for every architecture, and for one SAE or many.

config → state → step. Batches come shuffled from the store; several SAEs share one read of it.
Figures go to the sinks of each; the state goes to a checkpoint now and then and when the run is
interrupted. At the end the scale of training is folded into the weights, and the inference
threshold is calibrated where there is one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError, StoreError
from saetools.interrupt import deferred_interrupt
from saetools.sae import SAE
from saetools.store import ActivationSource
from saetools.train.checkpoint import newest_checkpoint
from saetools.train.config import TrainConfig
from saetools.train.member import Member
from saetools.train.metrics_log import live_figures
from saetools.train.state import StepReport, step
from saetools.train.team import Team, team_on

__all__ = ["train", "train_many"]

_MOST_FVU = 100.0  # predicting the mean has 1; a run above this does not come back


def train(
    sae: SAE,
    store: ActivationSource,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    hook_name: str | None = None,
    resume: bool = True,
    device: str | torch.device | None = None,
) -> SAE:
    """Train a copy of `sae` on the training split of a store and return it, ready for use.

    Args:
        sae: from `build_sae`; not changed.
        store: activations, a store or an `ActivationStream`; rows of held-out documents are never
            trained on.
        config: lengths, learning rate and so on; the defaults suit a few million tokens.
        out: folder for metrics.jsonl and metrics.csv, the checkpoint and the finished SAE
            (`out/sae`); None writes nothing.
        hook_name: which hook of the store; its first one by default.
        resume: go on from the checkpoint in `out`, or return its finished SAE, if one is there and
            belongs to this run; False starts again.
        device: where training runs; the SAE's own by default.

    Started by torchrun, every process makes the same call and `config.parallel` says what they
    share; the first one writes. With slices of the dictionary only the first gets an SAE with
    weights, in host memory; that of the others is on torch's device "meta".

    Raises:
        ShapeError: the SAE reads another width than the store has.
        HookNotFoundError: the store lacks the hook.
        StoreError: a batch has NaN or infinite numbers, or the store has no rows to train on.
        ConfigError: `out` holds another run; a package that `config.log_to` needs is missing; or
            the loss diverges (the last checkpoint is kept).
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    folder = None if out is None else Path(out)
    config = config or TrainConfig()
    place = torch.device(device or sae.device)
    with team_on(place) as team:
        member = Member.begin(
            "",
            sae,
            store,
            config,
            folder=folder,
            hook=hook_name,
            resume=resume,
            team=team,
            device=place,
        )
        return _train([member], store, team)[0]


def train_many(
    saes: Mapping[str, SAE],
    store: ActivationSource,
    config: TrainConfig | Mapping[str, TrainConfig] | None = None,
    *,
    out: str | Path | None = None,
    hook_name: str | None = None,
    resume: bool = True,
    device: str | torch.device | None = None,
) -> dict[str, SAE]:
    """Train several SAEs in one pass over the store; each ends as `train` alone would end it.

    Args:
        saes: from `build_sae`, by a name that is the folder of each below `out`.
        config: one for all, or one a name; they may differ in all but `n_tokens`, `batch_tokens`
            and `seed`, which decide what is read.

    Raises:
        ConfigError: the configs ask for different rows, or what `train` raises it for.
    """
    configs = (
        dict(config)
        if isinstance(config, Mapping)
        else dict.fromkeys(saes, config or TrainConfig())
    )
    _refuse_other_rows(configs)
    places = {name: torch.device(device or sae.device) for name, sae in saes.items()}
    with team_on(next(iter(places.values()), torch.device("cpu"))) as team:
        members = [
            Member.begin(
                name,
                sae,
                store,
                configs[name],
                folder=None if out is None else Path(out) / name,
                hook=hook_name,
                resume=resume,
                team=team,
                device=places[name],
            )
            for name, sae in saes.items()
        ]
        return dict(zip(saes, _train(members, store, team), strict=True))


def _refuse_other_rows(configs: Mapping[str, TrainConfig]) -> None:
    rows = {
        name: (config.n_tokens, config.batch_tokens, config.seed)
        for name, config in configs.items()
    }
    if len(set(rows.values())) > 1:
        found = "; ".join(f"{name}: {value}" for name, value in rows.items())
        raise ConfigError(
            "SAEs that are trained together read the same batches, so n_tokens, batch_tokens and "
            f"seed must be equal; found {found}; train the others in a run of their own"
        )


def _train(members: Sequence[Member], store: ActivationSource, team: Team) -> list[SAE]:
    """Take all steps that are left, then finish every member."""
    left = [member for member in members if not member.finished]
    if left:
        _take_steps(left, store, team)
    return [member.result(store) for member in members]


def _take_steps(members: Sequence[Member], store: ActivationSource, team: Team) -> None:
    """Take all steps that are left; on an interrupt write checkpoints first."""
    config = members[0].config
    begun = min(member.state.n_steps_done for member in members)
    with (
        progress.task("train", total=config.n_steps, unit="steps") as bar,
        deferred_interrupt(echo_seconds=team.echo_seconds) as interrupted,
        ExitStack() as logs,
    ):
        for member in members:
            logs.enter_context(member.log)
        bar.advance(begun)
        for done, (x, target) in enumerate(_batches(members[0], store, start=begun), start=begun):
            for member in members:
                if member.state.n_steps_done == done:
                    _take_step(member, x, target, bar)
            bar.advance()
            if team.any(interrupted()):
                _stop(members, done + 1)


def _take_step(member: Member, x: Tensor, target: Tensor | None, bar: progress.Task) -> None:
    state, config = member.state, member.config
    report = step(
        state,
        x.to(state.sae.device, non_blocking=True),
        config,
        member.scales,
        target=None if target is None else target.to(state.sae.device, non_blocking=True),
    )
    row = member.log.add(report, state, n_tokens=len(x))
    every = max(1, config.checkpoint_tokens // config.batch_tokens)
    due = member.folder is not None and state.n_steps_done % every == 0
    # To look at a figure makes a GPU wait, so there it is done only when one is due anyway.
    if row is not None or due or state.sae.device.type == "cpu":
        _refuse_divergence(member, report, row)
    if row is not None:
        bar.row(member.name, live_figures(row))
    if due:
        member.save()


def _stop(members: Sequence[Member], n_steps_done: int) -> None:
    """Write checkpoints and say what to do next."""
    kept = [str(path) for member in members if (path := member.save()) is not None]
    where = f"run it again to go on from {', '.join(kept)}" if kept else "nothing saved"
    raise KeyboardInterrupt(
        f"training stopped after step {n_steps_done} of {members[0].config.n_steps}; {where}"
    )


def _batches(
    member: Member, store: ActivationSource, *, start: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Batches `start` to the last, epoch after epoch, with what they should become."""
    config, target_hook = member.config, member.target_hook
    size, per_epoch = config.batch_tokens, store.n_batches(config.batch_tokens)
    if per_epoch == 0:
        raise StoreError(
            f"{store!r} has no rows to train on: all its documents are held out; "
            "harvest more documents, or with a smaller held_out_fraction"
        )
    on_gpu = member.state.sae.device.type == "cuda"

    def rows(hook: str, epoch: int, first: int) -> Iterator[Tensor]:
        return store.batches(
            size,
            seed=config.seed,
            epoch=epoch,
            start=first,
            hook_name=hook,
            pin_memory=on_gpu,
        )

    done = start
    while done < config.n_steps:
        epoch, first = divmod(done, per_epoch)
        # The order is a function of (seed, epoch) alone, so two hooks stay in step.
        targets: Iterator[Tensor | None] = (
            iter(lambda: None, 0) if target_hook is None else rows(target_hook, epoch, first)
        )
        pairs = zip(rows(member.hook, epoch, first), targets, strict=False)
        for x, target in islice(pairs, config.n_steps - done):
            _refuse_broken_rows(store, member.hook, x, done)
            if target is not None and target_hook is not None:
                _refuse_broken_rows(store, target_hook, target, done)
            yield x, target
            done += 1


def _refuse_broken_rows(store: ActivationSource, hook: str, x: Tensor, done: int) -> None:
    if not math.isfinite(float(x.sum())) and not bool(x.isfinite().all()):
        raise StoreError(
            f"batch {done} of {store!r} has NaN or infinite activations at {hook} "
            f"({int((~x.isfinite()).any(1).sum()):,} of {len(x):,} rows); the store is damaged or "
            "was not written by a harvest: look at it with `saetools store verify`"
        )


def _refuse_divergence(member: Member, report: StepReport, row: Mapping[str, Any] | None) -> None:
    loss, fvu = float(report.loss), float(report.fvu)
    if math.isfinite(loss) and (row is None or row["fvu"] is None or row["fvu"] < _MOST_FVU):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"fvu is {fvu:.3g}"
    kept = "nothing was saved"
    if member.folder is not None and (found := newest_checkpoint(member.folder)):
        kept = f"the checkpoint {found[0]} is from before"
    named = f" of '{member.name}'" if member.name else ""
    raise ConfigError(
        f"{what} at step {member.state.n_steps_done}{named} (learning rate {report.lr:.3g}): "
        f"training diverged; {kept}; lower train.lr"
    )
