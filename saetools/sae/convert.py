"""The same SAE in another architecture's form."""

import torch

from saetools.errors import ConfigError, NotFittedError
from saetools.sae.archs.jumprelu import JumpReLU, JumpReLUConfig
from saetools.sae.base import SAE

__all__ = ["to_jumprelu"]

_READS_SAME = ("batch_topk", "matryoshka")


@torch.no_grad()
def to_jumprelu(sae: SAE) -> SAE:
    """The JumpReLU SAE that encodes and decodes exactly as `sae` does with its one threshold.

    The form in which other tools read a BatchTopK or Matryoshka SAE. What has no meaning there is
    lost: the widths of a Matryoshka stay in `meta["widths"]`.

    Raises:
        ConfigError: `sae` selects by rank, or reads and writes different activations.
        NotFittedError: its threshold was never set.
    """
    if sae.config.type not in _READS_SAME or sae.calibrated_l0 is None:
        raise ConfigError(
            f"a {sae.config.type} SAE cannot be written as JumpReLU: that needs one inference "
            f"threshold; {' and '.join(_READS_SAME)} with selection batch_topk have one"
        )
    threshold = float(sae.get_buffer("threshold"))
    if threshold != threshold:
        raise NotFittedError(
            f"this {sae.config.type} SAE has no threshold yet, so it cannot be written as "
            "JumpReLU; train it, or call saetools.train.calibrate(sae, store)"
        )
    config = JumpReLUConfig(
        d_in=sae.config.d_in, n_latents=sae.config.n_latents, target_l0=sae.calibrated_l0
    )
    twin = JumpReLU(config, meta={**sae.meta, "widths": list(sae.widths)})
    state = sae.state_dict() | {
        "threshold": torch.full((config.n_latents,), max(threshold, 0.0), device=sae.device)
    }
    twin.load_state_dict(state)
    return twin.to(sae.device).requires_grad_(False)
