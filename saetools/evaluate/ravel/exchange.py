"""Run base prompts with another activation at the last token of the entity."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools.evaluate.documents import DocumentBatch, document_batches
from saetools.evaluate.ravel.facts import KnownFacts
from saetools.evaluate.ravel.pairs import Pair
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = ["Exchanger", "Rule"]

_BATCH_TOKENS = 1024
_ENCODE_ROWS = 1024

Rule = Callable[[Tensor, Tensor], Tensor]
"""Maps the pairs' activations of base and source (n, d_in) to what the base is given (n, d_in)."""


class Exchanger:
    """Base prompts of pairs, run under a rule that makes the new activation.

    Args:
        model: subject model.
        sae: SAE that reads the hook.
        hook_name: where the activation is put.
        known: facts that pairs are made of.
        keep_error: whether latents are exchanged around the reconstruction error.
    """

    def __init__(
        self,
        model: LanguageModel,
        sae: SAE,
        hook_name: str,
        known: KnownFacts,
        *,
        keep_error: bool,
    ) -> None:
        self._model, self._sae, self._hook = model, sae, hook_name
        self._known, self._keep_error = known, keep_error
        self._x = known.x.to(sae.device)
        # Densely decoded, so that a mask gets a gradient: every decoder here is affine.
        self._W_dec, self._b_dec = sae.W_dec.detach().float(), sae.b_dec.detach().float()

    @property
    def device(self) -> torch.device:
        """Device of the SAE, where masks live."""
        return self._sae.device

    @property
    def row_squares(self) -> Float[Tensor, " n_latents"]:
        """Squared length of each decoder row: what a latent of 1 adds to the activation."""
        return self._W_dec.square().sum(1)

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return self._sae.config.n_latents

    @torch.no_grad()
    def latents(self, which: npt.NDArray[np.int64]) -> SparseLatents:
        """Latents of some facts' entities."""
        x = self._x[torch.as_tensor(which)]
        starts = range(0, max(len(x), 1), _ENCODE_ROWS)
        return SparseLatents.joined(
            [self._sae.encode(x[start : start + _ENCODE_ROWS]) for start in starts]
        )

    def masked(self, share: Float[Tensor, " n_latents"]) -> Rule:
        """The rule that takes `share` of every latent from the source, the rest from the base."""

        def rule(base: Tensor, source: Tensor) -> Tensor:
            with torch.no_grad():
                z_base, z_source = (self._sae.encode(x).dense() for x in (base, source))
            mixed = (1 - share) * z_base + share * z_source
            if self._keep_error:
                return base + (mixed - z_base) @ self._W_dec
            return mixed @ self._W_dec + self._b_dec

        return rule

    @torch.no_grad()
    def right(self, pairs: list[Pair], rule: Rule) -> npt.NDArray[np.bool_]:
        """Whether the model's most likely next token is the pair's answer, (n,)."""
        found = np.zeros(len(pairs), dtype=bool)
        for batch in self._batches(pairs):
            chosen = [pairs[i] for i in batch.places]
            with self._editing(chosen, rule):
                said = _last(self._model.logits(batch.tokens), batch.tokens).argmax(-1)
            found[batch.places] = said.cpu().numpy() == np.array([p.answer for p in chosen])
        return found

    def loss(self, pairs: list[Pair], rule: Rule) -> Float[Tensor, ""]:
        """Mean cross-entropy of the pairs' answers, differentiable in what the rule is made of.

        Runs `model.hf`, so the hook has to be a plain one.
        """
        total = self._x.new_zeros(())
        hf = self._model.hf
        training = [module for module in hf.modules() if module.training]
        hf.eval()
        try:
            for batch in self._batches(pairs):
                chosen = [pairs[i] for i in batch.places]
                tokens = batch.tokens
                with self._editing(chosen, rule):
                    logits = hf(
                        input_ids=tokens.ids, attention_mask=tokens.mask.long(), use_cache=False
                    ).logits
                answers = torch.tensor([p.answer for p in chosen], device=logits.device)
                last = _last(logits, tokens).float()
                losses = torch.nn.functional.cross_entropy(last, answers, reduction="sum")
                total = total + losses.to(total.device)
        finally:
            for module in training:
                module.training = True
        return total / len(pairs)

    def _editing(self, pairs: list[Pair], rule: Rule) -> AbstractContextManager[None]:
        facts = self._known.facts
        base, source = (
            self._x[torch.tensor(index)]
            for index in ([p.base for p in pairs], [p.source for p in pairs])
        )
        new = rule(base, source)
        places = torch.tensor([facts[p.base].place for p in pairs])

        def edit(x: Tensor, _content: Tensor) -> Tensor:
            row, place = torch.arange(len(places), device=x.device), places.to(x.device)
            return x.index_put((row, place), new.to(x.device, x.dtype))

        return self._model.editing({self._hook: edit})

    def _batches(self, pairs: list[Pair]) -> list[DocumentBatch]:
        prompts = [self._known.facts[pair.base].ids for pair in pairs]
        return document_batches(self._model, prompts, ctx_len=None, batch_tokens=_BATCH_TOKENS)


def _last(
    logits: Float[Tensor, "batch pos vocab"], tokens: TokenBatch
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of each prompt."""
    last = (tokens.mask.sum(1) - 1).to(logits.device)
    return logits[torch.arange(len(last), device=logits.device), last]
