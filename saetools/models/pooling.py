"""How a text encoder makes one vector of many: read off a sentence-transformers folder, or guessed.

Only what is needed to give sentence-transformers' own result: mean, CLS or last-token pooling,
and a final normalisation. Folders with further layers are refused, not half-followed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saetools.errors import FormatError
from saetools.models.sites import model_type

__all__ = [
    "Pooling",
    "PoolingMode",
    "default_pooling",
    "is_sentence_folder",
    "pool",
    "read_pooling",
]

PoolingMode = Literal["mean", "cls", "eot"]

_MODES: dict[str, PoolingMode] = {"mean": "mean", "cls": "cls", "lasttoken": "eot"}


@dataclass(frozen=True)
class Pooling:
    """From token vectors to one embedding.

    Args:
        mode: mean over real tokens, the first token, or the last real one ("eot").
        normalize: whether the embedding is scaled to length 1.
        ctx_len: longest sequence the folder allows, or None.
    """

    mode: PoolingMode
    normalize: bool = False
    ctx_len: int | None = None


def default_pooling(hf: nn.Module) -> Pooling:
    """Return what is usual for a family: the end-of-text token for CLIP, the mean for the rest."""
    return Pooling("eot" if model_type(hf).startswith("clip") else "mean")


def is_sentence_folder(folder: Path) -> bool:
    """True if sentence-transformers wrote the folder."""
    return (folder / "modules.json").is_file()


def read_pooling(folder: Path) -> Pooling:
    """Read the pooling of a sentence-transformers folder.

    Raises:
        FormatError: it has a layer or a pooling that would not be followed.
    """
    mode: PoolingMode | None = None
    normalize = False
    for module in _json(folder / "modules.json"):
        kind = str(module["type"]).rsplit(".", 1)[-1]
        if kind == "Pooling":
            mode = _mode(folder / module["path"] / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise FormatError(
                f"{folder.name} ends in a sentence-transformers layer of type {kind}; saetools "
                "follows Transformer, Pooling and Normalize. Load its transformer with AutoModel "
                "and pass it to saetools.models.from_hf to read hooks"
            )
    if mode is None:
        raise FormatError(f"{folder.name}/modules.json names no Pooling layer; nothing to embed by")
    settings = folder / "sentence_bert_config.json"
    limit = _json(settings).get("max_seq_length") if settings.is_file() else None
    return Pooling(mode, normalize, limit)


def pool(
    states: Float[Tensor, "batch pos d_model"], mask: Bool[Tensor, "batch pos"], mode: PoolingMode
) -> Float[Tensor, "batch d_model"]:
    """Pool token vectors; `mask` is True at real tokens, special ones included."""
    if mode == "cls":
        return states[:, 0]
    if mode == "eot":
        last = mask.sum(1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    weights = mask.unsqueeze(-1).to(states.dtype)  # (batch, pos, 1)
    # The lower bound of sentence-transformers: a row without tokens gives zeros.
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _mode(path: Path) -> PoolingMode:
    config = _json(path)
    # Newer folders have one word, older ones a flag for each mode.
    asked = config.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value
    ]
    names = [asked] if isinstance(asked, str) else asked
    if len(names) != 1 or names[0] not in _MODES:
        raise FormatError(
            f"{path.parent.name}/config.json asks for pooling {' + '.join(names) or 'none'}; "
            f"saetools knows {', '.join(_MODES)}"
        )
    return _MODES[names[0]]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise FormatError(f"cannot read {path.parent.name}/{path.name}: {error}") from error
