"""What a language model loses when it runs on the reconstruction.

    loss_recovered_zero = (ce_zero − ce_spliced) / (ce_zero − ce_clean)
    loss_recovered_mean = (ce_mean − ce_spliced) / (ce_mean − ce_clean)
    kl                  = mean over tokens of KL(clean ‖ spliced)

in nats a token; a score is NaN where its floor is no worse than the clean model. The first is the
field's score (SAEBench, Karvonen et al. 2025, arXiv:2503.09532) and is flattered by how badly a
model runs on zeros; replacing every activation by the mean vector is the fairer floor. All three
replacements leave special tokens and padding alone.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools import progress
from saetools.evaluate.base import METRICS, Figure, Findings, Measurement, Metric
from saetools.evaluate.bootstrap import Floats, ratio_stderr
from saetools.evaluate.context import MetricContext
from saetools.evaluate.documents import DocumentBatch, document_batches
from saetools.evaluate.replace import replaced_by
from saetools.intervene import splice
from saetools.models.base import LanguageModel

__all__ = ["LossRecovered"]

# Logits of two runs are held at once: 1024 tokens of a vocabulary of 50,000 are 200 MB each.
_BATCH_TOKENS = 1024

_CONDITIONS = {
    "clean": "loss of the model as it is, nats a token",
    "spliced": "loss on the reconstruction, nats a token",
    "zero": "loss with the activation set to zero, nats a token",
    "mean": "loss with the activation set to its mean vector, nats a token",
}
_CE = {
    name: Figure(f"ce_{name}", meaning, "none" if name != "spliced" else "lower", (0.0, math.inf))
    for name, meaning in _CONDITIONS.items()
}
_RECOVERED = {
    floor: Figure(
        f"loss_recovered_{floor}",
        f"share of the way from {floor} ablation back to the clean loss; 1 is all",
        "higher",
        (-math.inf, math.inf),
    )
    for floor in ("zero", "mean")
}
_KL = Figure(
    "kl", "KL of the next-token distribution, clean to spliced, nats a token", "lower",
    (0.0, math.inf),
)  # fmt: skip


@METRICS.register("loss_recovered")
class LossRecovered(Metric):
    """Cross-entropy on the reconstruction, between the clean model and two floors."""

    figures = (*_CE.values(), *_RECOVERED.values(), _KL)
    needs = "language_model"

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure on the context's documents, four forward passes each."""
        model, texts = ctx.model, ctx.texts
        assert isinstance(model, LanguageModel)
        assert texts is not None
        docs = ctx.model_docs
        sums = {name: np.zeros(len(docs)) for name in (*_CONDITIONS, "kl", "tokens")}
        batches = document_batches(
            model, [texts[doc] for doc in docs], ctx_len=ctx.ctx_len, batch_tokens=_BATCH_TOKENS
        )
        with progress.task("loss", total=len(docs), unit="documents") as task, torch.no_grad():
            for batch in batches:
                for name, values in _run(model, ctx, batch).items():
                    sums[name][batch.places] = values
                task.advance(len(batch.places))
        return _findings(sums, ctx.seed)


class _Run(NamedTuple):
    """Log-probabilities at every place but the last, and the loss of the token that followed."""

    log_probs: Float[Tensor, "batch pos1 vocab"]
    losses: Float[Tensor, "batch pos1"]


def _run(model: LanguageModel, ctx: MetricContext, batch: DocumentBatch) -> dict[str, Floats]:
    """Sums over the real next tokens of each document, by condition."""
    tokens, hook = batch.tokens, ctx.hook_name
    clean = _forward(model, batch)
    with splice(model, ctx.sae, hook_name=hook):
        spliced = _forward(model, batch)
    with model.editing({hook: replaced_by(torch.zeros_like(ctx.mean))}):
        zero, real = model.token_losses(tokens)
    with model.editing({hook: replaced_by(ctx.mean)}):
        mean, _ = model.token_losses(tokens)
    kl = (clean.log_probs.exp() * (clean.log_probs - spliced.log_probs)).sum(-1)
    by_token = {
        "clean": clean.losses, "spliced": spliced.losses, "zero": zero, "mean": mean,
        "kl": kl.clamp_min(0.0), "tokens": torch.ones_like(zero),
    }  # fmt: skip
    return {name: _sum_real(values, real) for name, values in by_token.items()}


def _forward(model: LanguageModel, batch: DocumentBatch) -> _Run:
    log_probs = model.logits(batch.tokens)[:, :-1].float().log_softmax(-1)
    following = batch.tokens.ids[:, 1:].unsqueeze(-1)
    return _Run(log_probs, -log_probs.gather(-1, following).squeeze(-1))


def _sum_real(values: Float[Tensor, "batch pos1"], real: Bool[Tensor, "batch pos1"]) -> Floats:
    # where, not a product: a loss at padding may be infinite, and 0 · inf is NaN.
    kept = torch.where(real, values, torch.zeros_like(values))
    sums: Floats = kept.sum(1, dtype=torch.float64).cpu().numpy()
    return sums


def _findings(sums: dict[str, Floats], seed: int) -> Findings:
    def ratio(figure: Figure, above: Floats, below: Floats) -> Measurement:
        whole = below.sum()
        value = above.sum() / whole if whole > 0 else math.nan
        return figure.measured(value, stderr=ratio_stderr(above, below, seed=seed))

    losses = [ratio(figure, sums[name], sums["tokens"]) for name, figure in _CE.items()]
    scores = [
        ratio(figure, sums[floor] - sums["spliced"], sums[floor] - sums["clean"])
        for floor, figure in _RECOVERED.items()
    ]
    return Findings((*losses, *scores, ratio(_KL, sums["kl"], sums["tokens"])))
