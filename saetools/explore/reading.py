"""Which latents fire on each token of some texts, packed into a page.

The texts are documents of the index, whose activations it holds; no model is run for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.explore.contexts import Packed
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["PackedText", "pack_texts", "read_documents", "read_texts"]

_MAX_TOKENS = 160
_KEPT = 24  # latents of a token
_ENTRIES = 4_000_000  # read at once

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackedText:
    """A text with the latents of each of its tokens, strongest first.

    Args:
        tokens: readable tokens.
        latents: for each token its active latents, and their share of the latent's largest
            activation.
        title: what to call it.
        label: the label of its document, None if it has none.
    """

    tokens: list[str]
    latents: list[list[tuple[int, float]]]
    title: str
    label: str | None = None


def read_documents(index: LatentIndex, *, n: int) -> list[PackedText]:
    """The beginnings of `n` training documents, spread evenly over the corpus.

    Held-out documents stay out: names are scored on them, and a reader who has seen them can't
    judge a name fairly.
    """
    bounds = np.asarray(index.doc_tokens.bounds, dtype=np.int64)
    docs = np.flatnonzero((np.diff(bounds) > 3) & ~np.asarray(index.docs.held_out))
    if n < 1 or not len(docs):
        return []
    chosen = docs[np.unique(np.linspace(0, len(docs) - 1, min(n, len(docs))).astype(int))]
    lengths = np.minimum(np.diff(bounds)[chosen], _MAX_TOKENS)
    rows = np.concatenate([bounds[d] + np.arange(m) for d, m in zip(chosen, lengths, strict=True)])
    found = _on_rows(index, rows)
    starts = np.cumsum([0, *lengths])
    texts = []
    for i, doc in enumerate(chosen.tolist()):
        tokens = index.tokens_of(doc)[: int(lengths[i])]
        title = index.docs.title[doc] or _short("".join(tokens))
        latents = found[int(starts[i]) : int(starts[i + 1])]
        texts.append(PackedText(tokens, latents, title, index.docs.label[doc]))
    return texts


def read_texts(
    index: LatentIndex, texts: Sequence[str], *, model: SubjectModel | None, sae: SAE | None
) -> list[PackedText]:
    """Texts of the user's own, run through the model.

    Raises:
        ConfigError: the model or the SAE is missing.
    """
    if model is None or sae is None:
        raise ConfigError(
            "explore was given prompts= to read, and reading takes model= and sae= of the index; "
            "give both, or leave prompts= out: then documents of the index are shown"
        )
    found = []
    for text in texts:
        reading = index.fires_on(model, sae, text)
        latents = [
            [(latent, act / max(float(index.max_act[latent]), 1e-12)) for latent, act in here]
            for here in reading.latents
        ]
        found.append(PackedText(reading.tokens, latents, _short(text)))
    return found


def pack_texts(texts: Sequence[PackedText]) -> Packed:
    """Texts as flat arrays; the share of a latent's largest activation is kept in 255ths.

    Arrays: prompt_start (n_texts + 1,) says where the tokens of a text begin, prompt_entry
    (n_tokens + 1,) where the latents of a token do.
    """
    tokens = [token for text in texts for token in text.tokens]
    latents = [here[:_KEPT] for text in texts for here in text.latents]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    entries = [entry for here in latents for entry in here]
    share = np.array([share for _, share in entries], dtype=np.float64)
    head = {
        "prompts": [{"title": text.title, "label": text.label} for text in texts],
        "prompt_vocab": list(vocabulary),
    }
    arrays = {
        "prompt_start": np.cumsum([0, *(len(text.tokens) for text in texts)]).astype("u4"),
        "prompt_tokens": np.array([vocabulary[token] for token in tokens], dtype="u4"),
        "prompt_entry": np.cumsum([0, *(len(here) for here in latents)]).astype("u4"),
        "prompt_latent": np.array([latent for latent, _ in entries], dtype="u4"),
        "prompt_share": np.clip(np.rint(share * 255), 1, 255).astype("u1"),
    }
    return Packed(head, arrays)


def _on_rows(index: LatentIndex, rows: Ints) -> list[list[tuple[int, float]]]:
    """The latents on each of some rows of the corpus with their shares, strongest first."""
    slot = np.full(int(index.doc_tokens.bounds[-1]), -1, dtype=np.int32)
    slot[rows] = np.arange(len(rows))
    found: list[list[tuple[int, float]]] = [[] for _ in rows]
    bounds = np.asarray(index.lists.bounds, dtype=np.int64)
    first = 0
    while first < index.n_latents:
        last = int(np.searchsorted(bounds, bounds[first] + _ENTRIES, side="right")) - 1
        last = min(max(last, first + 1), index.n_latents)
        coded = index.lists.read(int(bounds[first]), int(bounds[last]))
        sizes = np.diff(bounds[first : last + 1])
        total = np.r_[0, np.cumsum(coded.step, dtype=np.int64)]
        # Steps begin anew with each list: its first one is the row itself.
        before = np.repeat(total[bounds[first:last] - bounds[first]], sizes)
        place = slot[total[1:] - before]
        here = np.flatnonzero(place >= 0)
        latent = np.repeat(np.arange(first, last), sizes)[here]
        shares = coded.share[here].astype(np.float64)
        for i, j, share in zip(place[here].tolist(), latent.tolist(), shares.tolist(), strict=True):
            found[i].append((j, share))
        first = last
    return [sorted(here, key=lambda entry: -entry[1]) for here in found]


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:57].rstrip()}…"
