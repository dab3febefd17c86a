"""How an index shows itself in Jupyter; every text of the corpus is escaped."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Protocol

__all__ = ["concepts_html", "context_html", "latent_html", "reading_html"]

_N_SHOWN = 5  # latents of a token


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


def latent_html(title: str, examples: Sequence[_Context]) -> str:
    """Return the examples of one latent under its title, strongest first."""
    rows = "".join(
        f"<tr><td>{max(context.acts, default=0.0):.3g}</td>"
        f"<td style='text-align:left'>{context_html(context)}</td></tr>"
        for context in examples
    )
    table = f"<table><tr><th>activation</th><th></th></tr>{rows}</table>" if rows else ""
    return f"<p><b>{escape(title)}</b></p>{table}"


def reading_html(tokens: Sequence[str], latents: Sequence[Sequence[tuple[int, float]]]) -> str:
    """Return the tokens of a text with the strongest latents of each."""
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(token)}</td><td style='text-align:left'>"
        + ", ".join(f"{latent} ({act:.3g})" for latent, act in found[:_N_SHOWN])
        + "</td></tr>"
        for token, found in zip(tokens, latents, strict=True)
    )
    return f"<table><tr><th>token</th><th>latents (activation)</th></tr>{rows}</table>"
