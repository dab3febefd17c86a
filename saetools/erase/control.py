"""The control of a latent-based eraser: random latents that fire as often and move rows as far.

Whatever such a control achieves is owed to the size of the edit, not to the choice of latents.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.erase.base import Eraser
from saetools.erase.fit import apply_rows
from saetools.erase.latent_stats import latent_stats
from saetools.erase.latents import LatentEraser
from saetools.erase.rows import LabelledRows
from saetools.errors import ConfigError
from saetools.repro import generator

__all__ = ["random_control"]

_NEAREST = 8
_BISECTIONS = 3


def random_control(eraser: Eraser, rows: LabelledRows, *, seed: int = 0) -> Eraser:
    """The same eraser on random latents of the same firing rates, scaled to the same edit norm.

    Each latent is replaced by one of the eight others whose firing rate on all rows is nearest; the
    change is scaled until its mean norm over all rows is the eraser's.

    Args:
        eraser: one through an SAE that has chosen latents.
        rows: those it was fitted on.
        seed: which of the eight.

    Raises:
        ConfigError: the eraser has no latents, the dictionary no others that fire, or the random
            latents change nothing.
    """
    if not isinstance(eraser, LatentEraser) or eraser.sae is None:
        raise ConfigError(f"a {eraser.kind} eraser has no latents to replace by random ones")
    chosen = eraser.tensors["latents"].cpu()
    if not len(chosen):
        raise ConfigError(
            f"this {eraser.kind} eraser chose no latents ({eraser.config}); its control is the "
            "variant without an SAE"
        )
    rate = latent_stats(eraser.sae, rows.x).rate
    latents = _like(rate, chosen, seed)
    tensors = eraser.tensors_of(latents, rows, eraser.config, eraser.sae)
    held = {"mean": eraser.tensors["mean"], **tensors}
    held = {name: tensor.to(eraser.device).contiguous() for name, tensor in held.items()}
    note = "a control: random latents of the firing rates of the chosen ones, equal edit norm"
    report = replace(eraser.report, evidence=(), notes=(note,))
    control = replace(eraser, tensors=held, report=report)
    wanted = _norm(eraser, rows)
    scale = 1.0
    for _ in range(_BISECTIONS):  # once where the edit is linear in the scale; gates are not
        found = _norm(control, rows)
        if found == 0:
            raise ConfigError(
                f"{len(latents)} random latents of like firing rate change no row, so no scale "
                "makes their edit as large; the eraser's latents are unlike all others"
            )
        scale *= wanted / found
        held = {**control.tensors, "scale": torch.tensor(scale, device=eraser.device)}
        control = replace(control, tensors=held)
    return control


def _like(
    rate: Float[Tensor, " n_latents"], chosen: Int[Tensor, " m"], seed: int
) -> Int[Tensor, " m"]:
    """A latent for each chosen one, none of them chosen, each taken once."""
    free = rate > 0
    free[chosen] = False
    if int(free.sum()) < len(chosen):
        raise ConfigError(
            f"a control needs {len(chosen)} other latents that fire, and the dictionary has "
            f"{int(free.sum())}; choose fewer latents"
        )
    source = generator(seed, "control")
    found = []
    for latent in chosen.tolist():
        gap = torch.where(free, (rate - rate[latent]).abs(), torch.inf)
        near = gap.argsort(stable=True)[: min(_NEAREST, int(free.sum()))]
        pick = int(near[int(torch.randint(len(near), (1,), generator=source))])
        found.append(pick)
        free[pick] = False
    return torch.tensor(found)


def _norm(eraser: Eraser, rows: LabelledRows) -> float:
    return float((apply_rows(eraser, rows) - rows.x).norm(dim=1).mean())
