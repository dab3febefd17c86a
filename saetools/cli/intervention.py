"""One prompt, with and without an intervention: what `steer` and `ablate` show."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # torch stays out of `--help`; types only
    from saetools.intervene import Probe
    from saetools.models import TextEncoder

__all__ = ["before_and_after"]

_N_NEIGHBOUR_TEXTS = 200


def before_and_after(
    run: RunFolder,
    intervention: Callable[[], "AbstractContextManager[Probe]"],
    *,
    prompt: str,
    n_tokens: int,
) -> tuple[list[dict[str, Any]], "Probe"]:
    """What the model makes of a prompt without and with an intervention, and the latter's probe."""
    from saetools.models.base import LanguageModel, TextEncoder  # heavy: torch

    model = run.model
    if isinstance(model, TextEncoder):
        return _embeddings(run, model, intervention, prompt)
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"{model.name} neither generates nor embeds; there is nothing to show")
    seed = run.config.seed
    before = model.generate(prompt, n_tokens, seed=seed)
    loss_before = model.loss([prompt])
    with intervention() as probe:
        after = model.generate(prompt, n_tokens, seed=seed)
        loss_after = model.loss([prompt])
    rows = [
        {"model": "as it is", "nats per prompt token": loss_before, "text": before},
        {"model": "changed", "nats per prompt token": loss_after, "text": after},
    ]
    return rows, probe


def _embeddings(
    run: RunFolder,
    model: "TextEncoder",
    intervention: Callable[[], "AbstractContextManager[Probe]"],
    prompt: str,
) -> tuple[list[dict[str, Any]], "Probe"]:
    """The prompt's nearest texts of the corpus, as the model is and changed."""
    texts = [document.text for document in run.corpus[:_N_NEIGHBOUR_TEXTS]]
    shelf = model.embed(texts)
    before = model.embed([prompt])
    with intervention() as probe:
        after = model.embed([prompt])
    rows = []
    for label, vector in (("as it is", before), ("changed", after)):
        best = (shelf @ vector[0]).topk(min(3, len(texts))).indices.tolist()
        near = " | ".join(" ".join(texts[i].split())[:60] for i in best)
        cosine = float(before[0] @ vector[0] / (before[0].norm() * vector[0].norm()))
        rows.append({"model": label, "cosine to unchanged": cosine, "nearest texts": near})
    return rows, probe
