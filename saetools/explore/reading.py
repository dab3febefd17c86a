"""Which latents fire on each token of a text: asked live, or packed into a page beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from saetools.analysis import LatentIndex
from saetools.analysis.token_text import readable, style_of
from saetools.explore.contexts import Packed
from saetools.intervene.base import find_site
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.types import SparseLatents

__all__ = ["Reading", "pack_readings", "read_stored", "read_texts"]

MAX_TOKENS = 512
_STORED_TOKENS = 160
_KEPT = 24  # latents of a token that a page keeps


@dataclass(frozen=True)
class Reading:
    """A text with the latents of each of its tokens, strongest first.

    Args:
        tokens: readable content tokens.
        latents: latents that fire on each token.
        acts: their activations.
        title: what to call the text.
        label: the label of its document, None if it has none.
    """

    tokens: list[str]
    latents: list[list[int]]
    acts: list[list[float]]
    title: str | None = None
    label: str | None = None


def read_texts(
    model: SubjectModel, sae: SAE, texts: Sequence[str], *, max_tokens: int = MAX_TOKENS
) -> list[Reading]:
    """Run a model on texts, one at a time, and encode the activations at the SAE's hook.

    Args:
        model: the SAE's own subject model.
        sae: the SAE.
        texts: what to read.
        max_tokens: where a text is cut, specials included; the model's own limit holds, too.

    Raises:
        ConfigError: the model is not the one that the SAE was trained on.
    """
    hook_name = find_site(model, sae).hook_name
    style = style_of(model.tokenizer.get_vocab())
    found = []
    for text in texts:
        tokens = model.tokenize([text], ctx_len=min(max_tokens, model.ctx_len))
        content = tokens.content[0]
        ids = tokens.ids[0][content].tolist()
        pieces = [str(piece) for piece in model.tokenizer.convert_ids_to_tokens(ids)]
        if ids:
            x = model.activations(tokens, [hook_name])[hook_name][0][content]
            with torch.no_grad():
                latents = sae.encode(x.to(sae.device, torch.float32))
            found.append(Reading(readable(pieces, style), *_entries(latents), title=_title(text)))
        else:
            found.append(Reading([], [], [], title=_title(text)))
    return found


def read_stored(index: LatentIndex, sae: SAE, store: ActivationStore, *, n: int) -> list[Reading]:
    """Encode `n` training documents of a store, spread evenly over it; no model is run.

    Held-out documents stay out: names are scored on them.
    """
    spans = np.asarray(store.doc_spans)
    docs = np.flatnonzero((spans[:, 1] - spans[:, 0] > 3) & ~np.asarray(store.held_out))
    chosen = docs[np.unique(np.linspace(0, len(docs) - 1, min(n, len(docs))).astype(int))]
    known = np.unique(store.columns(0, store.n_tokens).token_ids)  # what index.token_texts numbers
    rows = store.rows(index.hook_name)
    found = []
    for doc in chosen.tolist():
        start, stop = int(spans[doc, 0]), min(int(spans[doc, 1]), int(spans[doc, 0]) + _STORED_TOKENS)
        with torch.no_grad():
            latents = sae.encode(rows.floats(start, stop).to(sae.device))
        token = np.searchsorted(known, store.columns(start, stop).token_ids)
        tokens = [index.token_texts[t] for t in token.tolist()]
        title = index.docs.title[doc] or _title("".join(tokens))
        found.append(Reading(tokens, *_entries(latents), title=title, label=index.docs.label[doc]))
    return found


def pack_readings(readings: Sequence[Reading], max_act: npt.NDArray[np.float32]) -> Packed:
    """Readings as flat arrays: activations are shares of the latent's largest one, in 255ths.

    Arrays: prompt_start (n_texts + 1,) says where the tokens of a text begin, prompt_entry
    (n_tokens + 1,) where the latents of a token do.
    """
    tokens = [token for reading in readings for token in reading.tokens]
    latents = [here[:_KEPT] for reading in readings for here in reading.latents]
    acts = [here[:_KEPT] for reading in readings for here in reading.acts]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    flat = np.array([latent for here in latents for latent in here], dtype=np.int64)
    value = np.array([act for here in acts for act in here], dtype=np.float64)
    largest = np.maximum(max_act[flat], 1e-12) if len(flat) else value
    starts = np.cumsum([0, *(len(reading.tokens) for reading in readings)])
    entries = np.cumsum([0, *(len(here) for here in latents)])
    texts: dict[str, Any] = {
        "prompts": [{"title": r.title, "label": r.label} for r in readings],
        "prompt_vocab": list(vocabulary),
    }
    arrays = {
        "prompt_start": starts.astype("u4"),
        "prompt_tokens": np.array([vocabulary[token] for token in tokens], dtype="u4"),
        "prompt_entry": entries.astype("u4"),
        "prompt_latent": flat.astype("u4"),
        "prompt_share": np.clip(np.rint(value / largest * 255), 1, 255).astype("u1"),
    }
    return Packed(texts, arrays)


def _entries(latents: SparseLatents) -> tuple[list[list[int]], list[list[float]]]:
    """Active latents of each token and their values, strongest first."""
    values, order = latents.values.float().cpu().sort(dim=1, descending=True)  # (n, k)
    indices = latents.indices.cpu().gather(1, order)
    counts = (values > 0).sum(1).tolist()
    return (
        [row[:count] for row, count in zip(indices.tolist(), counts, strict=True)],
        [row[:count] for row, count in zip(values.tolist(), counts, strict=True)],
    )


def _title(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:57].rstrip()}…"
