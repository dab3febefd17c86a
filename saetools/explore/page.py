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
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saetools.explore.bundle import Bundle
from saetools.explore.esm import explorer_esm
from saetools.explore.live import Live
from saetools.explore.static_files import static_text

if TYPE_CHECKING:  # anywidget is an extra; a type only
    from saetools.explore.widget import ExplorerWidget

__all__ = [
    "COMPARISON",
    "EVALUATION",
    "JUDGEMENT",
    "Assets",
    "HtmlPage",
    "Page",
    "assemble",
    "assemble_explorer",
]


class Assets(NamedTuple):
    """The files in `static/` that make a kind of page: its template, styles and scripts."""

    template: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]


_SHARED = (
    "dom.js",
    "ids.js",
    "format.js",
    "width.js",
    "tooltip.js",
    "unpack.js",
    "embedded.js",
    "theme.js",
    "chart.js",
    "runs.js",
)
COMPARISON = Assets(
    "compare.html",
    ("theme.css", "overview.css", "narrow.css", "compare.css"),
    (*_SHARED, "pareto.js", "reading.js", "curves.js", "table.js", "boot.js", "compare.js"),
)
EVALUATION = Assets(
    "evaluation.html",
    ("theme.css", "overview.css", "narrow.css", "compare.css", "evaluation.css"),
    (*_SHARED, "reading.js", "intervals.js", "series.js", "boot.js", "evaluation.js"),
)
JUDGEMENT = Assets(
    "judgement.html",
    (
        "theme.css",
        "overview.css",
        "narrow.css",
        "compare.css",
        "evaluation.css",
        "judgement.css",
        "paper.css",
    ),
    (
        *_SHARED,
        "reading.js",
        "intervals.js",
        "series.js",
        "download.js",
        "paper.js",
        "bullet.js",
        "checks.js",
        "answers.js",
        "touched.js",
        "boot.js",
        "judgement.js",
    ),
)
_EMBED_LIMIT_BYTES = 24_000_000
_INSTALL = (
    "This is the page, which cannot ask Python anything. For the widget, which reads your texts, "
    "steers and keeps the names you give, install <code>saetools[notebook]</code> (anywidget)."
)


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
            f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(self.html)}" '
            'style="width:100%;height:820px;border:1px solid #8884;border-radius:8px" '
            'title="saetools page"></iframe>'
        )


@dataclass(frozen=True, repr=False)
class Page(HtmlPage):
    """Everything about the latents of an SAE: a page on disk, a widget in a notebook.

    In Jupyter it shows itself as `widget` where anywidget is installed, and as the page in a
    sandboxed frame where it is not.

    Args:
        html: the whole page.
        n_latents: how many latents it shows.
        path: where it was written, None if it was not.
        live: what answers the widget's questions: model, SAE, names.
    """

    html: str
    n_latents: int
    path: Path | None = None
    bundle: Bundle | None = field(default=None, compare=False)
    live: Live | None = field(default=None, compare=False)

    def save(self, path: str | Path) -> "Page":
        """Write the page; a reader of `path` sees the old file or the whole new one.

        Returns the same page with its `path` set.
        """
        return replace(self, path=self._write(path))

    @cached_property
    def widget(self) -> "ExplorerWidget":
        """The same as an anywidget: `page.widget.selected`, `page.widget.names`.

        Raises:
            ConfigError: anywidget is not installed.
        """
        # optional: anywidget brings ipywidgets and traitlets
        from saetools.explore.widget import make_widget

        assert self.bundle is not None, "explore gives every page its bundle"
        assert self.live is not None, "explore gives every page what answers for it"
        return make_widget(self.bundle, self.live)

    def _about(self) -> str:
        return f"{self.n_latents:,} latents"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self.bundle is None or find_spec("anywidget") is None:
            return {"text/plain": repr(self), "text/html": f"{self._repr_html_()}<p>{_INSTALL}</p>"}
        return self.widget._repr_mimebundle_(**kwargs)


def assemble(bundle: Bundle, *, title: str, assets: Assets) -> str:
    """A page of classic scripts; the only text of a user that is markup is the escaped title."""
    style = "\n".join(static_text(name) for name in assets.styles)
    return _fill(assets.template, bundle, title=title, style=style, script=_script(assets.scripts))


def assemble_explorer(bundle: Bundle, *, title: str) -> str:
    """The explorer's page: the widget's own module, mounted on a document that has the data."""
    mount = "\n".join(static_text(name) for name in ("embedded.js", "mount.js"))
    script = f"{explorer_esm()}{mount}"
    style = static_text("document.css")
    return _fill("page.html", bundle, title=title, style=style, script=script)


def _fill(template: str, bundle: Bundle, *, title: str, style: str, script: str) -> str:
    head, body = (base64.b64encode(part).decode("ascii") for part in bundle.encoded())
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
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], static_text(template))


def _script(names: Sequence[str]) -> str:
    body = "\n".join(static_text(name) for name in names)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
