"""What a text encoder's final embedding keeps when the encoder runs on the reconstruction.

    embedding_cosine      = mean over documents of cos(clean, spliced)
    embedding_cosine_mean = the same with every activation set to the mean vector: the floor
    embedding_recovered   = (embedding_cosine − floor) / (1 − floor)
    neighbour_overlap     = mean share of the 10 nearest documents (by cosine) that stay the same

Encoders have no loss to recover, and a cosine alone flatters: embeddings of different texts already
share a direction. So both come with their floor.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings
from saetools.evaluate.bootstrap import Floats, mean_stderr, ratio_stderr
from saetools.evaluate.context import MetricContext
from saetools.evaluate.documents import document_batches
from saetools.evaluate.spliced import SplicedMetric, constant_edits, spliced_edits
from saetools.models.base import TextEncoder

__all__ = ["EmbeddingCosine", "neighbour_overlap"]

_BATCH_TOKENS = 4096
_NEIGHBOURS = 10

_COSINE = Figure(
    "embedding_cosine", "mean cosine of final embeddings, clean and spliced", "higher", (-1.0, 1.0)
)
_FLOOR = Figure(
    "embedding_cosine_mean", "the same with the activation set to its mean", "none", (-1.0, 1.0)
)
_RECOVERED = Figure(
    "embedding_recovered",
    "share of the way from mean ablation back to the clean embedding; 1 is all",
    "higher",
    (-math.inf, 1.0),
)
_OVERLAP = Figure(
    "neighbour_overlap",
    "mean share of the 10 nearest documents that splicing keeps",
    "higher",
    (0.0, 1.0),
)
_OVERLAP_FLOOR = Figure(
    "neighbour_overlap_mean", "the same with the activation set to its mean", "none", (0.0, 1.0)
)


@METRICS.register("embedding_cosine")
class EmbeddingCosine(SplicedMetric):
    """Cosine and neighbours of final embeddings, against mean ablation as the floor."""

    figures = (_COSINE, _FLOOR, _RECOVERED, _OVERLAP, _OVERLAP_FLOOR)
    needs = "text_encoder"

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure on the context's documents, three forward passes each."""
        clean, spliced, floor = _embeddings(ctx)
        kept, lost = _cosines(clean, spliced), _cosines(clean, floor)
        overlap, overlap_floor = neighbour_overlap(clean, spliced), neighbour_overlap(clean, floor)
        gained, whole = kept - lost, 1 - lost
        rows = [
            figure.measured(values.mean(), stderr=mean_stderr(values, seed=ctx.seed))
            for figure, values in (
                (_COSINE, kept),
                (_FLOOR, lost),
                (_OVERLAP, overlap),
                (_OVERLAP_FLOOR, overlap_floor),
            )
        ]
        recovered = gained.sum() / whole.sum() if whole.sum() > 0 else math.nan
        rows.insert(
            2, _RECOVERED.measured(recovered, stderr=ratio_stderr(gained, whole, seed=ctx.seed))
        )
        return Findings(tuple(rows))


def neighbour_overlap(
    before: Float[Tensor, "n d_model"], after: Float[Tensor, "n d_model"], *, n: int = _NEIGHBOURS
) -> Floats:
    """Share of each row's `n` nearest other rows (by cosine) that are the same in both.

    With fewer than n + 1 rows all others are neighbours and the overlap says nothing; NaN then.
    """
    if len(before) <= n + 1:
        return np.full(len(before), math.nan)
    near, nearer = (_nearest(rows, n) for rows in (before, after))
    shared = (near.unsqueeze(-1) == nearer.unsqueeze(-2)).any(-1).double().mean(-1)
    overlap: Floats = shared.cpu().numpy()
    return overlap


def _nearest(rows: Tensor, n: int) -> Tensor:
    """Indices of the n most similar other rows, (n_rows, n); in chunks, to bound memory."""
    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    found = []
    for start in range(0, len(unit), 1024):
        similar = unit[start : start + 1024] @ unit.T
        own = torch.arange(len(similar), device=unit.device)
        similar[own, own + start] = -math.inf
        found.append(similar.topk(n, dim=-1).indices)
    return torch.cat(found)


def _cosines(before: Tensor, after: Tensor) -> Floats:
    cosine = torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
    values: Floats = cosine.clamp(-1.0, 1.0).cpu().numpy()
    return values


def _embeddings(ctx: MetricContext) -> tuple[Tensor, Tensor, Tensor]:
    """Final embeddings of the documents: clean, spliced, and with the mean activation."""
    model, texts, docs = ctx.model, ctx.texts, ctx.model_docs
    assert isinstance(model, TextEncoder)
    assert texts is not None
    batches = document_batches(
        model, [texts[doc] for doc in docs], ctx_len=ctx.ctx_len, batch_tokens=_BATCH_TOKENS
    )
    on_reconstruction, on_mean = spliced_edits(ctx), constant_edits(ctx)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with progress.task("embeddings", total=len(docs), unit="documents") as task, torch.no_grad():
        for batch in batches:
            clean = model.embed(batch.tokens)
            with model.editing(on_reconstruction):
                spliced = model.embed(batch.tokens)
            with model.editing(on_mean):
                floor = model.embed(batch.tokens)
            parts.append((clean.cpu(), spliced.cpu(), floor.cpu()))
            task.advance(len(batch.places))
    order = np.argsort(np.concatenate([batch.places for batch in batches]))
    back = torch.as_tensor(order)
    clean, spliced, floor = (torch.cat(column)[back] for column in zip(*parts, strict=True))
    return clean, spliced, floor
