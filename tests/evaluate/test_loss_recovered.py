"""Loss recovered has fixed ends: a perfect SAE gets all of it, the mean vector none."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy

import saetools as st
from saetools.errors import ConfigError
from saetools.evaluate import EvaluationReport, MetricContext, evaluate
from saetools.evaluate.metrics.loss_recovered import LossRecovered
from saetools.models.base import LanguageModel
from saetools.sae import SAE
from saetools.store import ActivationStore

HOOK = "blocks.2.hook_resid_post"
SaeMaker = Callable[..., SAE]


@pytest.fixture(scope="module")
def stories(shared_dir: Path) -> list[str]:
    lines = (shared_dir / "text" / "tinystories_valid.jsonl").read_text().splitlines()[:40]
    return [json.loads(line)["text"][:240] for line in lines]


@pytest.fixture(scope="module")
def model(shared_dir: Path) -> LanguageModel:
    model = st.load_model(str(shared_dir / "models" / "stories260k"))
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def store(
    model: LanguageModel, stories: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ActivationStore]:
    path = tmp_path_factory.mktemp("store") / "acts.h5"
    with st.harvest(
        model, stories, hook_name=HOOK, out=path, dtype="float32", held_out_fraction=0.25
    ) as store:
        yield store


def measured(
    sae: SAE, model: LanguageModel, store: ActivationStore, stories: list[str]
) -> EvaluationReport:
    return evaluate(sae, store, model=model, corpus=stories, metrics=["loss_recovered"])


def test_a_perfect_sae_recovers_all_of_the_loss(
    model: LanguageModel, store: ActivationStore, stories: list[str], identity_sae: SaeMaker
) -> None:
    report = measured(identity_sae(64, hook_name=HOOK), model, store, stories)
    found = report.values
    assert found["loss_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert found["loss_recovered_mean"] == pytest.approx(1.0, abs=1e-4)
    assert found["kl"] == pytest.approx(0.0, abs=1e-4)
    assert found["ce_clean"] < found["ce_zero"]
    assert found["ce_clean"] < found["ce_mean"]
    held_out = [text for text, held in zip(stories, store.held_out, strict=True) if held]
    assert found["ce_clean"] == pytest.approx(model.loss(held_out), rel=1e-5)
    assert 0 < report.stderr["ce_clean"] < 0.3
    assert found["ce_increase"] == pytest.approx(0.0, abs=1e-4)
    assert found["kl_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert found["kl_recovered_mean"] == pytest.approx(1.0, abs=1e-4)


def test_the_mean_vector_recovers_none_of_it(
    model: LanguageModel, store: ActivationStore, stories: list[str], constant_sae: SaeMaker
) -> None:
    mean = torch.as_tensor(store.moments(HOOK).mean, dtype=torch.float32)
    found = measured(constant_sae(mean, hook_name=HOOK), model, store, stories).values
    assert found["loss_recovered_mean"] == pytest.approx(0.0, abs=1e-4)
    assert found["ce_spliced"] == pytest.approx(found["ce_mean"], rel=1e-5)
    assert found["kl"] > 0.1
    assert found["kl"] == pytest.approx(found["kl_mean"], rel=1e-5)
    assert found["kl_recovered_mean"] == pytest.approx(0.0, abs=1e-5)
    assert found["kl_recovered_zero"] == pytest.approx(1 - found["kl_mean"] / found["kl_zero"])
    assert found["ce_increase"] == pytest.approx(found["ce_mean"] - found["ce_clean"], abs=1e-5)


def test_kl_is_that_of_scipy(
    model: LanguageModel, store: ActivationStore, stories: list[str], constant_sae: SaeMaker
) -> None:
    found = measured(constant_sae(torch.zeros(64), hook_name=HOOK), model, store, stories).values
    kl: list[float] = []
    for doc in np.flatnonzero(store.held_out):
        tokens = model.tokenize([stories[doc]])
        clean = model.logits(tokens)[0, :-1].softmax(-1).double().numpy()
        with model.editing({HOOK: lambda x, content: x * ~content.unsqueeze(-1)}):
            zeroed = model.logits(tokens)[0, :-1].softmax(-1).double().numpy()
        kl += entropy(clean, zeroed, axis=1).tolist()
    assert found["kl_zero"] == pytest.approx(float(np.mean(kl)), rel=1e-4)
    assert found["kl"] == pytest.approx(float(np.mean(kl)), rel=1e-4)


def test_special_tokens_are_left_alone_unless_asked(
    model: LanguageModel, store: ActivationStore, stories: list[str], constant_sae: SaeMaker
) -> None:
    sae = constant_sae(torch.zeros(64), hook_name=HOOK)
    ctx = MetricContext(sae, store, HOOK, model=model, texts=tuple(stories))
    kept, replaced = (
        {
            row.figure.name: row.value
            for row in LossRecovered(special_tokens=how).compute(ctx).measurements
        }
        for how in ("kept", "replaced")
    )
    assert kept["ce_clean"] == replaced["ce_clean"]
    assert abs(kept["ce_zero"] - replaced["ce_zero"]) > 0.01, "BOS counts once it is replaced"
    losses = []
    for doc in np.flatnonzero(store.held_out):
        tokens = model.tokenize([stories[doc]])
        with model.editing({HOOK: lambda x, _: torch.zeros_like(x)}):
            found, real = model.token_losses(tokens)
        losses += found[real].tolist()
    assert replaced["ce_zero"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    with pytest.raises(ConfigError, match="'kept' or 'replaced'"):
        LossRecovered(special_tokens="left")


def test_n_docs_limits_the_documents_that_are_run(
    model: LanguageModel, store: ActivationStore, stories: list[str], identity_sae: SaeMaker
) -> None:
    report = evaluate(
        identity_sae(64, hook_name=HOOK),
        store,
        model=model,
        corpus=stories,
        metrics=["loss_recovered"],
        n_docs=3,
        seed=1,
    )
    assert report.about["n_docs_through_model"] == 3
