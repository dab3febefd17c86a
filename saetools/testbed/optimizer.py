"""The optimizer of the planted models: Muon for the matrices inside blocks, AdamW for the rest.

Muon (Jordan et al. 2024) learns facts that are seldom read in fewer tokens than AdamW. Its updates
are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so one learning rate serves
both.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from saetools.errors import ConfigError

__all__ = ["PlantedOptimizer"]


class PlantedOptimizer:
    """Two optimizers that step together.

    Args:
        model: a Llama of transformers.
        weight_decay: of the matrices inside blocks and of the embedding.
    """

    def __init__(self, model: nn.Module, *, weight_decay: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"training a planted model needs torch.optim.Muon, and torch {torch.__version__} "
                "has none; install torch 2.9 or newer (the shipped models need no training)"
            )
        named = list(model.named_parameters())
        inside = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        embedding = [p for name, p in named if p.ndim == 2 and "embed" in name]
        gains = [p for _, p in named if p.ndim < 2]
        self._both: tuple[torch.optim.Optimizer, torch.optim.Optimizer] = (
            torch.optim.Muon(
                inside, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(
                [
                    {"params": embedding, "weight_decay": weight_decay},
                    {"params": gains, "weight_decay": 0.0},
                ],
                lr=0.0,
                betas=(0.9, 0.95),
            ),
        )

    def step(self, lr: float) -> None:
        """Take one step with the gradients that are there."""
        for one in self._both:
            for group in one.param_groups:
                group["lr"] = lr
            one.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self._both:
            one.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {"muon": self._both[0].state_dict(), "adamw": self._both[1].state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        for one, name in zip(self._both, ("muon", "adamw"), strict=True):
            one.load_state_dict(state[name])
