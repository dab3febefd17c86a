"""Find latents by what is written of them: full text over names, words and rationales.

SQLite's FTS5 does it, in memory. The table is built from the names it is given, so it can never be
older than they are; 65,000 names take well under a second.
"""

import re
import sqlite3
from typing import NamedTuple

from saetools.errors import ConfigError
from saetools.naming.base import Name
from saetools.naming.table import NamesTable

__all__ = ["NameHit", "NameSearch"]

_WEIGHTS = (10.0, 5.0, 1.0)  # of name, words, rationale
_WORD = re.compile(r"\w+")


class NameHit(NamedTuple):
    """A latent whose name was found; `score` is bm25, higher is better."""

    latent: int
    name: str
    score: float


class NameSearch:
    """A full-text search over a table of names.

        NameSearch(names).find("weekd")         # every word is a prefix

    Args:
        names: what is searched; later changes to a table are not seen, since tables do not change.

    Raises:
        ConfigError: this Python's SQLite was built without FTS5.
    """

    def __init__(self, names: NamesTable) -> None:
        self._base = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._base.execute(
                "create virtual table names using fts5(name, words, rationale, "
                "tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3')"
            )
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f"names cannot be searched: the SQLite {sqlite3.sqlite_version} of this Python "
                f"lacks FTS5 ({error}); use a Python that was built with it, such as python.org's"
            ) from error
        self._base.executemany(
            "insert into names (rowid, name, words, rationale) values (?, ?, ?, ?)",
            ((n.latent, _clean(n.name), _clean(" ".join(_said(n))), _clean(n.rationale))
             for n in names),
        )  # fmt: skip

    def find(self, text: str, *, top: int = 10) -> list[NameHit]:
        """Latents whose name, words or rationale hold every word of `text`, best first.

        A word also finds longer ones that it begins. Where no latent has all words, those count
        that have some. Text without letters or digits, such as "!=", is sought as it is. Nothing in
        the text is taken for a query language.
        """
        words = _WORD.findall(_clean(text))
        if not words:
            return self._literally(text.strip(), top)
        quoted = [f'"{word}"*' for word in words]
        for joint in (" AND ", " OR "):
            found = self._match(joint.join(quoted), top)
            if found:
                return found
        return []

    def _match(self, query: str, top: int) -> list[NameHit]:
        rows = self._base.execute(
            "select rowid, name, -bm25(names, ?, ?, ?) as score from names where names match ? "
            "order by score desc, rowid limit ?",
            (*_WEIGHTS, query, top),
        )
        return [NameHit(*row) for row in rows]

    def _literally(self, text: str, top: int) -> list[NameHit]:
        if not text:
            return []
        rows = self._base.execute(
            "select rowid, name, 1.0 from names where instr(name, ?) or instr(words, ?) "
            "order by length(name), rowid limit ?",
            (text, text, top),
        )
        return [NameHit(*row) for row in rows]


def _said(name: Name) -> list[str]:
    """The words of a name's claims."""
    return [*name.words, *name.promotes, *([name.label] if name.label else [])]


def _clean(text: str) -> str:
    """SQLite ends a text at NUL and has no lone surrogates."""
    return text.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")
