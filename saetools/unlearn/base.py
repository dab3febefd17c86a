"""What a method of unlearning is: a config, a plan, and a fit that changes a copy of the model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.base import find_site
from saetools.models.base import LanguageModel, ModelKind, SubjectModel
from saetools.registry import Registry
from saetools.sae import SAE
from saetools.unlearn.plan import Plan
from saetools.unlearn.rows import Row

__all__ = ["METHODS", "Adapter", "Fit", "Job", "Material", "Method", "MethodConfig"]


class MethodConfig(BaseModel):
    """Settings of a method."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Material:
    """What a method works with; nothing here is changed.

    Args:
        model: the model as it is.
        forget: what is to be forgotten.
        retain: what is to stay.
        saes: by canonical hook name.
        seed: of all random acts.
    """

    model: SubjectModel
    forget: tuple[Row, ...]
    retain: tuple[Row, ...]
    saes: Mapping[str, SAE]
    seed: int


@dataclass(frozen=True)
class Job:
    """A material, the plan that was made of it, and the copy to carry it out on.

    Args:
        material: what to work with.
        plan: what to do.
        edited: a copy of the model with weights of its own, to be changed in place.
    """

    material: Material
    plan: Plan
    edited: SubjectModel


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter that does what the merged weights do.

    Args:
        config: peft's own config object.
        tensors: its weights by name.
    """

    config: Any
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """What a fit has to say beside the changed weights.

    Args:
        losses: by step, each a mapping of names to values; () for a closed form.
        facts: numbers worth keeping, e.g. rows edited.
        adapter: the same edit as an adapter, where the method has one.
    """

    losses: tuple[Mapping[str, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    adapter: Adapter | None = None


class Method(ABC):
    """One way to unlearn; a subclass is one file in `saetools/unlearn/methods`.

    Args:
        config: its settings.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    kinds: ClassVar[tuple[ModelKind, ...]] = ("language_model",)
    needs_sae: ClassVar[bool] = False

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    @abstractmethod
    def plan(self, material: Material) -> Plan:
        """What `fit` is going to do; reads the model, changes nothing."""

    @abstractmethod
    def fit(self, job: Job) -> Fit:
        """Change the weights of `job.edited`, whose module must stay the same object's type."""


METHODS: Registry[type[Method]] = Registry(
    "method of unlearning", package="saetools.unlearn.methods", group="saetools.unlearning"
)
"""All methods by name."""


def checked_saes(model: SubjectModel, saes: tuple[SAE, ...], *, strict: bool) -> dict[str, SAE]:
    """SAEs by canonical hook name, each checked to belong to the model.

    Raises:
        ConfigError: an SAE of another model or without a hook, or two of one hook.
    """
    found: dict[str, SAE] = {}
    for sae in saes:
        name = find_site(model, sae, strict=strict).hook_name
        if name in found:
            raise ConfigError(f"two SAEs of {name} were given; a method reads one a hook")
        found[name] = sae
    return found


def language_model(model: SubjectModel) -> LanguageModel:
    """The model as a language model, which `kinds` has promised it is."""
    assert isinstance(model, LanguageModel)
    return model
