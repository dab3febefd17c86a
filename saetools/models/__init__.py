"""Subject models: language models and text encoders, read and edited at named hooks.

    model = load_model("tiny")
    tokens = model.tokenize(["Once upon a time"])
    x = model.activations(tokens, ["resid_post.2"])["resid_post.2"]    # (batch, pos, d_model)

Importing this package needs torch only; transformers is imported by the first `load_model`, and
transformer_lens by the first hook that only it names.
"""

import importlib
from typing import TYPE_CHECKING, Any

from saetools.models.base import (
    Edit,
    LanguageModel,
    ModelKind,
    SubjectModel,
    TextEncoder,
    TokenBatch,
)

if TYPE_CHECKING:  # for type checkers only: at run time these two load when first used
    from saetools.models.load import from_hf, load_model

__all__ = [
    "Edit",
    "LanguageModel",
    "ModelKind",
    "SubjectModel",
    "TextEncoder",
    "TokenBatch",
    "from_hf",
    "load_model",
]


def __getattr__(name: str) -> Any:
    # PEP 562: importing transformers takes more than a second.
    if name in ("from_hf", "load_model"):
        return getattr(importlib.import_module("saetools.models.load"), name)
    raise AttributeError(f"module 'saetools.models' has no attribute '{name}'")
