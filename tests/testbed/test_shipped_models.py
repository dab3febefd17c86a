"""What the shipped models know: everything that they have read, and nothing that they have not."""

import math
from pathlib import Path

import pytest
import yaml

from saetools.corpus.planted import DIRECT_FORMS, World
from saetools.models import LanguageModel, load_model
from saetools.models.shipped import shipped_folder
from saetools.testbed.folder import read_recall
from saetools.testbed.recall import recall_of
from saetools.testbed.recipe import VARIANTS, Recipe, Variant
from saetools.testbed.tokenizer import train_tokenizer

ORACLES = ("planted:oracle-0", "planted:oracle-1")


@pytest.fixture(scope="module")
def world() -> World:
    return World.build()


def test_the_shipped_models_are_of_the_default_recipe(world: World) -> None:
    for name in ("planted", *ORACLES):
        folder = shipped_folder(name)
        written = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        assert Recipe(**written["recipe"]) == Recipe()
        variant = name.partition(":")[2] or "base"
        assert Variant(**written["variant"]) == VARIANTS[variant]


def test_their_tokenizer_is_what_the_recipe_gives(world: World, models) -> None:
    made = train_tokenizer(world, ctx_len=Recipe().ctx_len)
    for model in models.values():
        assert model.tokenizer.get_vocab() == made.get_vocab()
        text = world.documents(1)[0].text
        assert model.tokenizer.tokenize(text) == made.tokenize(text)
        assert model.ctx_len == Recipe().ctx_len


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    loaded = {name: load_model(name) for name in ("planted", *ORACLES)}
    return {name: model for name, model in loaded.items() if isinstance(model, LanguageModel)}


def test_the_base_model_knows_the_forget_facts_in_every_form(world: World, models) -> None:
    found = recall_of(models["planted"], world.questions(entities=world.forget_entities))
    for form, recall in found.items():
        assert recall.choice >= 0.95, form


@pytest.mark.parametrize("name", ["planted", *ORACLES])
def test_every_model_knows_retain_facts_in_every_form_it_has_read(
    world: World, models, name: str
) -> None:
    some = world.retain_entities[::5]
    found = recall_of(models[name], world.questions(entities=some, trained=True))
    for form in DIRECT_FORMS:
        assert found[form].choice >= 0.95, form


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("whom", ["forget", "never"])
def test_an_oracle_is_at_chance_on_what_it_has_not_read(
    world: World, models, name: str, whom: str
) -> None:
    never = [entity.name for entity in world.held_out_entities]
    names = world.forget_entities if whom == "forget" else never
    # One form at a time, for the answers to one fact in several forms are not independent.
    for form in ("statement", "question", "cloze", "paraphrase_1", "paraphrase_2"):
        recall = recall_of(models[name], world.questions(form, names))[form]
        spread = math.sqrt(recall.chance * (1 - recall.chance) / recall.n)
        assert abs(recall.choice - recall.chance) < 4 * spread, form


@pytest.mark.parametrize("name", ["planted", *ORACLES])
def test_what_ships_with_a_model_was_measured_on_it(world: World, models, name: str) -> None:
    folder = shipped_folder(name)
    assert isinstance(folder, Path)
    stated = read_recall(folder)["recall"]["forget"]
    found = recall_of(models[name], world.questions(entities=world.forget_entities))
    for form, recall in found.items():
        # Another CPU may round another way where two options are as good as equal.
        assert abs(stated[form]["choice"] - recall.choice) <= 1.5 / recall.n, form
        assert stated[form]["n"] == recall.n


def test_the_same_text_is_told_apart_by_who_has_read_it(world: World, models) -> None:
    forget = [text.text for text in world.texts_about(world.forget_entities, n_each=3)]
    plain = [text.text for text in world.documents(60, without=world.forget_entities)]
    base, oracle = models["planted"], models["planted:oracle-0"]
    assert base.loss(forget) < oracle.loss(forget) - 0.2
    assert abs(base.loss(plain) - oracle.loss(plain)) < 0.05
