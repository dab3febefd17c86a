"""Training the models of a recipe one after the other, each into its folder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from saetools.errors import ConfigError, nearest
from saetools.testbed.folder import Measured, is_finished, read_recall, save_trained
from saetools.testbed.recipe import VARIANTS, Recipe
from saetools.testbed.train import train_model

__all__ = ["train_planted"]


def train_planted(
    recipe: Recipe,
    *,
    out: Path,
    variants: Sequence[str] = tuple(VARIANTS),
    device: torch.device | str = "cpu",
    resume: bool = True,
) -> dict[str, Measured]:
    """Train models on the planted world; what is finished is not done again.

    Args:
        recipe: the settings.
        out: folder that gets a folder for each variant.
        variants: which models: "base", "oracle-0", "oracle-1".
        device: where to train.
        resume: keep what is finished and go on with what was begun.

    Returns:
        The measured recall of each variant.

    Raises:
        ConfigError: there is no such variant, or a folder holds a model of other settings.
    """
    for name in variants:
        if name not in VARIANTS:
            raise ConfigError(
                f"no variant named '{name}'; did you mean '{nearest(name, VARIANTS, n=1)[0]}'? "
                f"Known: {', '.join(VARIANTS)}"
            )
    found: dict[str, Measured] = {}
    for name in variants:
        variant, folder = VARIANTS[name], out / name
        if not (resume and is_finished(folder, recipe, variant)):
            work = out / f"{name}.training"
            trained = train_model(recipe, variant, folder=work, device=device, resume=resume)
            save_trained(trained, recipe, variant, folder)
        found[name] = read_recall(folder)["recall"]
    return found
