"""Real and random models that the tests of `saetools.models` share."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from saetools.errors import ConfigError
from saetools.models import LanguageModel, TextEncoder, from_hf, load_model


@pytest.fixture(scope="session")
def stories(shared_dir: Path) -> LanguageModel:
    """A trained Llama of 5 layers."""
    model = load_model(shared_dir / "models" / "stories260k")
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="session")
def story_texts(shared_dir: Path) -> list[str]:
    """Twenty stories that the trained models have not seen."""
    lines = (shared_dir / "text" / "tinystories_valid.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:20]]


@pytest.fixture(scope="session")
def minilm() -> TextEncoder:
    """A trained BERT of 6 layers."""
    try:
        model = load_model("minilm")
    except ConfigError as error:
        pytest.skip(f"needs the package of the demo extra: {error}")
    assert isinstance(model, TextEncoder)
    return model


@pytest.fixture(scope="session")
def random_gpt2(tiny_lm: LanguageModel) -> LanguageModel:
    """A random GPT-2, whose queries, keys and values are one joint matrix."""
    config = transformers.GPT2Config(
        vocab_size=len(tiny_lm.tokenizer),
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = from_hf(transformers.GPT2LMHeadModel(config), tiny_lm.tokenizer, name="random-gpt2")
    assert isinstance(model, LanguageModel)
    return model
