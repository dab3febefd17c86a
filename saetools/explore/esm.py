"""One front-end module for Jupyter and for pages: the scripts of `static/` joined into one ESM.

    export default { render({ model, el }) }

as anywidget's front-end modules have it. No build step: a script in `static/` holds one idea as
functions and classes of the module's scope, and this file puts them one after the other. Everything
that the module draws stands in a shadow root of `el`, so two widgets on a page share nothing.
"""

import json
from functools import cache

from saetools.explore.static_files import static_text

__all__ = ["explorer_esm", "explorer_style"]

_STYLES = ("theme.css", "overview.css", "explorer.css", "panels.css", "narrow.css")
_SCRIPTS = (
    "dom.js",
    "format.js",
    "width.js",
    "tooltip.js",
    "theme.js",
    "unpack.js",
    "host.js",
    "bundle.js",
    "filters.js",
    "search.js",
    "frame.js",
    "state.js",
    "download.js",
    "edits.js",
    "chart.js",
    "charts.js",
    "overview.js",
    "contexts.js",
    "colours.js",
    "list.js",
    "relations.js",
    "naming.js",
    "steering.js",
    "detail.js",
    "prompts.js",
    "plane.js",
    "map.js",
    "app.js",
    "render.js",
)


@cache
def explorer_esm() -> str:
    """The explorer as an ECMAScript module whose default export is an anywidget widget."""
    # With `<` spelled out the module may stand inside a script element.
    style = json.dumps(explorer_style()).replace("<", "\\u003c")
    body = "\n".join(static_text(name) for name in _SCRIPTS)
    return f"const STYLE = {style};\n{body}\nexport default {{ render }};\n"


@cache
def explorer_style() -> str:
    """The styles of the explorer's shadow root."""
    return "\n".join(static_text(name) for name in _STYLES)
