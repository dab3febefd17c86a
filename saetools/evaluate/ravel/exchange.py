"""Run base prompts with another activation at the last token of the entity.

Every fact is encoded once. A prompt is never run twice with one activation: what the model said is
kept, and most pairs of a small mask leave the base's latents as they were.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools import progress
from saetools.evaluate.documents import DocumentBatch, document_batches
from saetools.evaluate.ravel.facts import KnownFacts
from saetools.evaluate.ravel.pairs import Pair
from saetools.models.base import LanguageModel
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = ["Exchanger", "Rule"]

_BATCH_TOKENS = 1024
_ENCODE_ROWS = 1024
_RULE_PAIRS = 256  # latents of so many pairs are dense at a time

Rule = Callable[[Int[Tensor, " n"], Int[Tensor, " n"]], Float[Tensor, "n d_in"]]
"""Maps the facts that are base and source of pairs to what the base is given."""

_Run = tuple[int, bytes]
"""A prompt, by the number of its fact, and a digest of the activation that it is given."""


class Exchanger:
    """Base prompts of pairs, run under a rule that makes the new activation.

    Args:
        model: subject model.
        sae: SAE that reads the hook.
        hook_name: where the activation is put.
        known: facts that pairs are made of.
        keep_error: whether latents are exchanged around the reconstruction error.
        task: told of every pair whose prompt has been answered.

    Attributes:
        n_answered: those pairs so far, a pair once for every rule and every step.
    """

    def __init__(
        self,
        model: LanguageModel,
        sae: SAE,
        hook_name: str,
        known: KnownFacts,
        *,
        keep_error: bool,
        task: progress.Task,
    ) -> None:
        self._task, self.n_answered = task, 0
        self._model, self._sae, self._hook = model, sae, hook_name
        self._known, self._keep_error = known, keep_error
        self._x = known.x.to(sae.device)
        self._z = _encoded(sae, self._x)
        # Densely decoded, so that a mask gets a gradient: every decoder here is affine.
        self._W_dec, self._b_dec = sae.W_dec.detach().float(), sae.b_dec.detach().float()
        # A fact is known because its prompt, given its own activation, is answered rightly.
        self._said: dict[_Run, int] = {
            (number, digest): fact.answer
            for number, (fact, digest) in enumerate(
                zip(known.facts, _digests(self._x), strict=True)
            )
        }

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

    def activations(self, facts: Int[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """Activations at some facts' entities."""
        return self._x[facts]

    def latents(self, facts: Int[Tensor, " n"]) -> SparseLatents:
        """Latents at some facts' entities."""
        return SparseLatents(self._z.values[facts], self._z.indices[facts], self._z.n_latents)

    def masked(self, share: Float[Tensor, " n_latents"]) -> Rule:
        """The rule that takes `share` of every latent from the source, the rest from the base."""

        def rule(base: Tensor, source: Tensor) -> Tensor:
            z_base, z_source = (self.latents(facts).dense() for facts in (base, source))
            mixed = (1 - share) * z_base + share * z_source
            if self._keep_error:
                return self._x[base] + (mixed - z_base) @ self._W_dec
            return mixed @ self._W_dec + self._b_dec

        return rule

    @torch.no_grad()
    def right(self, pairs: list[Pair], rule: Rule) -> npt.NDArray[np.bool_]:
        """Whether the model's most likely next token is the pair's answer, (n,)."""
        new = torch.cat(
            [
                rule(*self._ends(pairs[start : start + _RULE_PAIRS]))
                for start in range(0, len(pairs), _RULE_PAIRS)
            ]
        )
        runs = [(pair.base, d) for pair, d in zip(pairs, _digests(new), strict=True)]
        fresh = {run: i for i, run in enumerate(runs) if run not in self._said}
        bases, rows = [run[0] for run in fresh], torch.tensor([*fresh.values()], dtype=torch.int64)
        self._answered(len(pairs) - len(bases))
        for batch in self._batches(bases):
            with self._evaluating():
                logits = self._last_logits(batch, bases, new[rows[torch.as_tensor(batch.places)]])
            for place, token in zip(batch.places, logits.argmax(-1).tolist(), strict=True):
                self._said[runs[int(rows[place])]] = token
            self._answered(len(batch.places))
        said = [self._said[run] for run in runs]
        return np.array([s == pair.answer for s, pair in zip(said, pairs, strict=True)], dtype=bool)

    def loss(self, pairs: list[Pair], rule: Rule) -> Float[Tensor, ""]:
        """Mean cross-entropy of the pairs' answers, differentiable in what the rule is made of."""
        total = self._x.new_zeros(())
        new, bases = rule(*self._ends(pairs)), [pair.base for pair in pairs]
        with self._evaluating():
            for batch in self._batches(bases):
                chosen = torch.as_tensor(batch.places)
                logits = self._last_logits(batch, bases, new[chosen]).float()
                answers = torch.tensor([pairs[i].answer for i in batch.places])
                losses = torch.nn.functional.cross_entropy(
                    logits, answers.to(logits.device), reduction="sum"
                )
                total = total + losses.to(total.device)
        self._answered(len(pairs))
        return total / len(pairs)

    def _answered(self, n_pairs: int) -> None:
        self.n_answered += n_pairs
        self._task.advance(n_pairs)

    def _ends(self, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
        base, source = ([p.base for p in pairs], [p.source for p in pairs])
        return torch.tensor(base, device=self.device), torch.tensor(source, device=self.device)

    def _batches(self, bases: list[int]) -> list[DocumentBatch]:
        if not bases:
            return []
        prompts = [self._known.facts[base].ids for base in bases]
        return document_batches(self._model, prompts, ctx_len=None, batch_tokens=_BATCH_TOKENS)

    def _last_logits(
        self, batch: DocumentBatch, bases: list[int], new: Float[Tensor, "batch d_in"]
    ) -> Float[Tensor, "batch vocab"]:
        """Logits at the last token of each prompt, with the new activations in their places.

        Runs `model.hf`, so the hook has to be a plain one.
        """
        tokens, hf = batch.tokens, self._model.hf
        last = tokens.mask.sum(1) - 1
        # What a vocabulary makes of all other tokens would be thrown away.
        wanted, column = torch.unique(last, return_inverse=True)
        kept = {"logits_to_keep": wanted} if _keeps_logits(hf) else {}
        with self._editing([self._known.facts[bases[i]].place for i in batch.places], new):
            logits: Tensor = hf(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                use_cache=False,
                **kept,
            ).logits
        at = (column if kept else last).to(logits.device)
        return logits[torch.arange(len(at), device=at.device), at]

    def _editing(self, places: list[int], new: Tensor) -> AbstractContextManager[None]:
        def edit(x: Tensor, _content: Tensor) -> Tensor:
            row, place = torch.arange(len(places)), torch.tensor(places)
            where = (row.to(x.device), place.to(x.device))
            return x.index_put(where, new.to(x.device, x.dtype))

        return self._model.editing({self._hook: edit})

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """No dropout, even while somebody is training the module."""
        training = [module for module in self._model.hf.modules() if module.training]
        self._model.hf.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


@torch.no_grad()
def _encoded(sae: SAE, x: Float[Tensor, "n d_in"]) -> SparseLatents:
    starts = range(0, max(len(x), 1), _ENCODE_ROWS)
    return SparseLatents.joined([sae.encode(x[start : start + _ENCODE_ROWS]) for start in starts])


def _digests(rows: Float[Tensor, "n d_in"]) -> list[bytes]:
    """A digest of every row's bits."""
    found = rows.contiguous().cpu().numpy()
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in found]


def _keeps_logits(hf: torch.nn.Module) -> bool:
    """Whether the module can be asked for the logits of some positions alone."""
    return "logits_to_keep" in inspect.signature(hf.forward).parameters
