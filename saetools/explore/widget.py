"""The explorer as an anywidget: the page's own module with Python at its other end.

Importing this needs anywidget, of the extra `notebook`; `explore` works without.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from saetools.errors import ConfigError
from saetools.explore.bundle import Bundle
from saetools.explore.esm import explorer_esm
from saetools.explore.live import Live

if TYPE_CHECKING:
    from saetools.naming import NamesTable

if find_spec("anywidget") is None:
    raise ConfigError(
        "the widget needs anywidget, which is not installed; run `pip install saetools[notebook]`, "
        "or use the page: `explore(...).save('page.html')`"
    )

import anywidget
import traitlets

__all__ = ["ExplorerWidget", "make_widget"]


class ExplorerWidget(anywidget.AnyWidget):
    """A view of an index in a notebook; `explore` makes one when it is shown.

    Attributes:
        selected: number of the latent that is open, None if none was chosen; may be set.
        height: of the widget, in pixels.
        edits: names given in this widget, by latent.
        names: all names as they are now, edited ones as namer "manual".
    """

    _esm = traitlets.Unicode(explorer_esm()).tag(sync=True)
    head = traitlets.Bytes().tag(sync=True)
    body = traitlets.Bytes().tag(sync=True)
    can = traitlets.List(traitlets.Unicode()).tag(sync=True)
    steer_text = traitlets.Unicode().tag(sync=True)
    edits = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(720).tag(sync=True)
    selected = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, live: Live, **traits: Any) -> None:
        super().__init__(**traits)
        self._live = live
        self.on_msg(self._asked)

    @property
    def names(self) -> "NamesTable":
        """All names as they are now."""
        return self._live.names

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:  # noqa: ARG002 - a fixed signature
        answer = self._live.answer(content)
        self.edits = dict(self._live.edits)
        self.send(answer)


def make_widget(bundle: Bundle, live: Live) -> ExplorerWidget:
    """A widget of a bundle that was packed, and of what answers for it."""
    head, body = bundle.encoded()
    return ExplorerWidget(
        live,
        head=head,
        body=body,
        can=live.abilities,
        steer_text=live.steer_text,
        edits=dict(live.edits),
    )
