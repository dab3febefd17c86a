"""Train with two and three processes what one trains, and leave all results in a folder.

    python parallel_runs.py STORE FOLDER

The processes are forked, because importing torch takes longer than all of the training. Results are
files of tensors that the tests compare; what each process saw is in files of JSON.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import saetools as st
import saetools.train.loop as loop
from saetools.errors import ConfigError, ProcessError
from saetools.sae import ARCHS, Objective
from saetools.sae.slices import slice_of
from saetools.train import TrainConfig, train
from saetools.train.config import AdamConfig
from saetools.train.state import TrainState, step
from saetools.train.team import Team, team_on

NAMES = ("topk", "batch_topk", "matryoshka")
MODES = ("data", "latents")
K = {"k": 3}
L0 = {"target_l0": 3.0}
VARIANTS: dict[str, dict[str, object]] = {  # settings of those that are not told k alone
    "jumprelu": L0,
    "gated": L0,
    "standard": L0,
    "transcoder": {**K, "target_hook_name": "other", "skip": True},
    "topk multi": {**K, "multi": True},
    "matryoshka levels": {**K, "aux": "levels"},
    "matryoshka sampled": {**K, "prefixes": "sampled", "selection": "topk"},
}
CONFIG = TrainConfig(
    n_tokens=24 * 201,
    batch_tokens=201,
    log_tokens=201,
    checkpoint_tokens=4 * 201,
    dead_after_tokens=402,
    k_aux=5,
    lr=2e-3,
    adam=AdamConfig(ema_decay=0.9, max_grad_norm=0.05),
)


def fork(size: int, work: Callable[[int], None], *, codes: Sequence[int] | None = None) -> None:
    """Run `work(rank)` in `size` processes that find each other as torchrun would have it."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = str(place.getsockname()[1])
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            here = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            os.environ |= here | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            try:
                work(rank)
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"rank {rank} of {size}: {error!r}\n")
                os._exit(1)
        children.append(child)
    found = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert found == list(codes or [0] * size), found


def run(name: str, mode: str, out: Path | None, *, part: tuple[int, int] = (0, 1)) -> st.SAE:
    sae = st.build_sae(name, d_in=16, n_latents=499, k=2, seed=1, part=part)
    return train(sae, STORE, CONFIG.model_copy(update={"parallel": mode}), out=out)


def all_pairs(size: int) -> Callable[[int], None]:
    def work(rank: int) -> None:
        for name in NAMES:
            for mode in MODES:
                sae = run(name, mode, FOLDER / f"{name}-{mode}-{size}")
                if sae.device.type != "meta":
                    torch.save(sae.state_dict(), FOLDER / f"{name}-{mode}-{size}.{rank}.pt")
                else:
                    assert rank > 0

    return work


def gradients(label: str, team: Team, mode: str) -> dict[str, torch.Tensor]:
    """Loss and gradients of a batch in float64, put together on the first process."""
    fields = VARIANTS.get(label, K)
    sae = st.build_sae(label.split()[0], d_in=16, n_latents=97, **fields, seed=1).double()  # type: ignore[arg-type]
    x = torch.randn(101, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sae.b_dec.data.normal_(generator=torch.Generator().manual_seed(5)).mul_(0.1)
    rows, latents = team.axes(sae, mode)  # type: ignore[arg-type]
    span = latents.span(97)
    part = slice_of(sae, latents)
    dead = (torch.arange(97) % 3 == 0)[span]
    objective = Objective(16.0, dead=dead, k_aux=4, rows=rows, latents=latents)
    target = x.flip(1) if sae.target_hook_name else None
    loss, found = part.gradients(x, objective, target=target)
    whole = {f"loss.{key}": value for key, value in loss._asdict().items() if key != "counts"}
    whole["loss.counts"] = latents.gather(loss.counts)
    for key, parameter in part.named_parameters():
        block = found[key].block(0, len(parameter), like=parameter)
        whole[key] = latents.gather(block) if key in part.by_latent else block
    return whole


def all_gradients(size: int) -> None:
    def work(rank: int) -> None:
        with team_on(torch.device("cpu")) as team:
            for label in sorted({*ARCHS.names(), *VARIANTS}):
                for mode in MODES:
                    try:
                        told = gradients(label, team, mode)
                    except ConfigError as error:
                        told = {str(error): torch.zeros(0)}
                    torch.save(told, FOLDER / f"gradients-{label}-{mode}-{size}.{rank}.pt")

    fork(size, work) if size > 1 else work(0)


def dying_at(number: int, *, only: int | None = None, by: Callable[[], None]) -> None:
    """Let the step of this number end this process, or the processes of one rank."""
    taken = 0

    def dying(*args: object, **kwargs: object) -> object:
        nonlocal taken
        taken += 1
        if taken == number and only in (None, int(os.environ["RANK"])):
            by()
        return step(*args, **kwargs)  # type: ignore[arg-type]

    loop.step = dying  # type: ignore[assignment]


def noting_the_first_step() -> Callable[[], int]:
    """Let training go on as it is; afterwards the result says with which step it began."""
    seen: list[int] = []

    def noting(state: TrainState, *args: object, **kwargs: object) -> object:
        seen.append(state.n_steps_done)
        return step(state, *args, **kwargs)  # type: ignore[arg-type]

    loop.step = noting  # type: ignore[assignment]
    return lambda: seen[0]


def killed_then(size: int, later: int) -> None:
    """Two modes: all processes die at step 14, and `later` processes go on."""

    def first(rank: int) -> None:
        for mode in MODES:
            dying_at(14, by=lambda: sys.exit("the power goes"))
            try:
                run("matryoshka", mode, FOLDER / f"cut-{mode}-{size}-{later}")
            except SystemExit:
                continue
            raise AssertionError("nothing stopped it")

    def second(rank: int) -> None:
        for mode in MODES:
            begun = noting_the_first_step()
            part = (rank, later) if mode == "latents" else (0, 1)
            sae = run("matryoshka", mode, FOLDER / f"cut-{mode}-{size}-{later}", part=part)
            assert begun() == 12, "went on from the checkpoint at step 12"
            if rank == 0:
                torch.save(sae.state_dict(), FOLDER / f"cut-{mode}-{size}-{later}.pt")

    fork(size, first)
    fork(later, second) if later > 1 else second(0)


def half_written(size: int) -> None:
    """One process dies between the slices of a checkpoint: the older set must be used."""

    def first(rank: int) -> None:
        from saetools.train import member

        save, n_saved = member.save_checkpoint, 0

        def dying(*args: object, **kwargs: object) -> None:
            nonlocal n_saved
            n_saved += 1
            if n_saved == 3 and rank == 1:
                os._exit(7)
            save(*args, **kwargs)  # type: ignore[arg-type]

        member.save_checkpoint = dying
        try:
            run("matryoshka", "latents", FOLDER / "half")
        except ProcessError:
            os._exit(3)

    def second(rank: int) -> None:
        begun = noting_the_first_step()
        sae = run("matryoshka", "latents", FOLDER / "half")
        assert begun() == 8, "went on from the checkpoint at step 8"
        if rank == 0:
            torch.save(sae.state_dict(), FOLDER / "half.pt")

    fork(size, first, codes=(3, 7))
    fork(size, second)


def signalled() -> None:
    """SIGTERM reaches one of two processes; both stop after the same step and can go on."""

    def first(rank: int) -> None:
        dying_at(5, only=1, by=lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            run("topk", "latents", FOLDER / "signalled")
        except KeyboardInterrupt as stop:
            (FOLDER / f"signalled.{rank}.json").write_text(json.dumps(str(stop)))

    def second(rank: int) -> None:
        sae = run("topk", "latents", FOLDER / "signalled")
        if rank == 0:
            torch.save(sae.state_dict(), FOLDER / "signalled.pt")

    fork(2, first)
    fork(2, second)


def failing() -> None:
    """One of two processes ends in the middle of a step."""

    def work(rank: int) -> None:
        dying_at(5, only=1, by=lambda: os._exit(9))
        begun = time.monotonic()
        try:
            run("topk", "data", None)
        except ProcessError as error:
            told = {"error": str(error), "seconds": time.monotonic() - begun}
            (FOLDER / "failing.json").write_text(json.dumps(told))
            os._exit(3)

    fork(2, work, codes=(3, 9))


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation made."""

    n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                self.n_bytes = max(self.n_bytes, tensor.untyped_storage().nbytes())
        return out


def memory(size: int) -> None:
    """What a process holds between steps, and the largest tensor of a step."""

    def work(rank: int) -> None:
        held: dict[str, int] = {}

        def measuring(state: TrainState, *args: object, **kwargs: object) -> object:
            kept = (*state.sae.parameters(), *state.optimizer.state().values())
            held["held"] = sum(tensor.numel() * tensor.element_size() for tensor in kept)
            with Largest() as largest:
                report = step(state, *args, **kwargs)  # type: ignore[arg-type]
            held["largest"] = max(held.get("largest", 0), largest.n_bytes)
            return report

        loop.step = measuring  # type: ignore[assignment]
        sae = st.build_sae("batch_topk", d_in=16, n_latents=12_000, k=2, seed=1, part=(rank, size))
        short = CONFIG.model_copy(
            update={
                "parallel": "latents", "n_tokens": 400, "batch_tokens": 100,
                "dead_after_tokens": 10_000, "adam": AdamConfig(),
            }
        )  # fmt: skip
        train(sae, STORE, short)
        (FOLDER / f"memory-{size}.{rank}.json").write_text(json.dumps(held))

    fork(size, work)


def refused() -> None:
    """More processes than latents; and a folder that the processes do not share."""

    def work(rank: int) -> None:
        told = []
        sae = st.build_sae("topk", d_in=16, n_latents=1, k=1)
        latents = CONFIG.model_copy(update={"parallel": "latents"})
        own = FOLDER / f"own{rank}"
        for attempt in (
            lambda: train(sae, STORE, latents),
            lambda: run("topk", "data", own),
        ):
            try:
                attempt()
            except st.SaetoolsError as error:
                told.append(f"{type(error).__name__}: {error}")
        (FOLDER / f"refused.{rank}.json").write_text(json.dumps(told))

    os.environ["RANK"] = "0"  # one process that stops, so that own0 has a checkpoint and own1 none
    dying_at(6, by=lambda: sys.exit("the power goes"))
    with suppress(SystemExit):
        run("topk", "data", FOLDER / "own0")
    del os.environ["RANK"]
    loop.step = step
    fork(2, work)


if __name__ == "__main__":
    torch.set_num_threads(1)
    STORE, FOLDER = st.ActivationStore.open(sys.argv[1]), Path(sys.argv[2])
    for one in NAMES:
        torch.save(run(one, "data", FOLDER / f"{one}-1").state_dict(), FOLDER / f"{one}.pt")
    for n_processes in (2, 3):
        fork(n_processes, all_pairs(n_processes))
        memory(n_processes)
        all_gradients(n_processes)
    memory(1)
    all_gradients(1)
    killed_then(2, 2)
    killed_then(2, 3)
    killed_then(3, 1)
    half_written(2)
    signalled()
    failing()
    refused()
