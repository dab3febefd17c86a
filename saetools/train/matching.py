"""Do two seeds find the same latents? Decoder rows of one SAE matched with those of another.

Each row is given a partner in the other SAE such that the sum of cosines is largest (Hungarian
matching, Kuhn 1955); what is reported is the mean cosine of the partners and how many are alike.
Decoder rows of SAEs that differ by their seed alone overlap only in part (Paulo & Belrose 2025,
arXiv:2501.16615), so a latent that both find is better evidence than one that one finds.
"""

import html
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saetools.errors import ConfigError, FormatError, ShapeError
from saetools.repro import read_json, write_json
from saetools.sae import SAE

__all__ = ["MOST_LATENTS", "Matching", "Stability", "matched_cosines", "stability"]

_FORMAT = "saetools-stability/1"

Matching = Literal["auto", "hungarian", "nearest"]

MOST_LATENTS = 8192
"""The largest dictionary that is matched exactly: its cosines take 512 MB as float64."""

_BLOCK_VALUES = 8_388_608
_LEVELS = (0.7, 0.9)


@dataclass(frozen=True)
class Stability:
    """How far the dictionaries of two SAEs agree.

    Args:
        matching: `hungarian`: each latent of the smaller SAE has a partner of its own. `nearest`:
            each has the most similar latent of the other, which several may share; the figures are
            then upper bounds of the exact ones.
        n_matched: number of latents that have a partner: the size of the smaller dictionary.
        mean_cosine: mean cosine of a latent and its partner; 1 is the same dictionary.
        matched_fraction_70: share of them with a cosine above 0.7.
        matched_fraction_90: share of them with a cosine above 0.9.
    """

    matching: str
    n_matched: int
    mean_cosine: float
    matched_fraction_70: float
    matched_fraction_90: float

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        return write_json(path, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> "Stability":
        """Read what `save` wrote.

        Raises:
            FormatError: not such a file, a damaged one, or one of another version.
        """
        content: dict[str, Any] = read_json(path, _FORMAT)
        del content["format"]
        try:
            return cls(**content)
        except TypeError as error:
            raise FormatError(f"{path} is a damaged stability report: {error}") from error

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td>{html.escape(f'{value:.4g}' if isinstance(value, float) else str(value))}</td>"
            "</tr>"
            for name, value in asdict(self).items()
        )
        return f"<table><caption>Stability of the dictionary</caption>{cells}</table>"


def stability(sae_a: SAE, sae_b: SAE, *, matching: Matching = "auto") -> Stability:
    """Match the decoder rows of two SAEs and say how much they agree.

    Random rows do not have cosine 0 with their partners: the best of many random rows is well
    above it, the more so the smaller d_in is. Dead latents count like all others.

    Args:
        sae_a: an SAE.
        sae_b: another one of the same width; its dictionary may have another size.
        matching: `hungarian` is exact and takes up to 8192 latents; `nearest` runs in blocks and
            takes any number; `auto` chooses `hungarian` where it can.

    Raises:
        ShapeError: the SAEs read activations of different widths.
        ConfigError: `hungarian` was asked for with more than 8192 latents.
    """
    if sae_a.config.d_in != sae_b.config.d_in:
        raise ShapeError(
            f"stability compares SAEs of one width; these read {sae_a.config.d_in} and "
            f"{sae_b.config.d_in}; give two that were trained at the same hook"
        )
    largest = max(sae_a.config.n_latents, sae_b.config.n_latents)
    if matching == "hungarian" and largest > MOST_LATENTS:
        raise ConfigError(
            f"Hungarian matching of {largest:,} latents was asked for; more than {MOST_LATENTS:,} "
            "take too much memory and time; pass matching='nearest'"
        )
    exact = matching == "hungarian" or (matching == "auto" and largest <= MOST_LATENTS)
    cosine = matched_cosines(sae_a.W_dec, sae_b.W_dec, exact=exact)
    at_70, at_90 = (float((cosine > level).double().mean()) for level in _LEVELS)
    name = "hungarian" if exact else "nearest"
    return Stability(name, len(cosine), float(cosine.double().mean()), at_70, at_90)


def matched_cosines(
    rows: Float[Tensor, "a d_in"], others: Float[Tensor, "b d_in"], *, exact: bool | None = None
) -> Float[Tensor, " n"]:
    """Cosine of each row of the smaller matrix with its partner in the larger one.

    Args:
        exact: one to one by Hungarian matching, or else each with its nearest; None: as
            `stability` decides.
    """
    if exact is None:
        exact = max(len(rows), len(others)) <= MOST_LATENTS
    few, many = sorted((_unit_rows(rows), _unit_rows(others)), key=len)
    return _hungarian(few, many) if exact else _nearest(few, many)


def _unit_rows(rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
    return torch.nn.functional.normalize(rows.detach().float().cpu(), dim=1)


def _hungarian(
    rows: Float[Tensor, "n d_in"], others: Float[Tensor, "m d_in"]
) -> Float[Tensor, " n"]:
    cosine = rows @ others.T
    pairs = linear_sum_assignment(cosine.numpy(), maximize=True)
    mine, theirs = (torch.from_numpy(side) for side in pairs)
    return cosine[mine, theirs]


def _nearest(rows: Float[Tensor, "n d_in"], others: Float[Tensor, "m d_in"]) -> Float[Tensor, " n"]:
    size = max(1, _BLOCK_VALUES // len(others))
    blocks = (rows[start : start + size] for start in range(0, len(rows), size))
    return torch.cat([(block @ others.T).max(dim=1).values for block in blocks])
