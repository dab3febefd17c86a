"""Concept metrics on a real language model and real labelled sentences, in seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.corpus import LabelledTexts, load_labelled
from saetools.evaluate import evaluate
from saetools.sae import SAE
from saetools.store import ActivationStore

HOOK = "blocks.1.hook_resid_post"
CONCEPTS = {"dog", "park", "mom", "rain"}


def test_words_are_read_off_a_real_model_and_beyond_chance(
    shared_dir: Path,
    make_store: Callable[..., ActivationStore],
    identity_sae: Callable[..., SAE],
) -> None:
    """Whether a sentence has the word dog is linear in the mean residual of a trained model."""
    model = st.load_model(str(shared_dir / "models" / "stories260k"))
    whole = load_labelled(shared_dir / "labelled" / "tinystories_concepts.jsonl.gz")
    kept = [i for i, labels in enumerate(whole.labels) if labels & CONCEPTS or i % 8 == 0]
    texts = LabelledTexts(
        tuple(whole.texts[i] for i in kept),
        tuple(whole.labels[i] & CONCEPTS for i in kept),
        "stories",
    )
    width = model.width(HOOK)
    store = make_store(torch.randn(640, width), hook_name=HOOK)
    sae = identity_sae(width, hook_name=HOOK)
    report = evaluate(
        sae,
        store,
        model=model,
        metrics=["sparse_probing", "separability", "scr", "tpp"],
        labelled=[texts],
        concept_pairs=[("mom", "park")],
    )
    found = report.values
    assert found["probe_auroc_raw"] > 0.85
    # Latents ±x_i and their sum over a text know as much as the coordinates.
    assert found["probe_auroc_all_latents"] == pytest.approx(found["probe_auroc_raw"], abs=0.05)
    assert (
        0.5 < found["probe_auroc_k1"] < found["probe_auroc_k16"] <= found["probe_auroc_raw"] + 0.03
    )
    assert found["separability_best_neurons"] > 3 * report.stderr["separability_best_neurons"] > 0
    assert found["tpp_accuracy"] > 0.7
    assert found["scr_clean_accuracy"] > found["scr_biased_accuracy"]
