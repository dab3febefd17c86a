"""What a scorer may look at: held-out documents, a judge, the running model."""

from functools import cached_property, lru_cache
from typing import Any, Literal

from saetools.errors import ConfigError
from saetools.models import SubjectModel
from saetools.naming.chat import Chat
from saetools.naming.scores.claims import Claims
from saetools.naming.scores.evidence import Evidence, EvidenceConfig, gather, near_latents
from saetools.naming.scores.held_out import Firings, HeldOut, Indexed, held_out_documents
from saetools.naming.scores.judge import Judge
from saetools.sae import SAE

__all__ = ["ScoringContext", "Status"]

Status = Literal["scored", "dense", "too few contexts", "no claim", "unanswered", "silent"]
"""Why there is a value, or none."""

_CACHED = 4096  # latents whose held-out firings are kept


class ScoringContext:
    """What a scorer may look at.

    Args:
        index: what the latents fire on; only its held-out documents are read.
        evidence: how contexts are drawn.
        chat: a judge, if there is one.
        model, sae: the running model and its SAE, if there are.
        seed: of every draw.
    """

    def __init__(
        self,
        index: Indexed,
        *,
        evidence: EvidenceConfig | None = None,
        chat: Chat | None = None,
        model: SubjectModel | None = None,
        sae: SAE | None = None,
        seed: int = 0,
    ) -> None:
        self.index = index
        self.evidence = evidence or EvidenceConfig()
        self.chat = None if chat is None else Judge(chat)
        self.model, self.sae = model, sae
        self.seed = seed
        self.firings = lru_cache(maxsize=_CACHED)(self._read_firings)

    @cached_property
    def held_out(self) -> HeldOut:
        """The held-out documents."""
        return held_out_documents(self.index)

    @cached_property
    def claims(self) -> Claims:
        """Finds what names claim in them."""
        return Claims(self.held_out)

    def need(self, part: str, scorer: str) -> Any:
        """A part of the context.

        Raises:
            ConfigError: it was not given.
        """
        found = getattr(self, part)
        if found is None:
            what = {"chat": "a judge", "model": "the subject model", "sae": "the SAE"}[part]
            raise ConfigError(
                f"the scorer '{scorer}' needs {what}, and none was given; pass {part}= to "
                "score_names, or leave that scorer out"
            )
        return found

    def contexts(self, latent: int) -> Evidence | Status:
        """The contexts of a latent, or why its name cannot be scored on any."""
        if self.index.firing_rate[latent] > self.evidence.max_firing_rate:
            return "dense"
        found = gather(
            self.held_out,
            latent,
            self.evidence,
            firings_of=self.firings,
            neighbours=near_latents(self.index, latent),
            seed=self.seed,
        )
        fires = found.fires
        if int(fires.sum()) < self.evidence.min_activating or fires.all():
            return "too few contexts"
        return found

    def _read_firings(self, latent: int) -> Firings:
        return self.held_out.firings(self.index.postings(latent))
