"""Build an SAE by the name of its architecture."""

from collections.abc import Mapping
from typing import Any

from saetools.config import validate
from saetools.sae.base import ARCHS, SAE
from saetools.sae.config import SAEConfig
from saetools.sae.init import only_part

__all__ = ["build_sae", "sae_config"]


def build_sae(
    type: str,
    *,
    d_in: int,
    n_latents: int,
    seed: int = 0,
    meta: Mapping[str, Any] | None = None,
    part: tuple[int, int] = (0, 1),
    **fields: Any,
) -> SAE:
    """Build an untrained SAE.

    Args:
        type: architecture, e.g. "topk", "batch_topk", "matryoshka".
        d_in: width of the activations it will read.
        n_latents: size of the dictionary.
        seed: of the initial weights.
        meta: where it comes from; shown, saved, never computed with.
        part: (rank, size): with the latents of one of `size` processes alone, for training with
            `parallel="latents"` a dictionary that no process can hold whole.
        fields: what else the architecture's config takes, e.g. k, widths.

    Raises:
        UnknownNameError: no such architecture.
        ConfigError: a field is unknown or out of range.

    >>> build_sae("topk", d_in=64, n_latents=256, k=8).config.k
    8
    """
    config = sae_config({"type": type, "d_in": d_in, "n_latents": n_latents, **fields})
    with only_part(*part):
        return ARCHS.get(type)(config, meta=meta, seed=seed)


def sae_config(fields: Mapping[str, Any]) -> SAEConfig:
    """Validate a mapping of fields with the config of the architecture that its `type` names."""
    kind = str(fields.get("type"))
    return validate(ARCHS.get(kind).Config, fields, what=f"SAE architecture '{kind}'")
