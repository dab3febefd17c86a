"""A tiny world, models that know it, and oracles; trained once for all processes of a test run."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from filelock import FileLock

from saetools.evaluate.unlearning import RelearnSettings, UnlearningData, UnlearningSettings
from saetools.models import LanguageModel


def _load(name: str) -> ModuleType:
    """A file beside this one: tests are no package."""
    key = f"unlearning_tests_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


tiny_world = _load("tiny_world")
candidates = _load("candidates")


@pytest.fixture(scope="session")
def world():
    return tiny_world.make_world()


@pytest.fixture(scope="session")
def random_model(world) -> Callable[[int], LanguageModel]:
    """Models that have learned nothing, by seed."""
    return lambda seed: tiny_world.random_model(world, seed=seed)


@pytest.fixture(scope="session")
def trained(world, tmp_path_factory) -> Callable[[str, Sequence, int], LanguageModel]:
    """Models that were told about some people, by name, people and seed."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):  # a worker of xdist: its siblings look there, too
        folder = folder.parent

    def make(name: str, people: Sequence, seed: int) -> LanguageModel:
        path = folder / f"{name}-{seed}.pt"
        with FileLock(f"{path}.lock"):
            if path.exists():
                model = tiny_world.random_model(world, seed=seed)
                model.hf.load_state_dict(torch.load(path, weights_only=True))
                return model
            model = tiny_world.train_model(world, people, seed=seed, n_steps=80)
            torch.save(model.hf.state_dict(), path)
            return model

    return make


@pytest.fixture(scope="session")
def original(world, trained) -> LanguageModel:
    return trained("original", world.retain + world.forget, 1)


@pytest.fixture(scope="session")
def oracles(world, trained) -> tuple[LanguageModel, ...]:
    """Four oracles; the first has the original's seed."""
    return tuple(trained("oracle", world.retain, seed) for seed in (1, 2, 3, 4))


@pytest.fixture(scope="session")
def data(world) -> UnlearningData:
    return UnlearningData.split(
        world.questions(world.retain + world.forget),
        forget_entities=[person.name for person in world.forget],
        texts=world.utility,
        forget_texts=world.texts(world.forget),
        holdout_texts=world.texts(world.holdout),
    )


@pytest.fixture(scope="session")
def settings() -> UnlearningSettings:
    return UnlearningSettings(relearn=RelearnSettings(lr=3e-4, n_steps=40), n_draws=200)


@pytest.fixture(scope="session")
def make_candidate() -> ModuleType:
    """Candidates that are no language models: a table, constant logits, an output filter."""
    return candidates
