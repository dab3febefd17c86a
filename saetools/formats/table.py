"""The tables of docs/formats.md about other tools' formats, made from the registry.

python -m saetools.formats.table docs/formats.md      write them into the page
"""

import sys
from pathlib import Path

from saetools.formats.base import FORMATS
from saetools.sae import ARCHS

__all__ = ["END", "START", "tables", "with_tables"]

START = "<!-- made by `python -m saetools.formats.table docs/formats.md` -->"
END = "<!-- end of what is made -->"


def tables() -> str:
    """Which formats there are, and what becomes of each of our architectures in them."""
    formats = {name: FORMATS.get(name) for name in FORMATS.names()}
    lines = [
        "| `format=`, `--to` | what | files | read | written | keeps | loses |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, kind in formats.items():
        cells = [
            f"`{name}`", kind.title, kind.files, _yes(kind.reads), _yes(kind.writes),
            ", ".join(kind.keeps) or "-", ", ".join(kind.loses) or "-",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "What an architecture of ours is written as; - where it is refused:", ""]
    written = [name for name, kind in formats.items() if kind.writes]
    lines.append(f"| | {' | '.join(f'`{name}`' for name in written)} |")
    lines.append("|---" * (len(written) + 1) + "|")
    for arch in ARCHS.names():
        cells = [formats[name].holds.get(arch) or "-" for name in written]
        lines.append(f"| `{arch}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """A page with what is between the two marks made anew."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{tables()}\n{END}{after}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
