"""The form of OpenAI's SAEs and their descendants: one bias is taken off x and added to x_hat.

    latents = relu, or relu of the k largest, of (x − pre_bias) @ W_enc + latent_bias
    x_hat = latents @ W_dec + pre_bias

That is how ours are made, so nothing is folded.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from saetools.formats import formulas
from saetools.formats.base import assembled
from saetools.formats.formulas import Formula, Reading
from saetools.sae import SAE

__all__ = ["pre_biased", "pre_biased_formula"]


def pre_biased(
    W_enc: Tensor, W_dec: Tensor, pre_bias: Tensor, latent_bias: Tensor, *, k: int | None,
    meta: Mapping[str, Any],
) -> SAE:  # fmt: skip
    """The SAE of ours with pre_bias taken off its input and added to its output, as b_dec is."""
    fields: dict[str, Any] = {} if k is None else {"k": k}
    return assembled(
        "standard" if k is None else "topk",
        W_enc=W_enc, b_enc=latent_bias, W_dec=W_dec, b_dec=pre_bias, meta=meta, **fields,
    )  # fmt: skip


def pre_biased_formula(
    W_enc: Tensor, W_dec: Tensor, pre_bias: Tensor, latent_bias: Tensor, *, k: int | None
) -> Formula:
    """What the original computes from what its encoder is given."""

    def formula(x: Tensor) -> Reading:
        pre_acts = formulas.linear(x - pre_bias.double(), W_enc, latent_bias)
        fired = formulas.relu(pre_acts) if k is None else formulas.top_k(pre_acts, k)
        x_hat = formulas.linear(fired.latents, W_dec, pre_bias)
        return Reading(fired.latents, fired.margin, x_hat)

    return formula
