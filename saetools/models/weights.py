"""Telling whether two models have the same weights, and whether one has changed."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightStamp", "fingerprint_weights", "weight_stamp"]

WeightStamp = tuple[tuple[int, int], ...]


def fingerprint_weights(module: nn.Module) -> str:
    """Return a hash (16 hex digits) of all tensors of the state dict: names, shapes, types, bytes.

    A model that transformer_lens has wrapped gives the fingerprint it had before.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_state(module), key=lambda item: item[0]):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        if tensor.is_quantized:
            digest.update(_quantizer(tensor).encode())
            tensor = tensor.int_repr()
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        # NumPy knows no bfloat16, but it knows bytes.
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def weight_stamp(module: nn.Module) -> WeightStamp:
    """Return something cheap that differs after any in-place or wholesale change of the weights.

    Writing through `.data` is the one change that torch does not count.
    """
    return tuple((tensor.data_ptr(), tensor._version) for _, tensor in _state(module))


def _state(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Walk the state dict, seeing through the wrappers that transformer_lens adds."""
    wrapper = ""
    while isinstance(inner := module._modules.get("_original_component"), nn.Module):
        wrapper = type(module).__name__
        module = inner
    kept = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
    for name, tensor in [*module._parameters.items(), *kept.items(), *_packed(module)]:
        if tensor is None:
            continue
        # An unembedding without bias was given one of zeros.
        if wrapper == "UnembeddingBridge" and name == "bias" and not bool(tensor.any()):
            continue
        yield f"{prefix}{name}", tensor
    for name, child in module._modules.items():
        if child is not None:
            yield from _state(child, f"{prefix}{name}.")


def _packed(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that a module saves and that are no parameters: quantized weights, scales."""
    saved: dict[str, Any] = {}
    module._save_to_state_dict(saved, "", keep_vars=True)
    for name in saved.keys() - module._parameters.keys() - module._buffers.keys():
        value = saved[name]
        parts = value if isinstance(value, tuple | list) else [value]
        for i, part in enumerate(parts):
            if isinstance(part, Tensor):
                yield f"{name}.{i}", part


def _quantizer(tensor: Tensor) -> str:
    """How the integers of a quantized tensor become numbers."""
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return f"{tensor.q_scale()}|{tensor.q_zero_point()}|"
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return f"{scales.tolist()}|{zeros.tolist()}|"
