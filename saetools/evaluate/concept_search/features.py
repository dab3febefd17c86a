"""One row a text: what the SAE reads, and its latents pooled; from a model, or from a store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from saetools import progress
from saetools.errors import ConfigError, ShapeError
from saetools.evaluate.concepts.choose import Chosen
from saetools.evaluate.concepts.pooled import PooledTexts, TokenRows, pool_batches, pool_texts
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.store import ActivationStore

__all__ = ["Pooling", "TextFeatures", "pool_features", "store_features"]

Ints = npt.NDArray[np.int64]
Pooling = Literal["max", "mean"]
"""How a latent's activations in a text become one number, over content tokens."""

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TextFeatures:
    """What is known of texts; those without a content token are left out.

    Args:
        place: position of each row's text among those given; of a store, its document, (n,).
        x: mean activation over content tokens, (n, d_in).
        latents: each latent pooled over content tokens, scipy CSR, (n, n_latents).
        pooling: how.
    """

    place: Ints
    x: npt.NDArray[np.float32]
    latents: Any
    pooling: Pooling

    def __post_init__(self) -> None:
        sizes = {len(self.place), len(self.x), self.latents.shape[0]}
        if len(sizes) > 1 or self.x.ndim != 2:
            raise ShapeError(
                f"TextFeatures has one row a text; got place {self.place.shape}, x {self.x.shape} "
                f"and latents {self.latents.shape}"
            )

    def __len__(self) -> int:
        return len(self.place)

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return int(self.latents.shape[1])

    def take(self, rows: npt.NDArray[Any]) -> "TextFeatures":
        """The texts that a mask or an index array chooses."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        return TextFeatures(self.place[at], self.x[at], self.latents[at], self.pooling)


def pool_features(
    model: SubjectModel,
    sae: SAE,
    texts: Sequence[str | Sequence[int]],
    *,
    pooling: Pooling = "max",
    hook_name: str | None = None,
    ctx_len: int | None = None,
) -> TextFeatures:
    """Run the model on texts and pool what the SAE reads and makes of it.

    Args:
        texts: texts, or token ids in their place.
        pooling: of latents; x is always a mean.
        hook_name: where the SAE reads; by default the hook it was trained at.
        ctx_len: tokens of a text that are read, specials included.
    """
    hook = _hook(sae, hook_name)
    pooled = pool_texts(model, sae, texts, _chosen(len(texts)), hook_name=hook, ctx_len=ctx_len)
    return _features(pooled, pooled.chosen.texts, pooling)


def store_features(
    sae: SAE,
    store: ActivationStore,
    docs: Sequence[int] | Ints,
    *,
    pooling: Pooling = "max",
    hook_name: str | None = None,
) -> TextFeatures:
    """Pool documents of a store; no model is run.

    Args:
        docs: numbers of the documents wanted, increasing.

    Raises:
        ShapeError: the SAE reads another width than the store has.
    """
    hook, docs = _hook(sae, hook_name, store), np.asarray(docs, dtype=np.int64)
    if sae.config.d_in != store.width(hook):
        raise ShapeError(
            f"the SAE reads activations of width {sae.config.d_in}; {store.path} holds width "
            f"{store.width(hook)} at {hook}; pool the store that the SAE was trained on"
        )
    place = np.full(store.n_docs, -1)
    place[docs] = np.arange(len(docs))
    pooled = pool_batches(
        _store_rows(sae, store, place, hook), _chosen(len(docs)), n_latents=sae.config.n_latents
    )
    return _features(pooled, docs[pooled.chosen.texts], pooling)


def _hook(sae: SAE, asked: str | None, store: ActivationStore | None = None) -> str:
    found = asked or sae.meta.get("hook_name") or (store.hook_name if store else None)
    if found is None:
        raise ConfigError(
            "the SAE does not say which hook it reads; give hook_name=, e.g. resid_post.3"
        )
    return str(found)


def _chosen(n: int) -> Chosen:
    return Chosen("texts", np.arange(n), (), np.zeros((n, 0), dtype=bool))


def _features(pooled: PooledTexts, place: Ints, pooling: Pooling) -> TextFeatures:
    if pooling not in ("max", "mean"):
        raise ConfigError(f"pooling is 'max' or 'mean', not {pooling!r}")
    latents = pooled.peaks if pooling == "max" else pooled.latents
    return TextFeatures(place, pooled.x, sparse.csr_matrix(latents), pooling)


def _store_rows(
    sae: SAE, store: ActivationStore, place: npt.NDArray[np.int64], hook: str
) -> Iterator[TokenRows]:
    stream = store.stream(split="all", batch_tokens=_BATCH_TOKENS, hook_name=hook)
    with progress.task("read documents", total=store.n_tokens, unit="tokens") as task:
        for batch in stream:
            kept = place[batch.doc] >= 0
            if kept.any():
                x = batch.x[torch.as_tensor(kept)].to(sae.device)
                with torch.no_grad():
                    latents = sae.encode(x)
                yield x, latents, place[batch.doc[kept]]
            task.advance(len(batch.x))
