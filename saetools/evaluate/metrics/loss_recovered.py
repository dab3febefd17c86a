"""What a language model loses when it runs on the reconstruction.

    ce_increase         = ce_spliced − ce_clean
    loss_recovered_zero = (ce_zero − ce_spliced) / (ce_zero − ce_clean)
    loss_recovered_mean = (ce_mean − ce_spliced) / (ce_mean − ce_clean)
    kl                  = mean over tokens of KL(clean ‖ spliced)
    kl_recovered_zero   = (kl_zero − kl) / kl_zero           kl_zero: the same with the activation 0
    kl_recovered_mean   = (kl_mean − kl) / kl_mean

in nats a token; a score is NaN where its floor is no worse than the clean model. The scores against
zero are the field's (SAEBench, Karvonen et al. 2025, arXiv:2503.09532) and are flattered by how
badly a model runs on zeros; replacing every activation by the mean vector is the fairer floor.

A transcoder (Dunefsky et al. 2024, arXiv:2406.11944) reads one activation and is spliced where it
writes another, in the same forward pass; zero and mean are then those of what it writes: of a
transcoder of an MLP, the MLP left out and its mean output.

All three replacements leave special tokens (BOS, EOS) and padding alone, since their activations
can be tens of times longer and no SAE of this package is trained on them. With
`LossRecovered(special_tokens="replaced")` special tokens are replaced too, for comparisons with
evaluators that do so: an SAE then answers for rows that it has never seen.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError
from saetools.evaluate.base import METRICS, Figure, Findings, Measurement
from saetools.evaluate.bootstrap import Floats, ratio_stderr
from saetools.evaluate.context import MetricContext
from saetools.evaluate.documents import DocumentBatch, document_batches
from saetools.evaluate.replace import everywhere
from saetools.evaluate.spliced import Edits, SplicedMetric, constant_edits, spliced_edits
from saetools.models.base import LanguageModel

__all__ = ["LossRecovered", "SpecialTokens"]

SpecialTokens = Literal["kept", "replaced"]

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
_INCREASE = Figure(
    "ce_increase",
    "what running on the reconstruction costs, nats a token",
    "lower",
    (-math.inf, math.inf),
)
_RECOVERED = {
    floor: Figure(
        f"loss_recovered_{floor}",
        f"share of the way from {floor} ablation back to the clean loss; 1 is all",
        "higher",
        (-math.inf, math.inf),
    )
    for floor in ("zero", "mean")
}
_KL = {
    name: Figure(
        "kl" if name == "spliced" else f"kl_{name}",
        f"KL of the next-token distribution, clean to {name}, nats a token",
        "lower" if name == "spliced" else "none",
        (0.0, math.inf),
    )
    for name in ("spliced", "zero", "mean")
}
_KL_RECOVERED = {
    floor: Figure(
        f"kl_recovered_{floor}",
        f"share of the KL of {floor} ablation that the reconstruction avoids; 1 is all",
        "higher",
        (-math.inf, 1.0),
    )
    for floor in ("zero", "mean")
}


@METRICS.register("loss_recovered")
class LossRecovered(SplicedMetric):
    """Cross-entropy and KL on the reconstruction, between the clean model and two floors.

    Args:
        special_tokens: "kept": BOS and EOS keep their activation; "replaced": only padding does.
    """

    figures = (
        *_CE.values(),
        _INCREASE,
        *_RECOVERED.values(),
        *_KL.values(),
        *_KL_RECOVERED.values(),
    )
    needs = "language_model"

    def __init__(self, *, special_tokens: SpecialTokens = "kept") -> None:
        if special_tokens not in ("kept", "replaced"):
            raise ConfigError(
                f"loss_recovered: special_tokens is 'kept' or 'replaced', not {special_tokens!r}"
            )
        self._special_tokens = special_tokens

    def compute(self, ctx: MetricContext) -> Findings:
        """Measure on the context's documents, four forward passes each."""
        model, texts = ctx.model, ctx.texts
        assert isinstance(model, LanguageModel)
        assert texts is not None
        docs = ctx.model_docs
        names = (*_CONDITIONS, *(f"kl_{name}" for name in _KL), "tokens")
        sums = {name: np.zeros(len(docs)) for name in names}
        edits = {
            "spliced": spliced_edits(ctx),
            "zero": constant_edits(ctx, torch.zeros_like(ctx.mean)),
            "mean": constant_edits(ctx),
        }
        batches = document_batches(
            model, [texts[doc] for doc in docs], ctx_len=ctx.ctx_len, batch_tokens=_BATCH_TOKENS
        )
        with progress.task("loss", total=len(docs), unit="documents") as task, torch.no_grad():
            for batch in batches:
                replacing = edits
                if self._special_tokens == "replaced":
                    mask = batch.tokens.mask
                    replacing = {name: _widened(part, mask) for name, part in edits.items()}
                for name, values in _run(model, batch, replacing).items():
                    sums[name][batch.places] = values
                task.advance(len(batch.places))
        return _findings(sums, ctx.seed)


class _Run(NamedTuple):
    """Log-probabilities at every place but the last, and the loss of the token that followed."""

    log_probs: Float[Tensor, "batch pos1 vocab"]
    losses: Float[Tensor, "batch pos1"]


def _widened(edits: Edits, mask: Bool[Tensor, "batch pos"]) -> Edits:
    """The same edits at every token of `mask`, special ones included."""
    return {hook_name: everywhere(edit, mask) for hook_name, edit in edits.items()}


def _run(
    model: LanguageModel, batch: DocumentBatch, edits: Mapping[str, Edits]
) -> dict[str, Floats]:
    """Sums over the real next tokens of each document, by condition."""
    real = batch.tokens.mask[:, 1:]
    clean = _forward(model, batch)
    by_token = {"clean": clean.losses, "tokens": torch.ones_like(clean.losses)}
    for name, part in edits.items():
        with model.editing(part):
            found = _forward(model, batch)
        kl = (clean.log_probs.exp() * (clean.log_probs - found.log_probs)).sum(-1)
        by_token |= {name: found.losses, f"kl_{name}": kl.clamp_min(0.0)}
    return {name: _sum_real(values, real) for name, values in by_token.items()}


def _forward(model: LanguageModel, batch: DocumentBatch) -> _Run:
    # Half-precision logits would round the loss to two digits.
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

    tokens, clean, spliced = sums["tokens"], sums["clean"], sums["spliced"]
    rows = [ratio(figure, sums[name], tokens) for name, figure in _CE.items()]
    rows.append(ratio(_INCREASE, spliced - clean, tokens))
    rows += (
        ratio(figure, sums[floor] - spliced, sums[floor] - clean)
        for floor, figure in _RECOVERED.items()
    )
    rows += (ratio(figure, sums[f"kl_{name}"], tokens) for name, figure in _KL.items())
    rows += (
        ratio(figure, sums[f"kl_{floor}"] - sums["kl_spliced"], sums[f"kl_{floor}"])
        for floor, figure in _KL_RECOVERED.items()
    )
    return Findings(tuple(rows))
