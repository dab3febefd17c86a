"""One vector a text: activations and latents pooled over its content tokens, in one pass.

Latents stay sparse throughout; memory grows with the number of texts and of the latents that fire
in each, never with tokens times latents. Because `decode` is linear in the latents, pooled latents
are all that is needed to know what the pooled activation becomes when some are switched off:

    mean(x − Σ_j z_j W_dec[j]) = mean(x) − Σ_j mean(z_j) W_dec[j]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from saetools import progress
from saetools.evaluate.concepts.choose import Chosen
from saetools.evaluate.documents import document_batches
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.types import SparseLatents

__all__ = ["PooledTexts", "TokenRows", "pool_batches", "pool_texts"]

_TEXTS_AT_ONCE = 1024
_BATCH_TOKENS = 4096

Ints = npt.NDArray[np.int64]
TokenRows = tuple[Tensor, SparseLatents, Ints]
"""Content tokens: activations (n, d_in), their latents, and the text of each, (n,)."""


@dataclass(frozen=True)
class PooledTexts:
    """Texts of one data set, one row each; those without a content token are left out.

    Args:
        chosen: data set, concepts, and which text has which.
        x: mean activation over content tokens, (n, d_in).
        latents: mean of each latent over content tokens, (n, n_latents), sparse.
        peaks: largest value of each latent where it fires, (n, n_latents), sparse.
    """

    chosen: Chosen
    x: npt.NDArray[np.float32]
    latents: sparse.csr_matrix
    peaks: sparse.csr_matrix

    def __len__(self) -> int:
        return len(self.x)


def pool_texts(
    model: SubjectModel,
    sae: SAE,
    texts: Sequence[str | Sequence[int]],
    chosen: Chosen,
    *,
    hook_name: str,
    ctx_len: int | None = None,
) -> PooledTexts:
    """Run the model on the chosen ones of `texts` and pool what the SAE reads and makes of it."""
    wanted = [texts[i] for i in chosen.texts]
    with progress.task(f"read {chosen.name}", total=len(wanted), unit="texts") as task:
        rows = _model_rows(model, sae, wanted, hook_name, ctx_len, task)
        return pool_batches(rows, chosen, n_latents=sae.config.n_latents)


def pool_batches(batches: Iterator[TokenRows], chosen: Chosen, *, n_latents: int) -> PooledTexts:
    """Pool content tokens that come batch by batch, in any order.

    Args:
        batches: texts are numbered as in `chosen`; a text may be spread over batches.
    """
    n_texts = len(chosen.texts)
    counts = np.zeros(n_texts)
    total: npt.NDArray[np.float64] | None = None
    parts: list[_Entries] = []
    for x, latents, text in batches:
        if total is None:
            total = np.zeros((n_texts, x.shape[1]))
        present, local = np.unique(text, return_inverse=True)
        total[present] += _sums(x, local, len(present))
        counts += np.bincount(text, minlength=n_texts)
        parts.append(_merged([_entries(latents, text)]))
    kept = np.flatnonzero(counts)
    if total is None or not len(kept):
        width = 0 if total is None else total.shape[1]
        total, parts = np.zeros((n_texts, width)), [_NONE]
    entries = _merged(parts)
    row, latent = np.divmod(entries.key, n_latents)
    shape = (n_texts, n_latents)
    mean, peak = (
        sparse.csr_matrix((values.astype(np.float32), (row, latent)), shape=shape)
        for values in (entries.total / counts[row], entries.peak)
    )
    member = Chosen(
        chosen.name, chosen.texts[kept], chosen.concepts, chosen.member[kept], chosen.pairs
    )
    x_mean = (total[kept] / counts[kept, None]).astype(np.float32)
    return PooledTexts(member, x_mean, mean[kept], peak[kept])


@dataclass(frozen=True)
class _Entries:
    """Latents of texts: key = text · n_latents + latent, the sum and the largest of its values."""

    key: Ints
    total: npt.NDArray[np.float64]
    peak: npt.NDArray[np.float64]


_NONE = _Entries(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def _entries(latents: SparseLatents, text: Ints) -> _Entries:
    token, slot = (side.cpu().numpy() for side in latents.active.nonzero(as_tuple=True))
    value = latents.values.double().cpu().numpy()[token, slot]
    key = text[token] * latents.n_latents + latents.indices.cpu().numpy()[token, slot]
    return _Entries(key.astype(np.int64), value, value)


def _merged(parts: Sequence[_Entries]) -> _Entries:
    """One entry a key, in the order of keys."""
    key = np.concatenate([part.key for part in parts])
    if not len(key):
        return _NONE
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    total, peak = (
        np.concatenate(column)[order]
        for column in ([part.total for part in parts], [part.peak for part in parts])
    )
    return _Entries(key[starts], np.add.reduceat(total, starts), np.maximum.reduceat(peak, starts))


def _sums(x: Float[Tensor, "n d_in"], group: Ints, n_groups: int) -> npt.NDArray[np.float64]:
    at = torch.as_tensor(group, device=x.device)
    out = torch.zeros(n_groups, x.shape[1], device=x.device).index_add_(0, at, x.float())
    sums: npt.NDArray[np.float64] = out.double().cpu().numpy()
    return sums


def _model_rows(
    model: SubjectModel,
    sae: SAE,
    texts: Sequence[str | Sequence[int]],
    hook_name: str,
    ctx_len: int | None,
    task: progress.Task,
) -> Iterator[TokenRows]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        for batch in document_batches(model, part, ctx_len=ctx_len, batch_tokens=_BATCH_TOKENS):
            content = batch.tokens.content
            with torch.no_grad():
                x = model.activations(batch.tokens, [hook_name])[hook_name][content]
                x = x.float().to(sae.device)
                latents = sae.encode(x)
            place = torch.as_tensor(batch.places + start).unsqueeze(1).expand(content.shape)
            yield x, latents, place[content.cpu()].numpy()
            task.advance(len(batch.places))
