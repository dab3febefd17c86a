"""How an index shows itself in Jupyter; every text of the corpus is escaped."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Protocol

__all__ = ["concepts_html", "context_html"]


class _Hit(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def latent(self) -> int: ...
    @property
    def auroc_train(self) -> float: ...
    @property
    def auroc_held_out(self) -> float: ...


class _Context(Protocol):
    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def acts(self) -> Sequence[float]: ...


def concepts_html(
    title: str, hits: Sequence[_Hit], examples: Callable[[int], Sequence[_Context]]
) -> str:
    """Return a table of the labels that one latent tells best, with an example of each."""
    rows = ""
    for hit in hits:
        shown = examples(hit.latent)
        rows += (
            f"<tr><td>{escape(hit.label)}</td><td>{hit.latent}</td>"
            f"<td>{hit.auroc_train:.3f}</td><td>{hit.auroc_held_out:.3f}</td>"
            f"<td style='text-align:left'>{context_html(shown[0]) if shown else ''}</td></tr>"
        )
    head = (
        "<tr><th>label</th><th>latent</th><th>AUROC, training</th><th>held out</th><th></th></tr>"
    )
    table = f"<table>{head}{rows}</table>" if rows else ""
    return f"<p><b>{escape(title)}</b></p>{table}"


def context_html(context: _Context) -> str:
    """Return the tokens of a context, tinted by activation."""
    largest = max(context.acts, default=0.0) or 1.0
    return "".join(
        f"<span style='background:rgba(255,160,0,{max(act, 0.0) / largest:.2f})' "
        f"title='{act:.3g}'>{escape(token)}</span>"
        for token, act in zip(context.tokens, context.acts, strict=True)
    )
