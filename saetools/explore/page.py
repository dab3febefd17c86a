"""A page: template, styles, scripts and data joined into one HTML file that needs no network.

The page's policy allows its own script and style by their hashes and nothing else: no connection,
no image, no frame. A bug that let a corpus smuggle in markup could still not run it.
"""

import base64
import hashlib
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from saetools.explore.bundle import Bundle

__all__ = ["COMPARISON", "EVALUATION", "EXPLORER", "Assets", "HtmlPage", "Page", "assemble"]


class Assets(NamedTuple):
    """The files in `static/` that make a kind of page: its template, styles and scripts."""

    template: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]


EXPLORER = Assets(
    "page.html",
    ("theme.css", "overview.css", "explorer.css", "narrow.css"),
    (
        "dom.js",
        "format.js",
        "tooltip.js",
        "unpack.js",
        "bundle.js",
        "search.js",
        "state.js",
        "theme.js",
        "chart.js",
        "charts.js",
        "overview.js",
        "contexts.js",
        "list.js",
        "detail.js",
        "boot.js",
        "app.js",
    ),
)
COMPARISON = Assets(
    "compare.html",
    ("theme.css", "overview.css", "narrow.css", "compare.css"),
    (
        "dom.js",
        "format.js",
        "tooltip.js",
        "unpack.js",
        "theme.js",
        "chart.js",
        "runs.js",
        "pareto.js",
        "reading.js",
        "curves.js",
        "table.js",
        "boot.js",
        "compare.js",
    ),
)
EVALUATION = Assets(
    "evaluation.html",
    ("theme.css", "overview.css", "narrow.css", "compare.css", "evaluation.css"),
    (
        "dom.js",
        "format.js",
        "tooltip.js",
        "unpack.js",
        "theme.js",
        "chart.js",
        "runs.js",
        "reading.js",
        "intervals.js",
        "series.js",
        "boot.js",
        "evaluation.js",
    ),
)
_EMBED_LIMIT_BYTES = 24_000_000


class HtmlPage:
    """What every self-contained page can do; a subclass is a frozen dataclass with these fields."""

    html: str
    path: Path | None

    @property
    def n_bytes(self) -> int:
        """Size of the page as a file."""
        return len(self.html.encode("utf-8"))

    def _about(self) -> str:
        """What the page shows, in a few words."""
        return "page"

    def _write(self, path: str | Path) -> Path:
        """Write the page; a reader of `path` sees the old file or the whole new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(path.name + ".partial")
        scratch.write_text(self.html, encoding="utf-8")
        os.replace(scratch, path)
        return path

    def __repr__(self) -> str:
        where = "not saved" if self.path is None else str(self.path)
        name = type(self).__name__
        return f"{name}({self._about()}, {self.n_bytes / 1e6:.1f} MB, {where})"

    def _repr_html_(self) -> str:
        if self.n_bytes > _EMBED_LIMIT_BYTES:
            advice = "call .save(path)" if self.path is None else f"open {self.path}"
            return (
                f"<p>{html.escape(repr(self))}: too large to show inside a notebook; "
                f"{html.escape(advice)} and view it in a browser.</p>"
            )
        # Without allow-same-origin the page cannot reach the notebook around it.
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" '
            'style="width:100%;height:820px;border:1px solid #8884;border-radius:8px" '
            'title="saetools page"></iframe>'
        )


@dataclass(frozen=True, repr=False)
class Page(HtmlPage):
    """One self-contained HTML page about the latents of an SAE.

    Args:
        html: the whole page.
        n_latents: how many latents it shows.
        path: where it was written, None if it was not.
    """

    html: str
    n_latents: int
    path: Path | None = None

    def save(self, path: str | Path) -> "Page":
        """Write the page; a reader of `path` sees the old file or the whole new one.

        Returns the same page with its `path` set.
        """
        return replace(self, path=self._write(path))

    def _about(self) -> str:
        return f"{self.n_latents:,} latents"


def assemble(bundle: Bundle, *, title: str, assets: Assets = EXPLORER) -> str:
    """Fill the template; the only text of a user that is markup is the escaped title."""
    style = "\n".join(_asset(name) for name in assets.styles)
    script = _script(assets.scripts)
    head, body = bundle.encoded()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "head": head,
        "body": body,
        "script": script,
    }
    # One pass: a part is never searched for the names of other parts.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset(assets.template))


@cache
def _asset(name: str) -> str:
    return files("saetools.explore").joinpath("static", name).read_text(encoding="utf-8")


def _script(names: Sequence[str]) -> str:
    body = "\n".join(_asset(name) for name in names)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
