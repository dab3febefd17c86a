"""A control for edits of weights: the original, moved as far in a random direction.

What an edit does that a random change of the same size does, too, is no merit of the edit. The
control is evaluated like any edited model.
"""

import copy

import torch

from saetools.errors import ConfigError
from saetools.evaluate.unlearning.candidate import Candidate, read_weights
from saetools.models import from_hf
from saetools.models.base import LanguageModel
from saetools.repro import generator

__all__ = ["random_edit"]


def random_edit(original: LanguageModel, edited: Candidate, *, seed: int = 0) -> LanguageModel:
    """A copy of the original, each weight tensor moved as far as in `edited`, but at random.

    Args:
        original: the model before the edit.
        edited: a model of the same weights' names and shapes.
        seed: of the directions.

    Raises:
        ConfigError: the edit changed no weight (a hook does not), or the weights do not fit.
    """
    before, after = read_weights(original), read_weights(edited)
    if {n: w.shape for n, w in before.items()} != {n: w.shape for n, w in after.items()}:
        raise ConfigError(
            f"asked for a random edit as large as that of {edited.name}, whose weights have other "
            f"names or shapes than those of {original.name}; give two models of one architecture"
        )
    hf = copy.deepcopy(original.hf)
    moved = 0
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            size = (after[name].detach().to(weight.device).float() - weight.float()).norm()
            if size == 0:
                continue
            noise = torch.randn(weight.shape, generator=generator(seed, "random edit", name))
            noise = noise.to(weight.device)
            weight.add_((noise * (size / noise.norm())).to(weight.dtype))
            moved += 1
    if moved == 0:
        raise ConfigError(
            f"asked for a random edit as large as that of {edited.name}, which changed no weight; "
            "the control of an edit by hooks is the same intervention on random latents"
        )
    model = from_hf(
        hf, original.tokenizer, kind="language_model", name=f"{original.name} at random"
    )
    assert isinstance(model, LanguageModel)
    return model
