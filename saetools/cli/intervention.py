"""One prompt, with and without an intervention: what `steer` and `ablate` show."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # torch stays out of `--help`; types only
    from saetools.intervene import Condition, Request
    from saetools.models import TextEncoder
    from saetools.sae import SAE

__all__ = ["Where", "before_and_after", "condition_of", "save_requests"]

Where = Annotated[
    Literal["all", "prompt", "generated", "last", "every"],
    typer.Option(
        "--positions",
        metavar="WHERE",
        help="Tokens to act on: all, prompt, generated, last (of the prompt), or every (BOS and "
        "other special tokens too).",
    ),
]

_N_NEIGHBOUR_TEXTS = 200


def before_and_after(
    run: RunFolder,
    intervention: Callable[[], AbstractContextManager[Any]],
    *,
    prompt: str,
    n_tokens: int,
) -> tuple[list[dict[str, Any]], Any]:
    """What the model makes of a prompt without and with an intervention, and what the latter
    yielded."""
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


def condition_of(
    latents: Sequence[int] | None, above: float
) -> "Callable[[SAE], Condition] | None":
    """The condition that --when-latent and --when-above ask for, once the SAE is there."""
    if not latents:
        return None

    def condition(sae: "SAE") -> "Condition":
        from saetools.intervene import Condition, LatentTrigger  # heavy: torch

        return Condition(LatentTrigger(sae, latents), above)

    return condition


def save_requests(run: RunFolder, requests: "Sequence[Request]", path: Path) -> tuple[Path, ...]:
    """Write requests as a recipe, or as lm-eval's steering file, by the ending of the name."""
    # heavy: torch
    from saetools.intervene.lm_eval import lm_eval_pt
    from saetools.intervene.recipe import InterventionRecipe, sae_fingerprint
    from saetools.models.base import LanguageModel

    if path.suffix == ".json":
        paths = {sae_fingerprint(r.sae): run.sae_folder.resolve() for r in requests if r.sae}
        return (InterventionRecipe.of(run.model, requests, paths=paths).save(path),)
    if path.suffix != ".pt":
        raise ConfigError(f"--save {path}: a recipe ends in .json, lm-eval's steering file in .pt")
    if not isinstance(run.model, LanguageModel):
        raise ConfigError(f"--save {path}: lm-eval steers language models, and this is an encoder")
    return (lm_eval_pt(run.model, requests, path),)


def _embeddings(
    run: RunFolder,
    model: "TextEncoder",
    intervention: Callable[[], AbstractContextManager[Any]],
    prompt: str,
) -> tuple[list[dict[str, Any]], Any]:
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
