"""OpenAI's sparse_autoencoder: one `.pt` with a state dict and its activation (Gao et al. 2024).

    TopK: x' = (x − mean) / (std + 1e-5), std with n − 1; otherwise x' = x, mean 0, std 1
    a = (x' − pre_bias) @ encoder.weightᵀ + latent_bias
    latents: relu of the k largest a, or relu(a)
    x_hat = (latents @ decoder.weightᵀ + pre_bias) · std + mean

That a TopK SAE normalises its input is nowhere in the file: their loader decides it by the name of
the activation, so a TopK SAE that does not normalise cannot be written here (`steerers` can).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Format, Note, need
from saetools.formats.formulas import Formula, Reading
from saetools.formats.pre_biased import pre_biased, pre_biased_formula
from saetools.formats.safety import read_torch, torch_keys
from saetools.formats.settings import whole
from saetools.sae import INPUT_NORMS, SAE, Normed

__all__ = ["OpenAI"]

_NAMES = ("encoder.weight", "pre_bias", "latent_bias")
_EPS = 1e-5


@FORMATS.register("openai")
class OpenAI(Format):
    """One file of OpenAI's library."""

    title = "OpenAI sparse_autoencoder file"
    files = "one `.pt`"
    one_file = True
    holds: ClassVar[Mapping[str, str]] = {
        "standard": "ReLU",
        "topk": "TopK, if it reads layer-normed tokens (an SAE read from this format does)",
    }
    keeps = ("reconstruction", "latents", "layer-norm inputs")
    loses = ("everything that is no weight: hook, model", "settings of training")

    def detect(self, path: Path) -> bool:
        """By the keys of the state dict, read without a tensor."""
        if path.suffix not in (".pt", ".pth") or not path.is_file():
            return False
        try:
            return set(_NAMES) <= set(torch_keys(path))
        except FormatError:  # another tool's file, which may well hold objects
            return False

    def read(self, path: Path) -> Foreign:
        """Read a file."""
        content = read_torch(path)
        held = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        need(held, _NAMES, where=path)
        # A tied decoder is saved under the name of the layer that it is tied to, or not at all.
        decoder = held.get("decoder.weight", held["encoder.weight"].T)
        k = _k(content, path)
        W_enc, W_dec = held["encoder.weight"].T, decoder.T
        sae = pre_biased(W_enc, W_dec, held["pre_bias"], held["latent_bias"], k=k, meta={})
        formula = pre_biased_formula(W_enc, W_dec, held["pre_bias"], held["latent_bias"], k=k)
        notes = (Note("hook_name", "not in the file; set sae.meta['hook_name']"),)
        if k is None:
            return Foreign(sae, formula, notes)
        norm = Note("layer_norm", "kept; latents are in the units of the raw input: times its std")
        return Foreign(
            INPUT_NORMS.get("layer_norm")(eps=_EPS)(sae), _normed(formula), (*notes, norm), _std
        )

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write one file, float32."""
        activation, state = _activation(sae)
        tensors = sae.state_dict()
        n_latents = sae.config.n_latents
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "pre_bias": tensors["b_dec"],
            "latent_bias": tensors["b_enc"],
            "stats_last_nonzero": torch.zeros(n_latents, dtype=torch.long),
            "latents_activation_frequency": torch.ones(n_latents),
            "latents_mean_square": torch.zeros(n_latents),
            "encoder.weight": tensors["W_enc_rows"],
            "decoder.weight": tensors["W_dec"].T,
        }
        saved: dict[str, Any] = {
            name: value.detach().cpu().contiguous() for name, value in content.items()
        }
        torch.save(saved | {"activation": activation, "activation_state_dict": state}, path)
        return (Note("lost", f"hook_name {sae.meta.get('hook_name')!r}"),)


def _k(content: Mapping[str, Any], path: Path) -> int | None:
    """k of a TopK SAE; None of a ReLU SAE."""
    activation, state = content.get("activation", "ReLU"), content.get("activation_state_dict", {})
    if activation == "ReLU":
        return None
    after = state.get("postact_fn", "ReLU") if isinstance(state, Mapping) else None
    if activation != "TopK" or after != "ReLU":
        raise FormatError(
            f"{path} has the activation {activation!r} (then {after!r}), so latents can be "
            "negative, ours cannot; ReLU, and TopK with ReLU, can be converted"
        )
    return whole(state, "k", where=path)


def _activation(sae: SAE) -> tuple[str, dict[str, Any]]:
    """The name and the state that say how latents are selected."""
    kind, normed = sae.config.type, isinstance(sae, Normed)
    if kind == "standard" and not normed:
        return "ReLU", {}
    k = getattr(sae.config, "k", None)
    by_token = kind == "topk" and getattr(sae.norm, "eps", None) == _EPS if normed else False
    if by_token:
        return "TopK", {"k": k, "postact_fn": "ReLU"}
    if kind == "topk" and not normed:
        raise FormatError(
            "OpenAI's loader layer-normalises the input of every TopK SAE, and this one reads raw "
            "activations; write it as steerers, which is the same file without that"
        )
    raise FormatError(
        f"OpenAI's files hold ReLU SAEs and TopK SAEs over layer-normed tokens; this is a {kind} "
        "SAE; `saetools convert --help` names the formats that are written"
    )


def _normed(inner: Formula) -> Formula:
    def formula(x: Tensor) -> Reading:
        mean, std = x.mean(dim=-1, keepdim=True), _std(x)
        read = inner((x - mean) / (std + _EPS))
        return read._replace(x_hat=read.x_hat * std + mean)

    return formula


def _std(x: Tensor) -> Tensor:
    return x.std(dim=-1, keepdim=True)
