"""The planted model with what is to be forgotten and kept, and SAEs of it trained for seconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import saetools as st
from saetools.corpus import Question
from saetools.corpus.planted import World
from saetools.models import LanguageModel
from saetools.sae import SAE

_N_PORTRAITS = 3


@pytest.fixture(scope="session")
def world() -> World:
    return World.build()


@pytest.fixture(scope="session")
def planted() -> LanguageModel:
    model = st.load_model("planted")
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="session")
def oracle() -> LanguageModel:
    model = st.load_model("planted:oracle-0")
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="session")
def asked(world: World) -> Callable[[Sequence[str], Sequence[str]], tuple[Question, ...]]:
    """What was read about entities, in some forms."""

    def ask(forms: Sequence[str], entities: Sequence[str]) -> tuple[Question, ...]:
        return tuple(q for f in forms for q in world.questions(f, entities, trained=True))

    return ask


@pytest.fixture(scope="session")
def two(world: World) -> tuple[str, ...]:
    """Two entities to forget."""
    return world.forget_entities[:2]


@pytest.fixture(scope="session")
def near(world: World, two: tuple[str, ...]) -> tuple[str, ...]:
    """Retain entities of their kind."""
    return world.neighbours(two[0])[:20]


@pytest.fixture(scope="session")
def sae_at(
    planted: LanguageModel, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SAE]:
    """An SAE of the planted model at a hook, trained once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):  # a worker of xdist: its siblings look there, too
        folder = folder.parent

    def make(hook_name: str) -> SAE:
        path: Path = folder / f"sae-{hook_name}"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                names = [entity.name for entity in world.entities]
                texts = [t.text for t in world.texts_about(names, n_each=_N_PORTRAITS, seed=5)]
                acts = st.harvest(
                    planted, texts, hook_name=hook_name, out=f"{path}.h5", ctx_len=160
                )
                sae = st.build_sae("batch_topk", d_in=acts.d_in, n_latents=1024, k=8)
                sae = st.train(sae, acts, st.TrainConfig(n_tokens=200_000, batch_tokens=1024))
                sae.save(path)
            return SAE.load(path)

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models on shared cores: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
