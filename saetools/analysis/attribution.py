"""Which latents a language model's answers rest on, to first order.

    effect of i = mean over questions of Σ over tokens of z_i · (∂ log p(answer) / ∂x · W_dec[i])

That is what log p(answer) would lose if the latent were switched off and the model were linear
(attribution patching; for latents: Marks et al. 2024, arXiv:2403.19647, equation 2). One backward
pass a batch, whatever the number of latents.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE

__all__ = ["attribute_latents"]

_BATCH_QUESTIONS = 64


def attribute_latents(
    model: LanguageModel,
    sae: SAE,
    questions: Sequence[Question],
    *,
    hook_name: str | None = None,
) -> Float[Tensor, " n_latents"]:
    """The effect of each latent on the log-probability of the right answers, in nats.

    Args:
        model: a language model whose weights take gradients as they are.
        sae: reads the hook in it.
        questions: prompts and their answers.
        hook_name: where; by default the hook that the SAE was trained at. A plain site: the pass
            runs `model.hf`.

    Raises:
        ConfigError: no question, or the SAE names no hook and none was given.
    """
    hook = hook_name or sae.meta.get("hook_name")
    if not questions or hook is None:
        what = "no question was given" if hook else "the SAE names no hook; pass hook_name="
        raise ConfigError(f"attribute_latents: {what}")
    total = torch.zeros(sae.config.n_latents, device=sae.device)
    for start in range(0, len(questions), _BATCH_QUESTIONS):
        part = questions[start : start + _BATCH_QUESTIONS]
        total += _effects(model, sae, part, hook)
    return total / len(questions)


def _effects(
    model: LanguageModel, sae: SAE, questions: Sequence[Question], hook: str
) -> Float[Tensor, " n_latents"]:
    tokens = model.tokenize([q.prompt + q.answer for q in questions])
    n_prompt = model.tokenize([q.prompt for q in questions]).mask.sum(1)
    x, gradient = _gradient(model, tokens, n_prompt, hook)
    content = tokens.content.to(x.device)
    rows, slopes = x[content].to(sae.device), gradient[content].to(sae.device)
    with torch.no_grad():
        latents = sae.encode(rows)
        along = (slopes.unsqueeze(1) * sae.W_dec[latents.indices]).sum(-1)  # (n, k)
        effect = torch.zeros(sae.config.n_latents, device=sae.device)
        return effect.index_add_(
            0, latents.indices.flatten(), (along * latents.values).flatten().float()
        )


def _gradient(
    model: LanguageModel, tokens: TokenBatch, n_prompt: Tensor, hook: str
) -> tuple[Tensor, Tensor]:
    """Activations at the hook, and the gradient of the summed log p of the answers by them."""
    kept: list[Tensor] = []

    def keep(x: Float[Tensor, "b p d"], content: Bool[Tensor, "b p"]) -> Float[Tensor, "b p d"]:
        del content
        kept.append(x.detach().requires_grad_())
        return kept[-1]

    batch = tokens.to(model.device)
    with torch.enable_grad(), model.editing({hook: keep}):
        logits = model.hf(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
        told = logits[:, :-1].float().log_softmax(-1)
        told = told.gather(-1, batch.ids[:, 1:].unsqueeze(-1)).squeeze(-1)
        place = torch.arange(told.shape[1], device=told.device)
        of_answer = batch.mask[:, 1:] & (place >= n_prompt.to(told.device).unsqueeze(1) - 1)
        (gradient,) = torch.autograd.grad((told * of_answer).sum(), kept)
    return kept[0].detach(), gradient
