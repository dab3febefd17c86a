"""The proof of a conversion: the original's formula and the SAE of ours on the same tokens.

The formula runs in float64 from the original's own tensors; ours runs as it is. Compared are the
reconstruction, the latents, and which latents are on. A latent that is on in one and off in the
other counts as a mismatch unless rounding explains it: its pre-activation lies so close to where it
switches that float32 cannot tell. Tokens with such latents are counted, and left out of the
comparison of reconstructions.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import FormatError, ShapeError
from saetools.formats.formulas import Formula
from saetools.repro import generator
from saetools.sae import SAE, Normed

__all__ = ["Proof", "probe_tokens", "prove"]

# Of the largest value of the token. float32 has 6e-8; sums over d_in terms lose two digits more.
_TOLERANCE = 2e-4
_TIE = 1e-4
_MOST_TIES = 0.05  # of the tokens
_CHUNK_VALUES = 2**23  # of latents, in tokens · n_latents
_SCALES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_N_NOISE = 30
_PARTS = 4  # latents in a mixture, where the dictionary is too large for one a token
_LEAST_MIXED = 30
_MOST_WORK = 10**10  # multiplications of the encoder; seconds on one core


@dataclass(frozen=True)
class Proof:
    """What the comparison found.

    Args:
        n_random, n_real: tokens compared, made up and real.
        l0: active latents a token, of the original.
        x_hat_error: largest difference of a token's reconstruction, over the largest number in it
            and in the terms that it sums.
        latent_error: largest difference of a token's latents, over the largest of them.
        n_switched: latents on in one and off in the other, all explained by rounding.
        n_wrong: the same, not explained.
        n_tied_tokens: tokens with a latent of the first kind.
        n_fired: latents that were on at least once; about the others less is known.
        n_latents: size of the dictionary.
    """

    n_random: int
    n_real: int
    l0: float
    x_hat_error: float
    latent_error: float
    n_switched: int
    n_wrong: int
    n_tied_tokens: int
    n_fired: int
    n_latents: int

    @property
    def n_tokens(self) -> int:
        """Tokens compared."""
        return self.n_random + self.n_real

    @property
    def holds(self) -> bool:
        """Whether the conversion is accepted."""
        return (
            self.n_wrong == 0
            and self.l0 > 0
            and self.x_hat_error <= _TOLERANCE
            and self.latent_error <= _TOLERANCE
            and self.n_tied_tokens <= max(2, _MOST_TIES * self.n_tokens)
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, with the verdict and the tolerance."""
        return {**asdict(self), "tolerance": _TOLERANCE, "holds": self.holds}


def probe_tokens(sae: SAE, *, seed: int = 0) -> Float[Tensor, "n d_in"]:
    """Made-up tokens on which latents of `sae` fire: noise, and mixtures of encoder rows.

    Both come at several scales, as nothing says in which the SAE reads. Where it reconstructs what
    it reads, they are around b_dec. The mixtures go over the dictionary in random order: one
    latent a token where there are few, else four, as far as a bound on the work allows.
    """
    random = generator(seed, "conversion probe")
    rows = sae.W_enc_rows.detach().float().cpu()
    n_latents, d_in = rows.shape
    affordable = max(_LEAST_MIXED, _MOST_WORK // (n_latents * d_in))
    n_parts = 1 if n_latents <= affordable else _PARTS
    n_mixed = max(_LEAST_MIXED, min(-(-n_latents // n_parts), affordable))
    order = torch.randperm(n_latents, generator=random)
    chosen = order.repeat(-(-n_mixed * n_parts // n_latents))[: n_mixed * n_parts]
    mixed = rows[chosen.view(n_mixed, n_parts)].sum(1)  # (n_mixed, d_in)
    mixed = mixed * d_in**0.5 / mixed.norm(dim=1, keepdim=True).clamp_min(1e-12)
    x = torch.cat([torch.randn(_N_NOISE, d_in, generator=random), mixed])
    scales = torch.tensor(_SCALES).repeat(-(-len(x) // len(_SCALES)))[: len(x)]
    x = x * scales.unsqueeze(1)
    return x + sae.b_dec.detach().float().cpu() if sae.d_out == d_in else x


@torch.no_grad()
def prove(
    formula: Formula,
    sae: SAE,
    *,
    latent_scale: Callable[[Tensor], Tensor],
    real: Float[Tensor, "n d_in"] | None = None,
    what: str,
) -> Proof:
    """Compare `formula` with `sae` and return the figures.

    Args:
        formula: of the original.
        sae: ours.
        latent_scale: our latents over theirs.
        real: activations of the model that the SAE is for; made-up tokens come besides.
        what: the conversion, for the message.

    Raises:
        FormatError: they differ, or no latent fired on any token; the message has the figures.
        ShapeError: `real` has another width than the SAE reads.
    """
    if real is not None and (real.ndim != 2 or real.shape[1] != sae.config.d_in):
        raise ShapeError(
            f"{what}: the SAE reads activations of width {sae.config.d_in}; the probe has shape "
            f"{tuple(real.shape)}; take one of the hook that the SAE was trained at"
        )
    made_up = probe_tokens(sae)
    x = made_up if real is None else torch.cat([made_up, real.float().cpu()])
    size = max(1, _CHUNK_VALUES // sae.config.n_latents)
    parts = [
        _compared(formula, sae, x[start : start + size], latent_scale)
        for start in range(0, len(x), size)
    ]
    total = _joined(parts, len(made_up), len(x) - len(made_up))
    if not total.holds:
        raise FormatError(_refusal(total, what))
    return total


class _Part(NamedTuple):
    """What a chunk of tokens showed; figures as in `Proof`, errors one a token."""

    n_active: int
    x_hat_error: Float[Tensor, " some"]
    latent_error: Float[Tensor, " others"]
    n_switched: int
    n_wrong: int
    n_tied_tokens: int
    fired: Bool[Tensor, " n_latents"]


def _compared(
    formula: Formula, sae: SAE, x: Tensor, latent_scale: Callable[[Tensor], Tensor]
) -> _Part:
    wanted = formula(x.double())
    latents = sae.encode(x.to(sae.device))
    found, x_hat = latents.dense().cpu().double(), sae(x.to(sae.device)).cpu().double()
    expected = wanted.latents * latent_scale(x.double())
    on, wanted_on = found != 0, wanted.latents != 0
    switched = on != wanted_on
    tie = switched & (wanted.margin <= _TIE)
    tied = tie.any(1)
    gap = torch.where(switched, 0.0, (found - expected).abs())
    # What a token is measured by: sums lose the digits of their largest terms, not of their value.
    rows, columns = sae.W_enc_rows.detach().cpu(), sae.W_dec.detach().cpu()
    size = torch.maximum(
        expected.abs().amax(1), 1e-3 * x.double().norm(dim=1) * float(rows.norm(dim=1).max())
    ).clamp_min(1e-30)
    terms = expected.abs() @ columns.abs().amax(1).double()
    offset = float(sae.b_dec.detach().abs().max())
    if isinstance(sae, Normed):
        terms = torch.maximum(terms, x.double().abs().amax(1))
    height = torch.maximum(wanted.x_hat.abs().amax(1), terms).clamp_min(max(offset, 1e-30))
    off = (x_hat - wanted.x_hat).abs().amax(1) / height
    return _Part(
        int(wanted_on.sum()),
        off[~tied],
        (gap.amax(1) / size)[wanted_on.any(1)],
        int(tie.sum()),
        int((switched & ~tie).sum()),
        int(tied.sum()),
        wanted_on.any(0),
    )


def _joined(parts: Sequence[_Part], n_random: int, n_real: int) -> Proof:
    fired = torch.stack([part.fired for part in parts]).any(0)
    return Proof(
        n_random,
        n_real,
        sum(part.n_active for part in parts) / (n_random + n_real),
        _worst([part.x_hat_error for part in parts]),
        _worst([part.latent_error for part in parts]),
        sum(part.n_switched for part in parts),
        sum(part.n_wrong for part in parts),
        sum(part.n_tied_tokens for part in parts),
        int(fired.sum()),
        len(fired),
    )


def _worst(errors: Sequence[Tensor]) -> float:
    """The largest; infinite where one is no number."""
    every = torch.cat(list(errors)).nan_to_num(nan=torch.inf)
    return float(every.max()) if len(every) else 0.0


def _refusal(proof: Proof, what: str) -> str:
    if proof.l0 == 0:
        return (
            f"{what}: cannot be proved, because no latent of the original fires on any of "
            f"{proof.n_tokens} tokens; give real activations as a probe (--probe STORE)"
        )
    return (
        f"{what}: refused, as the two do not compute the same. On {proof.n_tokens} tokens "
        f"({proof.l0:.3g} active latents each in the original) reconstructions differ by up to "
        f"{proof.x_hat_error:.2g} of the token's largest number and latents by up to "
        f"{proof.latent_error:.2g} (allowed: {_TOLERANCE:g}); {proof.n_wrong} latents are on in "
        f"one and off in the other without a tie, {proof.n_tied_tokens} tokens have ties. The "
        "files do not mean what their format says, or this is a bug of saetools: please report it"
    )
