"""`saetools steer --sweep`: effect and damage over strengths, and the strength to use."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # torch stays out of `--help`; types only
    import torch

    from saetools.intervene.dose import DoseResponse
    from saetools.sae import SAE

__all__ = ["run_sweep", "strengths_of"]

_MULTIPLES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_N_DOCS, _N_NEUTRAL, _N_PROMPTS, _PROMPT_WORDS = 200, 16, 8, 4


def strengths_of(asked: str | None, strength: float) -> list[float]:
    """The strengths of a sweep: those asked for, or multiples of one, up to four times it."""
    if asked is None:
        return [multiple * strength for multiple in _MULTIPLES]
    try:
        return [float(part) for part in asked.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(
            f"--strengths takes numbers with commas between them, e.g. 0,2,4,8; got {asked!r}"
        ) from error


def run_sweep(
    run: RunFolder,
    latents: Sequence[int],
    *,
    at: Callable[[float], AbstractContextManager[Any]],
    strengths: Sequence[float],
    unit: str,
    prompt: str | None,
    n_tokens: int,
    kl_limit: float | None,
) -> Outcome:
    """Measure what steering by each strength brings and costs; write JSON and a picture.

    Args:
        at: opens the block of a strength.
        prompt: text to continue; None takes the beginnings of neutral texts.
        kl_limit: None takes the default.
    """
    path = run.product("steer_sweep")
    with run.stage("steer_sweep"):
        sae = run.sae()
        found = _measured(
            run,
            sae,
            latents,
            at=at,
            strengths=strengths,
            unit=unit,
            prompt=prompt,
            n_tokens=n_tokens,
            kl_limit=kl_limit,
        )
        found.save(path)
        picture = path.with_suffix(".svg")
        picture.write_text(found.svg(), encoding="utf-8")
    return Outcome(
        title=f"swept the strength of {', '.join(map(str, latents))} ({unit})",
        figures={"chosen strength": found.chosen, "usable strengths": _spell(found.usable)},
        table=[_row(found, point) for point in found.points],
        text=found.verdict,
        wrote=(path, picture),
        next=_next(run, latents, found, unit, prompt),
    )


def _measured(
    run: RunFolder,
    sae: "SAE",
    latents: Sequence[int],
    *,
    at: Callable[[float], AbstractContextManager[Any]],
    strengths: Sequence[float],
    unit: str,
    prompt: str | None,
    n_tokens: int,
    kl_limit: float | None,
) -> "DoseResponse":
    # heavy: torch
    from saetools.intervene.dose import KL_LIMIT, dose_response, encoder_dose_response
    from saetools.models.base import LanguageModel, TextEncoder

    model = run.model
    texts = [document.text for document in run.corpus[:_N_DOCS]]
    fired = _fired(run, sae, latents, texts)
    order = fired.argsort(stable=True).tolist()
    neutral = [texts[i] for i in order[:_N_NEUTRAL]]
    if isinstance(model, TextEncoder):
        if kl_limit is not None:
            raise ConfigError("--kl-limit is about language models; a text encoder has no tokens")
        ends = (neutral, [texts[i] for i in order[-_N_NEUTRAL:]])
        low, high = (model.embed(part).mean(0) for part in ends)
        return encoder_dose_response(
            model,
            at,
            strengths,
            neutral=neutral,
            effect=lambda vectors: _mean_cosine(vectors, high - low),
            effect_name="cosine to the way from neutral texts to those that fire most",
            unit=unit,
        )
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"{model.name} neither generates nor embeds; there is nothing to sweep")
    starts = [" ".join(text.split()[:_PROMPT_WORDS]) for text in neutral[:_N_PROMPTS]]
    prompts = [prompt] * _N_PROMPTS if prompt is not None else starts
    return dose_response(
        model,
        at,
        strengths,
        prompts=prompts,
        neutral=neutral,
        effect=lambda said: _share_after(run, sae, latents, said, prompts),
        effect_name="share of generated tokens on which the latents fire, read again unsteered",
        unit=unit,
        kl_limit=KL_LIMIT if kl_limit is None else kl_limit,
        n_tokens=n_tokens,
        seed=run.config.seed,
    )


def _fired(
    run: RunFolder, sae: "SAE", latents: Sequence[int], texts: Sequence[str]
) -> "torch.Tensor":
    """Mean activation of the latents over the content tokens of each text."""
    import torch

    return torch.cat([acts.mean().reshape(1) for acts in _activations(run, sae, latents, texts)])


def _share_after(
    run: RunFolder,
    sae: "SAE",
    latents: Sequence[int],
    texts: Sequence[str],
    prompts: Sequence[str],
) -> float:
    """Share of the tokens after each prompt on which a latent fires in the model as it is."""
    import torch

    n_prompts = [int(run.model.tokenize([prompt]).content.sum()) for prompt in prompts]
    acts = _activations(run, sae, latents, texts)
    new = torch.cat([found[n:] for found, n in zip(acts, n_prompts, strict=True)])
    return float((new > 0).double().mean()) if len(new) else 0.0


def _activations(
    run: RunFolder, sae: "SAE", latents: Sequence[int], texts: Sequence[str]
) -> "list[torch.Tensor]":
    """The largest activation among the latents on each content token, text by text."""
    import torch

    from saetools.intervene.base import find_site  # heavy: torch

    site = find_site(run.model, sae)
    chosen = torch.tensor(list(latents), device=sae.device)
    ctx_len = min(run.config.harvest.ctx_len or run.model.ctx_len, run.model.ctx_len)
    found = []
    for start in range(0, len(texts), 16):
        tokens = run.model.tokenize(texts[start : start + 16], ctx_len=ctx_len)
        x = run.model.activations(tokens, [site.hook_name])[site.hook_name]
        for row, content in zip(x, tokens.content, strict=True):
            rows = row[content].to(sae.device, torch.float32)
            acts = sae.encode(rows).of(chosen) if len(rows) else torch.zeros(1, 1)
            found.append(acts.amax(1).cpu())
    return found


def _mean_cosine(vectors: "torch.Tensor", target: "torch.Tensor") -> float:
    import torch

    return float(torch.nn.functional.cosine_similarity(vectors, target.unsqueeze(0)).mean())


def _row(found: "DoseResponse", point: Any) -> Mapping[str, Any]:
    mark = "chosen" if point.strength == found.chosen else ""
    mark = mark or ("" if point.strength in found.usable else "over a limit")
    damages = {name: damage.value for name, damage in point.damages.items()}
    return {"strength": point.strength, "effect": point.effect, **damages, "": mark}


def _spell(window: Sequence[float]) -> str:
    return f"{window[0]:g} to {window[-1]:g}"


def _next(
    run: RunFolder, latents: Sequence[int], found: "DoseResponse", unit: str, prompt: str | None
) -> str:
    if found.chosen is None:
        return ""
    flags = " ".join(f"--latent {latent}" for latent in latents)
    said = f'--prompt "{prompt}"' if prompt else '--prompt "..."'
    return (
        f"saetools steer {run.path} {flags} --unit {unit} --strength {found.chosen:g} {said} "
        "--save recipe.json"
    )
