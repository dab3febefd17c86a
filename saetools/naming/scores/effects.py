"""How far a latent moves what the model says, towards each of several names.

`added`: the latent's direction is added to every content token of held-out texts, as long as a
multiple of its largest activation. `ablated`: the latent is set to zero in held-out texts in which
it fires; a language model is asked at the tokens where it fires, that is for what comes next.
Effects are signed so that positive means "as the name says": adding raises it, ablating lowers it.

A strong push flattens a distribution and raises the log-probability of nearly every name at once.
So an effect is counted from what the same push does, on average, to other names: the reference.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.intervene import Site, ablate, steer
from saetools.models import TokenBatch
from saetools.naming.base import Name
from saetools.naming.scores.claims import same_claim
from saetools.naming.scores.context import ScoringContext
from saetools.naming.scores.readout import Outputs, Readout
from saetools.naming.scores.running import activations_on

__all__ = ["Effects", "Moved"]

Floats = npt.NDArray[np.float64]


class Moved(NamedTuple):
    """Effects of one latent on several names.

    Args:
        effect: per name and text, in nats or cosine, above the mean over the reference names; nan
            where a text does not count.
        raw: the same before the reference was taken off.
        flipped: rise of the share of tokens that say the name (fall, of ablation); nan for
            encoders.
    """

    effect: Float[np.ndarray, "names texts"]
    raw: Float[np.ndarray, "names texts"]
    flipped: Float[np.ndarray, "names texts"]


class _Texts(NamedTuple):
    tokens: TokenBatch
    where: Bool[Tensor, "batch pos"]
    clean: Outputs


class Effects:
    """Measures effects; the model's answers without an intervention are kept.

    Args:
        context: the index and its held-out documents.
        site: the SAE in the model.
        readout: how an answer is read.
        n_texts: held-out texts for each measurement.
        n_tokens: their length, at most, in tokens of the index.
        strength: what is added, in units of the latent's largest activation.
        reference: names of other latents; their effect, in the mean, is no effect. A name that
            says the same as one of them does without that one.
    """

    def __init__(
        self,
        context: ScoringContext,
        site: Site,
        readout: Readout,
        *,
        n_texts: int,
        n_tokens: int,
        strength: float,
        reference: Sequence[Name],
    ) -> None:
        self._context, self._site, self._readout = context, site, readout
        self._n_texts, self._n_tokens, self._strength = n_texts, n_tokens, strength
        self._reference = reference
        self._common = lru_cache(maxsize=1)(self._read_common)

    def added(self, latent: int, names: Sequence[Name]) -> Moved:
        """Effects of adding a latent to the same texts as every other."""
        texts = self._common()
        strength = self._strength * float(self._context.index.max_act[latent])
        with steer(self._site.model, self._site.sae, {latent: strength}, strict=False):
            edited = self._readout.run(texts.tokens)
        return self._moved(names, texts.clean, edited, texts.where, sign=1)

    def ablated(self, latent: int, names: Sequence[Name]) -> Moved | None:
        """Effects of ablating a latent where it fires; None if it fires in no held-out text."""
        chosen = self._where_it_fires(latent)
        if not chosen:
            return None
        tokens = self._tokens(chosen)
        where = (activations_on(self._site, tokens, latent) > 0) & tokens.content.cpu()
        clean = self._readout.run(tokens)
        with ablate(self._site.model, self._site.sae, [latent], strict=False):
            edited = self._readout.run(tokens)
        return self._moved(names, clean, edited, where, sign=-1)

    def _read_common(self) -> _Texts:
        held_out = self._context.held_out
        rng = np.random.default_rng((self._context.seed, 5))
        docs = rng.permutation(held_out.docs)[: self._n_texts]
        rows = [held_out.starts[doc] + np.arange(self._n_tokens) for doc in docs.tolist()]
        inside = [r[(r < len(held_out))] for r in rows]
        texts = [
            held_out.text_of(r[held_out.doc[r] == doc])
            for r, doc in zip(inside, docs.tolist(), strict=True)
        ]
        tokens = self._tokens(texts)
        return _Texts(tokens, tokens.content, self._readout.run(tokens))

    def _where_it_fires(self, latent: int) -> list[str]:
        """Texts in which a latent fires, one a document, with three quarters before the firing."""
        held_out = self._context.held_out
        rows = self._context.firings(latent).row
        rows = np.random.default_rng((self._context.seed, 6, latent)).permutation(rows)
        _, first = np.unique(held_out.doc[rows], return_index=True)
        texts = []
        for row in rows[np.sort(first)][: self._n_texts].tolist():
            start, stop = held_out.span[row].tolist()
            begin = max(start, row - 3 * self._n_tokens // 4)
            texts.append(held_out.text_of(np.arange(begin, min(begin + self._n_tokens, stop))))
        return texts

    def _moved(
        self,
        names: Sequence[Name],
        clean: Outputs,
        edited: Outputs,
        where: Bool[Tensor, "batch pos"],
        *,
        sign: int,
    ) -> Moved:
        def change(name: Name) -> Tensor:
            return sign * (edited.of(name, where) - clean.of(name, where))

        raw = _table([change(name) for name in names])
        flipped = [sign * (edited.top(name, where) - clean.top(name, where)) for name in names]
        elsewhere = _table([change(name) for name in self._reference])
        others = [[not same_claim(name, other) for other in self._reference] for name in names]
        effect = np.stack(
            [
                row - elsewhere[other].mean(0) if any(other) else row
                for row, other in zip(raw, others, strict=True)
            ]
        )
        return Moved(effect, raw, _table(flipped))

    def _tokens(self, texts: Sequence[str]) -> TokenBatch:
        return self._site.model.tokenize(texts)


def _table(rows: Sequence[Tensor]) -> Floats:
    if not rows:
        return np.zeros((0, 0))
    found: Floats = torch.stack(list(rows)).double().cpu().numpy()
    return found
