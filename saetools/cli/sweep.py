"""A sweep: run folders that share one store, below the folder of the run that harvested it.

Each member is a run folder like any other: its store is a link to the one of the run, so every
command works on it. Settings of the grid are overrides; the grid is their product.
"""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from saetools.cli.find import open_run
from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder
from saetools.cli.stamps import FORMAT, read_stamps
from saetools.cli.training import books, build, figures_of, health_of, is_first, settings
from saetools.errors import ConfigError

if TYPE_CHECKING:  # a type only: `--help` must not pay for torch (2.4 s)
    from saetools.sae import SAE

__all__ = ["members_of", "plan_sweep", "run_sweep"]

_MOST = 100
_SHOWN = ("fvu", "l0", "dead_fraction", "duplicate_fraction")


def members_of(
    run: str, overrides: Sequence[str], grid: Sequence[str], *, base: RunFolder
) -> list[RunFolder]:
    """One run folder for each combination of the grid, checked; nothing is written.

    Args:
        run: what the user named: a YAML file, or a run folder.
        overrides: settings that all members share.
        grid: `KEY=VALUE,VALUE,...` or `KEY=[VALUE, VALUE, ...]`, one a key.
        base: the run that harvested the store.

    Raises:
        ConfigError: a key that decides what is read, too many members, or a wrong setting.
    """
    axes = [_axis(text) for text in grid]
    combinations = list(itertools.product(*(values for _, values in axes)))
    if len(combinations) > _MOST:
        raise ConfigError(
            f"the sweep has {len(combinations)} members and all of them are in memory at once; "
            f"ask for at most {_MOST}"
        )
    device = base.config.subject.device
    found = []
    for values in combinations:
        settings = [f"{key}={value}" for (key, _), value in zip(axes, values, strict=True)]
        name = "-".join(_slug(setting) for setting in settings)
        folder = base.path / "sweep" / name
        shared = [*overrides, f"subject.device={device}", *settings]
        found.append(open_run(run, shared, out=folder, seed=base.config.seed))
    names = [member.path.name for member in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"the sweep names a combination twice: {', '.join(names)}")
    return found


def plan_sweep(base: RunFolder, members: Sequence[RunFolder]) -> Outcome:
    """What a sweep would train; nothing is written."""
    base.plan("train")
    rows = [
        {
            "member": member.path.name,
            "type": member.config.sae.type,
            **member.config.sae.fields,
            "state": "is there" if member.up_to_date("train") else "to be made",
        }
        for member in members
    ]
    columns = dict.fromkeys(key for row in rows for key in row)
    table = [{key: row.get(key) for key in columns} for row in rows]
    return Outcome(f"dry run: {len(members)} SAEs in one pass, nothing is written", table=table)


def run_sweep(base: RunFolder, members: Sequence[RunFolder], *, resume: bool = True) -> Outcome:
    """Train all members on one read of the store."""
    # heavy: torch
    from saetools.processes import use_own_gpu
    from saetools.train import train_many

    use_own_gpu()
    named = {member.path.name: member for member in members}
    done_before = {name: resume and member.up_to_date("train") for name, member in named.items()}
    with ExitStack() as stack, base.store() as store:
        for member in members:
            if is_first():
                _share_store(base, member)
            stack.enter_context(books(member, "train"))
        saes = train_many(
            {name: build(member, store) for name, member in named.items()},
            store,
            {name: settings(member) for name, member in named.items()},
            out=members[0].path.parent,
            resume=resume,
            device=members[0].torch_device,
        )
        if not is_first():
            return Outcome("trained by the first process")
        health = {
            name: health_of(member, saes[name], store, made_before=done_before[name])
            for name, member in named.items()
        }
    rows = [
        {"member": name, **{key: health[name].values[key] for key in _SHOWN}, **figures_of(member)}
        for name, member in named.items()
    ]
    warnings = [f"{name}: warning: {w}" for name, found in health.items() for w in found.warnings]
    warnings += _agreement({name: (named[name], sae) for name, sae in saes.items()})
    return Outcome(
        f"trained {len(members)} SAEs in one pass",
        table=rows,
        text="\n".join(warnings),
        wrote=tuple(member.product("train") for member in members),
        next=f"saetools compare {members[0].path.parent}",
    )


def _agreement(trained: Mapping[str, tuple[RunFolder, "SAE"]]) -> list[str]:
    """How far members that differ by `train.init_seed` alone found the same latents."""
    from saetools.train import stability  # heavy: torch

    lines = []
    for (name, (run, sae)), (other, (twin, second)) in itertools.combinations(trained.items(), 2):
        if _but_for_seed(run) == _but_for_seed(twin) and sae.d_out == second.d_out:
            lines.append(f"{name} and {other} agree: {stability(sae, second).sentence}")
    return lines


def _but_for_seed(run: RunFolder) -> dict[str, Any]:
    settings = run.config.model_dump(mode="json", include={"sae", "train"})
    settings["train"].pop("init_seed", None)
    return settings


def _axis(text: str) -> tuple[str, list[str]]:
    """A key of the grid and its values, each as it would stand in an override."""
    import yaml  # 20 ms that --help need not pay

    key, _, values = text.partition("=")
    key = key.strip()
    if not re.fullmatch(r"(sae|train)(\.[A-Za-z_0-9.]+)?", key):
        raise ConfigError(
            f"--sweep {text}: a sweep changes settings of sae or train, which share one store "
            "(e.g. --sweep sae.k=8,16,32); others need a run of their own"
        )
    listed = values if values.strip().startswith("[") else f"[{values}]"
    try:
        found: Any = yaml.safe_load(listed)
    except yaml.YAMLError as error:
        raise ConfigError(f"--sweep {text}: the values are no YAML list: {error}") from error
    if not isinstance(found, list) or not found:
        raise ConfigError(f"--sweep {text}: give values after the =, e.g. --sweep sae.k=8,16,32")
    dump = [yaml.safe_dump(value, default_flow_style=True, width=10_000) for value in found]
    return key, [line.removesuffix("...\n").strip() for line in dump]


def _slug(setting: str) -> str:
    key, _, value = setting.partition("=")
    last = key.rpartition(".")[2]
    return re.sub(r"[^A-Za-z0-9_.]+", "_", f"{last}{value}").strip("_")


def _share_store(base: RunFolder, member: RunFolder) -> None:
    """Give a member the store of the run that harvested it, by a link, with its stamp."""
    # heavy: torch
    from saetools.repro import write_json

    member.path.mkdir(parents=True, exist_ok=True)
    link, target = member.product("harvest"), base.product("harvest")
    if not link.exists():
        link.unlink(missing_ok=True)  # a link that leads nowhere
        link.symlink_to(os.path.relpath(target.resolve(), member.path.resolve()))
    stamps = read_stamps(member.path)
    if "harvest" not in stamps:
        stamps["harvest"] = read_stamps(base.path)["harvest"]
        write_json(member.path / "run.json", {"format": FORMAT, "stages": stamps})
