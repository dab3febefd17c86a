"""Figures of a task as text: alone, and of several things that advance together."""

from collections.abc import Mapping

__all__ = ["Figures", "merged", "spell", "spell_figure", "spell_rows"]

Figures = Mapping[str, float | str]


def merged(held: Figures | None, new: Figures) -> Figures:
    """The figures that were shown, with the new ones over them."""
    return {**(held or {}), **new}


def spell_figure(value: float | str) -> str:
    """A number in four digits; large ones whole, with thousands set off."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def spell(figures: Figures) -> str:
    """Figures in one line: `fvu 0.21  l0 8`."""
    return "  ".join(f"{name} {spell_figure(value)}" for name, value in figures.items())


def spell_rows(rows: Mapping[str, Figures]) -> str:
    """Figures of several things in one line; a single thing without a name needs none."""
    return "  |  ".join(
        f"{name}: {spell(figures)}" if name else spell(figures) for name, figures in rows.items()
    )
