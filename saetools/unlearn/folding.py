"""Fold an affine map of a site into the weights that write it.

A site that one linear map writes, y = W x + c, and that is then mapped, y' = A y + b, is written by
W' = A W, c' = A c + b: exactly, at every token, padding and special tokens included. That holds for
`mlp_out.<layer>` and `attn_out.<layer>` where no norm follows the map. It does not hold for the
residual stream: what reads it reads it through a norm, and past every sublayer it also goes on as
it is, so no weights that follow act as A does.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.errors import ConfigError, ShapeError
from saetools.models.base import SubjectModel
from saetools.models.sites import blocks_of, model_type
from saetools.unlearn.sites import read_rows, write_rows, writer

__all__ = ["fold_affine"]

# Families whose config can give a sublayer biases: the flag, and the maps that it is about.
_FLAGS = {
    "mlp_out": ("mlp_bias", ("gate_proj", "up_proj", "down_proj")),
    "attn_out": ("attention_bias", ("q_proj", "k_proj", "v_proj", "o_proj")),
}
_FLAGGED = ("llama",)


@torch.no_grad()
def fold_affine(
    model: SubjectModel,
    hook_name: str,
    a: Float[Tensor, "d d"],
    b: Float[Tensor, " d"],
) -> None:
    """Change the weights of `model` so that the site gives x Aᵀ + b where it gave x.

    Raises:
        ConfigError: no linear map writes the site, or b is not 0 and the map can have no bias.
        ShapeError: A and b are of another width than the site.
    """
    linear = writer(model, hook_name)
    width = model.width(hook_name)
    if tuple(a.shape) != (width, width) or tuple(b.shape) != (width,):
        raise ShapeError(
            f"an affine map of {hook_name} has A ({width}, {width}) and b ({width},); got "
            f"{tuple(a.shape)} and {tuple(b.shape)}; use the eraser of that hook"
        )
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    if getattr(linear, "bias", None) is None and bool(b.any()):
        _give_bias(model, hook_name)
        linear = writer(model, hook_name)
    write_rows(linear, read_rows(linear).double().cpu() @ a.T)
    bias = getattr(linear, "bias", None)
    if bias is not None:
        bias.copy_((bias.double().cpu() @ a.T + b).to(bias.device, bias.dtype))


def _give_bias(model: SubjectModel, hook_name: str) -> None:
    """Give the maps of a sublayer biases of zero in all blocks, and say so in the config."""
    kind = "mlp_out" if "mlp_out" in hook_name else "attn_out"
    flag, names = _FLAGS[kind]
    if model_type(model.hf) not in _FLAGGED:
        raise ConfigError(
            f"folding this eraser into {hook_name} of {model.name} needs a bias there, and models "
            f"of type '{model_type(model.hf)}' have none; use an eraser without an offset (b = 0), "
            "or keep it as a hook"
        )
    setattr(model.hf.config, flag, True)
    for block in blocks_of(model.hf, model.n_layers):
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in names:
                weight = module.weight
                zeros = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
                module.bias = nn.Parameter(zeros)
