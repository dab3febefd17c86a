"""The health report as a noun: figures by name, saved as JSON, shown as a table."""

import html
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from saetools.errors import FormatError
from saetools.repro import read_json, write_json
from saetools.train.health.weights import DUPLICATE_COSINE, Spread

__all__ = ["DENSE", "L0_LEVELS", "MASSIVE", "HealthReport", "WidthHealth"]

_FORMAT = "saetools-health/1"

L0_LEVELS = (5, 25, 50, 75, 95)
"""Percentages of tokens at which the quantiles of l0 are taken."""

DENSE = 0.1
"""A latent is dense when it fires on more than this share of tokens."""

MASSIVE = 10.0
"""A row is massive when its norm is above so many medians."""


class WidthHealth(NamedTuple):
    """The first `width` latents alone: fvu and l0; and which of this level's own latents are dead.

    The level's own latents are those beyond the width before.
    """

    width: int
    fvu: float
    l0: float
    dead_fraction: float


@dataclass(frozen=True)
class HealthReport:
    """What `health_report` found.

    Args:
        fvu: fraction of variance unexplained; lower is better.
        l0: mean number of active latents a token; `l0_quantiles` its quantiles at `L0_LEVELS`.
        dead_fraction: share of latents that never fired on these tokens.
        dense_fraction: share of latents that fired on more than a tenth of them.
        duplicate_fraction: share of latents whose decoder row has a cosine above 0.95 with another.
        n_duplicate_pairs: number of such pairs; an estimate where `n_compared` < `n_latents`.
        duplicates: the closest ten, as (latent, latent, cosine).
        encoder_norms, decoder_norms: lengths of the rows of both matrices.
        activation_norms: lengths of the rows of the store.
        massive_fraction: share of those above ten medians.
        widths: each width of a Matryoshka SAE; empty for others.
        warnings: what looks wrong and what to do.
        about: SAE, hook, split and seed that the figures belong to.
    """

    n_tokens: int
    n_latents: int
    fvu: float
    l0: float
    l0_quantiles: tuple[float, ...]
    dead_fraction: float
    dense_fraction: float
    n_compared: int
    duplicate_fraction: float
    n_duplicate_pairs: int
    duplicates: tuple[tuple[int, int, float], ...]
    encoder_norms: Spread
    decoder_norms: Spread
    activation_norms: Spread
    massive_fraction: float
    widths: tuple[WidthHealth, ...] = ()
    warnings: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Each figure by name."""
        return {row["figure"]: row["value"] for row in self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """The figures as rows of a table: figure, value, meaning."""
        outside = "share of {} whose norm is beyond the fences"
        named = [
            ("fvu", self.fvu, "fraction of variance unexplained; lower is better"),
            ("l0", self.l0, "mean number of active latents a token"),
            *(
                (f"l0_p{level}", value, f"{level} % of tokens have at most this l0")
                for level, value in zip(L0_LEVELS, self.l0_quantiles, strict=True)
            ),
            ("dead_fraction", self.dead_fraction, f"never fired on {self.n_tokens:,} tokens"),
            ("dense_fraction", self.dense_fraction, f"fired on more than {DENSE:.0%} of tokens"),
            (
                "duplicate_fraction",
                self.duplicate_fraction,
                f"decoder row has a cosine above {DUPLICATE_COSINE} with another",
            ),
            (
                "encoder_norm_outliers",
                self.encoder_norms.outlier_fraction,
                outside.format("encoder rows"),
            ),
            (
                "decoder_norm_outliers",
                self.decoder_norms.outlier_fraction,
                outside.format("decoder rows"),
            ),
            (
                "activation_norm_outliers",
                self.activation_norms.outlier_fraction,
                outside.format("activations"),
            ),
            ("massive_fraction", self.massive_fraction, f"norm above {MASSIVE:.0f} medians"),
            *self._width_rows(),
        ]
        return [{"figure": f, "value": float(v), "meaning": m} for f, v, m in named]

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON."""
        content = asdict(self)
        for name in ("encoder_norms", "decoder_norms", "activation_norms"):
            content[name] = getattr(self, name)._asdict()
        content["widths"] = [level._asdict() for level in self.widths]
        return write_json(path, {"format": _FORMAT, **content})

    @classmethod
    def load(cls, path: str | Path) -> "HealthReport":
        """Read a report that `save` wrote.

        Raises:
            FormatError: not a health report, a damaged one, or one of another version.
        """
        content = read_json(path, _FORMAT)
        try:
            del content["format"]
            for name in ("encoder_norms", "decoder_norms", "activation_norms"):
                content[name] = Spread(**content[name])
            content["widths"] = tuple(WidthHealth(**level) for level in content["widths"])
            content["duplicates"] = tuple((a, b, cosine) for a, b, cosine in content["duplicates"])
            for name in ("l0_quantiles", "warnings"):
                content[name] = tuple(content[name])
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} is a damaged health report: {error!r}") from error

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(row['figure'])}</th>"
            f"<td>{row['value']:.4g}</td>"
            f"<td style='text-align:left'>{html.escape(row['meaning'])}</td></tr>"
            for row in self.rows()
        )
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in self.warnings)
        caption = f"Health on {self.n_tokens:,} {self.about.get('split', '')} tokens"
        return f"<table><caption>{html.escape(caption)}</caption>{body}</table><ul>{notes}</ul>"

    def _width_rows(self) -> list[tuple[str, float, str]]:
        rows: list[tuple[str, float, str]] = []
        for level in self.widths:
            first = f"the first {level.width:,} latents"
            rows += [
                (f"fvu_at_{level.width}", level.fvu, f"fvu with {first} only"),
                (f"l0_at_{level.width}", level.l0, f"l0 of {first}"),
                (
                    f"dead_fraction_at_{level.width}",
                    level.dead_fraction,
                    f"dead latents among those that this width adds, up to {level.width:,}",
                ),
            ]
        return rows
