"""What an index answers with: contexts, single latents, hits."""

from dataclasses import dataclass

from saetools.analysis.show import latent_html

__all__ = ["ConceptHit", "Context", "LatentHit", "LatentView"]


@dataclass(frozen=True)
class Context:
    """A stretch of a document around the token on which a latent fires most.

    Args:
        tokens: readable tokens; joined they are the text.
        acts: the latent's activation on each.
        peak: place of the strongest token of the document in `tokens`.
        doc: number of the document in the store.
        label: its label, None if it has none.
        title: its title, None if it has none.
    """

    tokens: list[str]
    acts: list[float]
    peak: int
    doc: int
    label: str | None
    title: str | None


@dataclass(frozen=True)
class LatentView:
    """One latent.

    Args:
        latent: its number.
        firing_rate: share of tokens on which it fires.
        max_act: its largest activation.
        examples: best training documents, strongest first, one context a document.
    """

    latent: int
    firing_rate: float
    max_act: float
    examples: list[Context]

    def _repr_html_(self) -> str:
        rate = f"fires on {self.firing_rate:.3g} of tokens, at most {self.max_act:.3g}"
        return latent_html(f"latent {self.latent}: {rate}", self.examples)


@dataclass(frozen=True)
class ConceptHit:
    """The latent that tells a label best: chosen on training documents, tested on held-out ones.

    AUROC is the chance that a document of the label activates the latent more than one without it;
    0.5 is chance, 1 is perfect.
    """

    label: str
    latent: int
    auroc_train: float
    auroc_held_out: float
    n_docs_train: int
    n_docs_held_out: int


@dataclass(frozen=True)
class LatentHit:
    """A latent that a search found, with the share of its activation that speaks for it."""

    latent: int
    score: float
    reason: str
