"""Small subject models for tests: made in milliseconds, no files, equal for equal seeds."""

from saetools.models.base import LanguageModel, TextEncoder
from saetools.models.load import load_model

__all__ = ["tiny_encoder", "tiny_lm"]


def tiny_lm(seed: int = 0) -> LanguageModel:
    """Return the language model of `load_model("tiny")`: 4 layers, d_model 64."""
    model = load_model("tiny", seed=seed)
    assert isinstance(model, LanguageModel)
    return model


def tiny_encoder(seed: int = 0) -> TextEncoder:
    """Return the text encoder of `load_model("tiny-encoder")`: 3 layers, d_model 64."""
    model = load_model("tiny-encoder", seed=seed)
    assert isinstance(model, TextEncoder)
    return model
