"""Linear relational concepts: a direction for each object of a relation, through its Jacobian.

Chanin, Hunter and Camburu 2023, arXiv:2311.08968, on the relational embeddings of Hernandez et
al. Around the subjects of a few examples, what the model says of them is nearly linear:
o ≈ W s + b, with W the mean Jacobian ∂o/∂s and b the mean of o - W s. An object's concept is the
direction of the subject's activation that leads there: c ∝ mean of V S⁻¹ Uᵀ (o - b), with the
largest singular values of W = U S Vᵀ only, for the small ones amplify noise.

Classify: the concept with the largest s·c. Exchange A for B: s' = s + κ ‖s‖ (c_B - c_A).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.directions._base import Direction, check_rows
from saetools.models.base import LanguageModel

__all__ = ["Relation", "exchange", "fit_relation", "mean_jacobian", "subject_places"]


@dataclass(frozen=True)
class Relation:
    """o ≈ weight · s + bias.

    Args:
        weight: (d_out, d_in), float64.
        bias: (d_out,), float64.
        hook_name: where the subject stands.
    """

    weight: Tensor
    bias: Tensor
    hook_name: str | None = None

    def concepts(
        self, objects: Float[Tensor, "n d_out"], labels: Sequence[str], *, rank: int
    ) -> dict[str, Direction]:
        """A unit direction for each label.

        Args:
            objects: activations that express the labels, as `fit_relation` got them.
            labels: one a row.
            rank: singular values to keep; a fraction of the width (a tenth to a half).
        """
        full = min(self.weight.shape)
        if not 1 <= rank <= full:
            raise ConfigError(f"rank {rank} of a relation of {full} singular values; take 1-{full}")
        u, s, v = torch.linalg.svd(self.weight.double())
        back = (objects.detach().double() - self.bias) @ u[:, :rank] / s[:rank] @ v[:rank]
        found = {}
        for label in dict.fromkeys(labels):
            mine = torch.tensor([name == label for name in labels])
            vector = back[mine].mean(0)
            info = {"label": label, "rank": rank, "n_examples": int(mine.sum())}
            unit = vector / vector.norm()
            found[label] = Direction(unit, "linear_relation", self.hook_name, info)
        return found


def fit_relation(
    jacobians: Float[Tensor, "n d_out d_in"],
    subjects: Float[Tensor, "n d_in"],
    objects: Float[Tensor, "n d_out"],
    *,
    hook_name: str | None = None,
) -> Relation:
    """The relation from the Jacobian, the subject and the object of each example."""
    check_rows(subjects, what="fit_relation")
    check_rows(objects, what="fit_relation")
    weight = jacobians.detach().double().mean(0)
    bias = (objects.detach().double() - subjects.detach().double() @ weight.T).mean(0)
    return Relation(weight, bias, hook_name)


def exchange(
    concepts: Mapping[str, Direction], old: str, new: str, *, kappa: float = 1.0
) -> tuple[Direction, float]:
    """The direction that turns one object into another, and its strength in residual norms.

    direction, strength = exchange(concepts, "Paris", "Rome")
    Request(AddDirection(strength, "residual_norm"), direction=direction, positions=...)
    """
    for label in (old, new):
        if label not in concepts:
            raise ConfigError(f"no concept '{label}'; there are: {', '.join(concepts)}")
    difference = concepts[new].tensor - concepts[old].tensor
    direction = Direction(difference, "linear_relation", concepts[new].hook_name)
    return direction, kappa * float(difference.norm())


def subject_places(
    model: LanguageModel, prompts: Sequence[str], subjects: Sequence[str]
) -> Int[Tensor, " n"]:
    """Place of the last token of each prompt's subject, BOS being place 0.

    Raises:
        ConfigError: a prompt does not contain its subject.
    """
    found = []
    for prompt, subject in zip(prompts, subjects, strict=True):
        start = prompt.find(subject)
        if start < 0:
            raise ConfigError(f"the prompt {prompt!r} does not contain its subject {subject!r}")
        upto = model.tokenize([prompt[: start + len(subject)]])
        found.append(int(upto.mask.sum()) - 1)
    return torch.tensor(found)


def mean_jacobian(
    model: LanguageModel,
    prompts: Sequence[str],
    subjects: Sequence[str],
    *,
    subject_hook: str,
    object_hook: str,
) -> tuple[Relation, Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]:
    """The relation that a model computes between a subject and what it is about to say.

    The subject is read at the last token of its name, the object at the last token of the prompt,
    where the model is about to say it.

    Args:
        prompts: e.g. "The capital of France is", each ending where its object should come.
        subjects: the part of each prompt that is its subject.
        subject_hook, object_hook: two hooks; the second is in a later layer.

    Returns:
        The relation, the subjects' activations and the objects' activations.
    """
    if len(prompts) != len(subjects) or not prompts:
        raise ConfigError(
            f"a relation needs prompts with one subject each; got {len(prompts)} prompts and "
            f"{len(subjects)} subjects"
        )
    places = subject_places(model, prompts, subjects)
    parts = [
        _jacobian(model, prompt, int(place), subject_hook, object_hook)
        for prompt, place in zip(prompts, places, strict=True)
    ]
    jacobians, before, after = (torch.stack(part) for part in zip(*parts, strict=True))
    hook_name = model.resolve(subject_hook)
    return fit_relation(jacobians, before, after, hook_name=hook_name), before, after


def _jacobian(
    model: LanguageModel, prompt: str, place: int, subject_hook: str, object_hook: str
) -> tuple[Tensor, Tensor, Tensor]:
    """∂o/∂s, s and o of one prompt, row by row through autograd."""
    tokens = model.tokenize([prompt])
    held: dict[str, Tensor] = {}

    def put(x: Tensor, content: Tensor) -> Tensor:  # noqa: ARG001
        held["subject"] = x[0, place].detach().clone().requires_grad_(True)
        rows = [x[0, :place].detach(), held["subject"].unsqueeze(0), x[0, place + 1 :].detach()]
        return torch.cat(rows).unsqueeze(0)

    def catch(x: Tensor, content: Tensor) -> Tensor:  # noqa: ARG001
        held["object"] = x[0, -1]
        return x

    hf: Callable[..., Any] = model.hf
    with torch.enable_grad(), model.editing({subject_hook: put, object_hook: catch}):
        hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), use_cache=False)
    subject, found = held["subject"], held["object"]
    rows = [
        torch.autograd.grad(entry, subject, retain_graph=True, allow_unused=True)[0]
        for entry in (found if found.requires_grad else ())
    ]
    if not rows or rows[0] is None:
        raise ConfigError(
            f"what stands at {object_hook} does not depend on {subject_hook}; the object's hook "
            "must be in a later layer than the subject's"
        )
    return torch.stack(rows), subject.detach(), found.detach()
