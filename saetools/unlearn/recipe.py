"""A recipe of an unlearning: one YAML file with the model, both sets, the method, the evaluation.

    name: planted_crisp
    model: planted
    forget: {planted: forget, forms: [statement, reversed]}
    retain: {planted: retain, forms: [statement, reversed]}
    saes: [runs/planted_l1/sae]
    method: {type: crisp, k: 100}
    evaluate: {forget: {planted: forget, forms: [question]}, oracles: ["planted:oracle-0"]}

Sets come from a file of questions, from a corpus by its labels, or from the planted world.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saetools.config.problems import problems, validate
from saetools.config.source import read_source
from saetools.corpus import Question, load_corpus
from saetools.corpus.planted import World
from saetools.corpus.questions import load_questions
from saetools.errors import ConfigError
from saetools.evaluate.unlearning import UnlearningSettings
from saetools.unlearn.base import METHODS
from saetools.unlearn.rows import Item, text_of

__all__ = ["EvaluateBlock", "ItemsBlock", "UnlearnRecipe", "load_recipe"]


class ItemsBlock(BaseModel):
    """Questions and texts: from a file, a corpus, the planted world, or all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: str | None = Field(default=None, description="a .jsonl file of questions")
    entities: tuple[str, ...] = Field(
        default=(), description="keep only questions about these; all if empty"
    )
    not_entities: tuple[str, ...] = Field(default=(), description="leave these entities out")
    forms: tuple[str, ...] = Field(default=(), description="keep only these forms; all if empty")
    corpus: dict[str, Any] | None = Field(default=None, description="a corpus block, for texts")
    labels: tuple[str, ...] = Field(default=(), description="keep only texts of these labels")
    not_labels: tuple[str, ...] = Field(default=(), description="leave texts of these labels out")
    planted: Literal["forget", "retain"] | None = Field(
        default=None, description="questions of the planted world about these entities"
    )
    part: tuple[int, int] = Field(
        default=(0, 1), description="[i, n]: every n-th planted entity, from the i-th on"
    )
    max_items: int | None = Field(default=None, ge=1, description="keep the first so many")

    def read(self) -> tuple[Item, ...]:
        """The questions, then the texts.

        Raises:
            ConfigError: the block names nothing, or nothing is left.
        """
        questions = [q for q in self._questions() if self._wanted(q)]
        items: tuple[Item, ...] = (*questions, *self._texts())
        if not items:
            raise ConfigError(
                f"a set of questions and texts is empty: {self.model_dump(exclude_defaults=True)}; "
                "give questions, corpus or planted, and loosen entities, forms and labels"
            )
        return items[: self.max_items]

    def _questions(self) -> Sequence[Question]:
        found = list(load_questions(self.questions)) if self.questions else []
        if self.planted:
            world = World.build()
            every = {"forget": world.forget_entities, "retain": world.retain_entities}
            names = every[self.planted][self.part[0] :: self.part[1]]
            found += world.questions(entities=names, trained=True)
        return found

    def _wanted(self, question: Question) -> bool:
        return (
            (not self.entities or question.entity in self.entities)
            and question.entity not in self.not_entities
            and (not self.forms or question.form in self.forms)
        )

    def _texts(self) -> list[str]:
        if self.corpus is None:
            return []
        return [
            document.text
            for document in load_corpus(self.corpus)
            if document.text
            and (not self.labels or document.label in self.labels)
            and document.label not in self.not_labels
        ]


class EvaluateBlock(BaseModel):
    """What the edit is judged on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forget: ItemsBlock = Field(description="questions in other forms than those of the fit")
    retain: ItemsBlock = Field(description="questions about others, neighbours among them")
    texts: ItemsBlock | None = Field(default=None, description="texts for utility")
    forget_texts: ItemsBlock | None = Field(default=None, description="what the original has read")
    holdout_texts: ItemsBlock | None = Field(default=None, description="like those, never read")
    oracles: tuple[str, ...] = Field(default=(), description="models that never knew")
    controls: tuple[Literal["random_change", "random_latents"], ...] = Field(
        default=(),
        description="models to tell the edit from: weights moved as far at random, and the same "
        "edit through other latents that fire as often",
    )
    settings: UnlearningSettings = Field(
        default=UnlearningSettings(), description="of the measures"
    )


class UnlearnRecipe(BaseModel):
    """One unlearning from the model to the verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="what to call it; out defaults to runs/<name>")
    model: str = Field(description="as `load_model` takes it")
    forget: ItemsBlock = Field(description="what is to be forgotten")
    retain: ItemsBlock = Field(description="what is to stay")
    method: dict[str, Any] = Field(description="type, and the settings of that method")
    saes: tuple[str, ...] = Field(default=(), description="folders of SAEs of the model")
    out: str = Field(default="", description="folder of the result")
    max_perplexity_ratio: float | None = Field(
        default=1.5, gt=1, description="refuse an edit that damages retain texts more than this"
    )
    evaluate: EvaluateBlock | None = Field(
        default=None, description="how to judge the edit; without it there is no verdict"
    )
    device: str = Field(default="cpu", description="where the model runs")
    seed: int = Field(default=0, ge=0, description="of all random acts")

    @property
    def folder(self) -> Path:
        """Where the result goes."""
        return Path(self.out or f"runs/{self.name}")

    @property
    def method_name(self) -> str:
        """The method's name."""
        return str(self.method["type"])

    @property
    def method_config(self) -> dict[str, Any]:
        """The method's own settings."""
        return {key: value for key, value in self.method.items() if key != "type"}


def load_recipe(source: str | Path | Mapping[str, Any], *overrides: str) -> UnlearnRecipe:
    """Read a recipe, apply overrides such as `method.lr=1e-4`, and check all of it.

    Raises:
        ConfigError: a key is unknown or out of range, the method's included.
        UnknownNameError: no such method.
    """
    read = read_source(source, overrides)
    try:
        recipe = UnlearnRecipe.model_validate(read.values)
    except ValidationError as error:
        found = "; ".join(f"{p.dotted}{p.text}" for p in problems(error, UnlearnRecipe))
        raise ConfigError(f"{read.name}: {found}") from error
    kind = recipe.method.get("type")
    if not isinstance(kind, str):
        raise ConfigError(
            f"{read.name}: method has no type; give one of {', '.join(METHODS.names())}"
        )
    validate(METHODS.get(kind).Config, recipe.method_config, what=f"{read.name}: method '{kind}'")
    return recipe


def texts_in(block: ItemsBlock | None) -> tuple[str, ...]:
    """The texts of a block, questions with their answers; () without one."""
    return () if block is None else tuple(text_of(item) for item in block.read())


def questions_in(block: ItemsBlock) -> tuple[Question, ...]:
    """The questions of a block.

    Raises:
        ConfigError: it holds texts.
    """
    items = block.read()
    found = tuple(item for item in items if isinstance(item, Question))
    if len(found) != len(items):
        raise ConfigError(
            "evaluation asks questions, and the block holds texts; give `questions` or `planted`"
        )
    return found
