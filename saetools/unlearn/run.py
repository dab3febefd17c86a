"""Plan an unlearning, and carry it out on a copy of the model."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from saetools.config import validate
from saetools.errors import ConfigError
from saetools.intervene.base import check_latents
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.unlearn.base import METHODS, Job, Material, Method, checked_saes
from saetools.unlearn.guard import check_guard
from saetools.unlearn.plan import Plan
from saetools.unlearn.request import describe_request
from saetools.unlearn.result import EditReport, Unlearned, copied, weight_changes
from saetools.unlearn.rows import Item, check_apart, rows_of

__all__ = ["build_method", "plan_unlearning", "unlearn"]


def unlearn(
    model: SubjectModel,
    method: str,
    *,
    forget: Sequence[Item],
    retain: Sequence[Item],
    saes: Sequence[SAE] = (),
    plan: Plan | None = None,
    max_perplexity_ratio: float | None = 1.5,
    strict: bool = True,
    seed: int = 0,
    **config: Any,
) -> Unlearned:
    """Edit a copy of a model so that it no longer knows some things, for good.

        edited = unlearn(model, "crisp", forget=secrets, retain=others, saes=[sae])
        edited.save("runs/edited")              # plain transformers loads it

    What comes back has not been shown to have forgotten anything: `judge` shows what it has.

    Args:
        model: a language model, or a text encoder for the methods that take one; not changed.
        method: "crisp", "pisces", "npo", ...: `METHODS.names()`.
        forget: questions (they count from the answer on) or texts.
        retain: what must stay, of the same field: what lies nearest is damaged first.
        saes: SAEs of the model, for the methods that act through them.
        plan: from `plan_unlearning`, read and perhaps changed; made anew by default.
        max_perplexity_ratio: refuse an edit that makes retain texts more than this many times as
            perplexing; None lets everything pass.
        strict: refuse an SAE that was trained on other weights than the model's. False is for
            requests one after the other, where only the first finds the SAE's own model.
        seed: of all random acts.
        config: settings of the method.

    Raises:
        UnknownNameError: no such method, or the plan names a latent outside the dictionary.
        ConfigError: a setting is wrong, the sets overlap, no latent passes, the plan is another
            method's, or the model or an SAE is not of the kind that the method takes.
        DamageError: the edit breaks the model.
    """
    built = build_method(method, **config)
    material = _material(built, method, model, forget, retain, saes, strict=strict, seed=seed)
    if plan is None:
        plan = built.plan(material)
    else:
        _check_plan(plan, method, material)
    edited = copied(model)
    started = time.perf_counter()
    fit = built.fit(Job(material, plan, edited))
    edited.hf.requires_grad_(True).eval()
    seconds = time.perf_counter() - started
    changes = weight_changes(model, edited)
    if not changes:
        raise ConfigError(
            f"{method} changed no weight of {model.name}: the plan found nothing to do; read it "
            "(plan_unlearning) and raise the strength, the steps or the rate"
        )
    guard = check_guard(model, edited, retain, max_ratio=max_perplexity_ratio)
    report = EditReport(
        method=method,
        config=built.config.model_dump(mode="json", fallback=str),
        plan=plan,
        model={
            "name": model.name,
            "fingerprint": model.fingerprint,
            "edited": edited.fingerprint,
        },
        seconds=seconds,
        changes=changes,
        losses=fit.losses,
        facts=fit.facts,
        guard=guard,
        request=describe_request(
            forget, retain, saes=saes, seed=seed, max_perplexity_ratio=max_perplexity_ratio
        ),
    )
    return Unlearned(edited, report, fit.adapter)


def plan_unlearning(
    model: SubjectModel,
    method: str,
    *,
    forget: Sequence[Item],
    retain: Sequence[Item],
    saes: Sequence[SAE] = (),
    strict: bool = True,
    seed: int = 0,
    **config: Any,
) -> Plan:
    """What `unlearn` would do with the same arguments; changes and trains nothing.

    Raises:
        UnknownNameError: no such method.
        ConfigError: as `unlearn`.
    """
    built = build_method(method, **config)
    return built.plan(
        _material(built, method, model, forget, retain, saes, strict=strict, seed=seed)
    )


def build_method(method: str, **config: Any) -> Method:
    """A method with its settings, checked.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a setting is unknown or out of range.
    """
    kind = METHODS.get(method)
    return kind(validate(kind.Config, config, what=f"method '{method}'"))


@torch.no_grad()
def _material(
    built: Method,
    name: str,
    model: SubjectModel,
    forget: Sequence[Item],
    retain: Sequence[Item],
    saes: Sequence[SAE],
    *,
    strict: bool,
    seed: int,
) -> Material:
    if model.kind not in built.kinds:
        raise ConfigError(
            f"{name} edits a {' or a '.join(built.kinds).replace('_', ' ')}, and {model.name} is a "
            f"{model.kind.replace('_', ' ')}; use a method that takes it: "
            f"{', '.join(_that_take(model.kind))}"
        )
    if built.needs_sae and not saes:
        raise ConfigError(f"{name} acts through SAEs of the model, and none was given; pass saes=")
    check_apart(forget, retain)
    return Material(
        model,
        rows_of(model, forget),
        rows_of(model, retain),
        checked_saes(model, tuple(saes), strict=strict),
        seed,
    )


def _check_plan(plan: Plan, method: str, material: Material) -> None:
    """Refuse a plan of another method, or one that names latents which the SAEs do not have."""
    if plan.method != method:
        raise ConfigError(
            f"asked for {method} with a plan of {plan.method}; make the plan with "
            f"plan_unlearning(model, '{method}', ...)"
        )
    for hook in dict.fromkeys(one.hook_name for one in plan.latents):
        if hook not in material.saes:
            raise ConfigError(
                f"the plan acts on latents at {hook}, and SAEs were given for "
                f"{', '.join(material.saes) or 'no hook'}; pass the SAE of that hook in saes="
            )
        check_latents(material.saes[hook], [one.latent for one in plan.of(hook)])


def _that_take(kind: str) -> list[str]:
    return [name for name in METHODS.names() if kind in METHODS.get(name).kinds]
