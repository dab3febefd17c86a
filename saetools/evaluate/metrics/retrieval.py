"""Whether a text encoder still finds the other half of a document on the reconstruction.

Each document is cut in two at its middle; its first half asks, and the second halves of all
documents answer, by cosine of their final embeddings. Exactly one answer is right, so no labels are
needed and nothing is left to judgement.

    retrieval_mrr       = mean of 1 / rank of the right half          (1 best, chance ≈ ln n / n)
    retrieval_recall10  = share of right halves among the first 10    (chance 10 / n)

each for the clean model, for the spliced one (questions and answers), and with every activation set
to the mean vector, which is the floor: what is left there was not read from this hook.

    retrieval_recovered = (spliced − mean) / (clean − mean), of the MRR

A right half that ties with others has the mean of their ranks. More documents make the task harder:
compare figures for one number of documents only. Protocol as in known-item retrieval; MRR as in
Voorhees 1999 (TREC-8 question answering).
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

__all__ = ["Retrieval", "halves", "ranks"]

_BATCH_TOKENS = 4096
_FIRST = 10
_MIN_DOCS = 12
_BLOCK = 1024

_CONDITIONS = {
    "clean": "by the model as it is",
    "spliced": "on the reconstruction",
    "mean": "with the activation set to its mean",
}
_MRR = {
    name: Figure(
        f"retrieval_mrr_{name}",
        f"mean reciprocal rank of a document's second half, asked by its first, {how}",
        "higher" if name == "spliced" else "none",
        (0.0, 1.0),
    )
    for name, how in _CONDITIONS.items()
}
_RECALL = {
    name: Figure(
        f"retrieval_recall10_{name}",
        f"share of documents whose second half is among the first 10, {how}",
        "higher" if name == "spliced" else "none",
        (0.0, 1.0),
    )
    for name, how in _CONDITIONS.items()
}
_RECOVERED = Figure(
    "retrieval_recovered",
    "share of the way from mean ablation back to the clean MRR; 1 is all",
    "higher",
    (-math.inf, math.inf),
)

Text = str | tuple[int, ...]


@METRICS.register("retrieval")
class Retrieval(SplicedMetric):
    """Rank of a document's second half, asked by its first half, clean and spliced."""

    figures = (*_MRR.values(), *_RECALL.values(), _RECOVERED)
    needs = "text_encoder"

    def missing(self, ctx: MetricContext) -> str | None:
        """Say that there are too few documents of two words or more, beside the usual reasons."""
        why_not = super().missing(ctx)
        if why_not is not None:
            return why_not
        found = len(_pairs(ctx))
        if found >= _MIN_DOCS:
            return None
        return (
            f"it needs {_MIN_DOCS} documents of at least two words and found {found} on the split "
            f"'{ctx.split}'; hold out more documents, or raise n_docs"
        )

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure on the context's documents, three forward passes a half."""
        found = {name: ranks(*both) for name, both in _embeddings(ctx).items()}
        reciprocal = {name: 1 / rank for name, rank in found.items()}
        first = {name: (rank <= _FIRST).astype(float) for name, rank in found.items()}
        rows = [
            figure.measured(values[name].mean(), stderr=mean_stderr(values[name], seed=ctx.seed))
            for figures, values in ((_MRR, reciprocal), (_RECALL, first))
            for name, figure in figures.items()
        ]
        gained = reciprocal["spliced"] - reciprocal["mean"]
        whole = reciprocal["clean"] - reciprocal["mean"]
        value = gained.sum() / whole.sum() if whole.sum() > 0 else math.nan
        rows.append(_RECOVERED.measured(value, stderr=ratio_stderr(gained, whole, seed=ctx.seed)))
        return Findings(tuple(rows))


def halves(text: Text) -> tuple[Text, Text] | None:
    """The two halves of a text by words, or of token ids; None if it has fewer than two."""
    if isinstance(text, str):
        words = text.split()
        middle = len(words) // 2
        return (" ".join(words[:middle]), " ".join(words[middle:])) if middle else None
    middle = len(text) // 2
    return (text[:middle], text[middle:]) if middle else None


def ranks(asking: Float[Tensor, "n d"], answers: Float[Tensor, "n d"]) -> Floats:
    """Rank of answer i for question i among all answers by cosine, from 1; ties share their mean.

    Works through the questions in blocks, so that memory grows with n and not with n².
    """
    left, right = (torch.nn.functional.normalize(x.double(), dim=-1) for x in (asking, answers))
    found = []
    for start in range(0, len(left), _BLOCK):
        similar = left[start : start + _BLOCK] @ right.T  # (block, n)
        own = similar[torch.arange(len(similar)), torch.arange(len(similar)) + start].unsqueeze(1)
        # The two halves of one sum differ in the last bits; such answers are ties.
        above = similar > own + 1e-9
        tied = ((similar - own).abs() <= 1e-9).sum(1)
        found.append(above.sum(1) + (tied + 1) / 2)
    result: Floats = torch.cat(found).double().cpu().numpy()
    return result


def _pairs(ctx: MetricContext) -> list[tuple[Text, Text]]:
    assert ctx.texts is not None
    found = (halves(ctx.texts[doc]) for doc in ctx.model_docs)
    return [pair for pair in found if pair is not None]


def _embeddings(ctx: MetricContext) -> dict[str, tuple[Tensor, Tensor]]:
    """Embeddings of the first and of the second halves, by condition."""
    model, pairs = ctx.model, _pairs(ctx)
    assert isinstance(model, TextEncoder)
    texts = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    batches = document_batches(model, texts, ctx_len=ctx.ctx_len, batch_tokens=_BATCH_TOKENS)
    on_reconstruction, on_mean = spliced_edits(ctx), constant_edits(ctx)
    parts: dict[str, list[Tensor]] = {name: [] for name in _CONDITIONS}
    with progress.task("retrieval", total=len(texts), unit="texts") as task, torch.no_grad():
        for batch in batches:
            parts["clean"].append(model.embed(batch.tokens).cpu())
            with model.editing(on_reconstruction):
                parts["spliced"].append(model.embed(batch.tokens).cpu())
            with model.editing(on_mean):
                parts["mean"].append(model.embed(batch.tokens).cpu())
            task.advance(len(batch.places))
    back = torch.as_tensor(np.argsort(np.concatenate([batch.places for batch in batches])))
    n = len(pairs)
    whole = {name: torch.cat(rows)[back] for name, rows in parts.items()}
    return {name: (rows[:n], rows[n:]) for name, rows in whole.items()}
