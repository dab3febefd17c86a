"""A table of names: look up, save as CSV, edit by hand, merge back."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any, get_args

from saetools.errors import FormatError
from saetools.naming.base import MANUAL, Name, Unit

__all__ = ["NamesTable"]

_COLUMNS = [field.name for field in fields(Name)]
_NUMBERS = ("confidence", "held_out_precision", "swapped_precision")
_SHOWN = 20


class NamesTable:
    """Names of latents, at most one each, in the order of latents.

    To name latents by hand: save, edit the CSV and write "manual" in the column `namer` (or leave
    it empty), then `names.merge(NamesTable.load(path))`.
    """

    def __init__(self, names: Iterable[Name] = ()) -> None:
        self._names = {name.latent: name for name in sorted(names, key=lambda name: name.latent)}

    def get(self, latent: int) -> Name | None:
        """The name of a latent, None if it has none."""
        return self._names.get(int(latent))

    def merge(self, other: "NamesTable") -> "NamesTable":
        """Both tables' names. Of two names for a latent the manual one stands, else this table's.

        Where both are manual, `other` stands: it is the newer edit.
        """
        joined = dict(self._names)
        for name in other:
            if name.latent not in joined or name.namer == MANUAL:
                joined[name.latent] = name
        return NamesTable(joined.values())

    def save(self, path: str | Path) -> Path:
        """Write a CSV; a reader of `path` sees the old file or the whole new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([_cell(getattr(name, column)) for column in _COLUMNS] for name in self)
        scratch = path.with_name(path.name + ".partial")
        scratch.write_text(text.getvalue(), encoding="utf-8")
        os.replace(scratch, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "NamesTable":
        """Read a CSV with the columns `latent` and `name` at least; others may be missing or empty.

        Raises:
            FormatError: no such file, a column is unknown or missing, or a cell does not parse.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")  # spreadsheets like to add a mark
        except FileNotFoundError as error:
            raise FormatError(
                f"there is no table of names at {path}; `names.save` writes it"
            ) from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        found = list(reader.fieldnames or ())
        if not {"latent", "name"} <= set(found) or set(found) - set(_COLUMNS):
            raise FormatError(
                f"{path.name}: a table of names has the columns {', '.join(_COLUMNS)}, the first "
                f"two at least; found {', '.join(found) or 'none'}"
            )
        names: dict[int, Name] = {}
        for row in reader:
            name = _name(row, f"{path.name}, line {reader.line_num}")
            if name is None:
                continue
            if name.latent in names:
                raise FormatError(
                    f"{path.name}, line {reader.line_num}: latent {name.latent} has a second name; "
                    f"keep one of them"
                )
            names[name.latent] = name
        return cls(names.values())

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Name]:
        return iter(self._names.values())

    def __contains__(self, latent: object) -> bool:
        return latent in self._names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamesTable) and _keys(self) == _keys(other)

    __hash__ = None  # type: ignore[assignment]  # a table compares by its rows; it is no key

    def __repr__(self) -> str:
        return f"NamesTable({len(self):,} names)"

    def _repr_html_(self) -> str:
        best = sorted(self, key=lambda name: (-name.confidence, name.latent))[:_SHOWN]
        rows = "".join(
            f"<tr><td>{name.latent}</td><td style='text-align:left'>{escape(name.name)}</td>"
            f"<td>{name.confidence:.2f}</td><td>{name.held_out_precision:.2f}</td>"
            f"<td>{name.swapped_precision:.2f}</td><td>{escape(name.namer)}</td>"
            f"<td style='text-align:left'>{escape(name.rationale)}</td></tr>"
            for name in best
        )
        head = (
            "<tr><th>latent</th><th>name</th><th>confidence</th><th>held out</th>"
            "<th>swapped</th><th>namer</th><th>rationale</th></tr>"
        )
        shown = f", the {len(best)} surest" if len(best) < len(self) else ""
        return f"<p><b>{len(self):,} names</b>{shown}</p><table>{head}{rows}</table>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False) if value else ""
    return repr(value) if isinstance(value, float) else str(value)


def _name(row: dict[str, str | None], where: str) -> Name | None:
    """The name in a row of CSV; None if its cell is empty."""
    cells = {key: (value or "").strip() for key, value in row.items() if key is not None}
    if not cells["name"]:
        return None
    try:
        numbers = {key: float(cells.get(key) or "nan") for key in _NUMBERS}
        words, promotes = _texts(cells, "words"), _texts(cells, "promotes")
        unit = cells.get("unit") or None
        if unit is not None and unit not in get_args(Unit):
            raise ValueError(f"unit is {unit!r}, not one of {', '.join(get_args(Unit))}")
        latent = int(cells["latent"])
    except ValueError as error:
        raise FormatError(f"{where}: {error}; repair the cell or leave it empty") from error
    if math.isnan(numbers["confidence"]):
        numbers["confidence"] = 1.0  # a person who says nothing of doubt has none
    return Name(
        latent=latent,
        name=cells["name"],
        rationale=cells.get("rationale", ""),
        namer=cells.get("namer") or MANUAL,
        unit=unit,  # type: ignore[arg-type]  # checked above
        words=words,
        label=cells.get("label") or None,
        promotes=promotes,
        **numbers,
    )


def _texts(cells: dict[str, str], column: str) -> tuple[str, ...]:
    """A cell that is a JSON list of texts; () if it is empty."""
    cell = cells.get(column) or "[]"
    found = json.loads(cell)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{column} is {cell!r}, not a JSON list of texts")
    return tuple(found)


def _keys(table: NamesTable) -> list[tuple[str, ...]]:
    """Rows as they are saved, so that nan equals nan."""
    return [tuple(_cell(getattr(name, column)) for column in _COLUMNS) for name in table]
