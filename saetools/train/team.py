"""The processes that train together: who shares what, when all stop, what the first does for all.

torchrun starts them. Each reads the same batches and takes part in every step; the first alone
writes figures, checkpoints and the SAE. This file knows processes, not steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

from saetools import progress
from saetools.errors import ConfigError
from saetools.processes import Meeting, joined, world
from saetools.sae import SAE
from saetools.sae.sharing import ALONE, ProcessRanks, Ranks

__all__ = ["Team", "team_on"]

T = TypeVar("T")

# The slowest step, a checkpoint included; a process that does not answer for longer is given up.
_STEP_PATIENCE = timedelta(minutes=30)

_ECHO_SECONDS = 5.0


@dataclass(frozen=True)
class Team:
    """The processes of a training run; one process by default.

    Args:
        ranks: how they exchange tensors; `ALONE` for one process.
        flags: where they ask each other in every step; None for one process.
        patient: where they wait for work that has no limit of time.
    """

    ranks: Ranks = ALONE
    flags: Meeting | None = None
    patient: Meeting | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.ranks.rank == 0

    @property
    def echo_seconds(self) -> float:
        """For how long after a signal another one is the same, passed on by a launcher."""
        return 0.0 if self.ranks.size == 1 else _ECHO_SECONDS

    def axes(self, sae: SAE, parallel: Literal["data", "latents"]) -> tuple[Ranks, Ranks]:
        """Who shares the rows of a batch and who the latents of `sae`.

        Raises:
            ConfigError: the architecture's latents cannot be shared.
        """
        if parallel == "data" or self.ranks.size == 1:
            return self.ranks, ALONE
        if not sae.by_latent:
            raise ConfigError(
                f"train.parallel: latents was asked for, and a {sae.config.type} SAE of these "
                "settings cannot be trained by slices of its dictionary, as its latents depend on "
                "each other in more than the choice of the largest; use train.parallel: data, "
                "which every architecture takes"
            )
        if sae.config.n_latents < self.ranks.size:
            raise ConfigError(
                f"train.parallel: latents shares {sae.config.n_latents} latents among "
                f"{self.ranks.size} processes, and each needs one at least; start fewer processes"
            )
        return ALONE, self.ranks

    def any(self, yes: bool) -> bool:
        """Whether one of the processes says yes; all ask."""
        return yes if self.flags is None else self.flags.any(yes)

    def first_does(self, work: Callable[[], T]) -> T:
        """Let the first process do something; all get its result, or raise its error."""
        return work() if self.patient is None else self.patient.first_does(work)

    def agree(self, what: str, number: int) -> None:
        """Refuse to go on when the processes found different things.

        Raises:
            ConfigError: they did.
        """
        if self.flags is None:
            return
        found = self.ranks.total(number)
        if self.any(found != self.ranks.size * number):
            raise ConfigError(
                f"the processes of this run do not find the same {what} (here {number:,}); give "
                "them a folder that all of them see, and the same settings"
            )


@contextmanager
def team_on(device: torch.device) -> Iterator[Team]:
    """Meet the other processes, if torchrun started any; the first one alone shows progress."""
    here = world()
    if here.size == 1:
        yield Team()
        return
    with joined(here) as patient:
        host = dist.new_group(backend="gloo", timeout=_STEP_PATIENCE)
        group = host
        if device.type == "cuda":
            group = dist.new_group(backend="nccl", timeout=_STEP_PATIENCE)
        team = Team(ProcessRanks(group, host, device), Meeting(here, host), patient)
        with nullcontext() if team.first else progress.use("silent"):
            yield team
        # Not reached by an error: then the others learn of it by the end of the connections.
        patient.wait()
        for used in {host, group}:
            dist.destroy_process_group(used)
