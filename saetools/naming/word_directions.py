"""Where words point in the space that an SAE writes: a vector for each word of a list.

    t(v) = mean over templates of the activation at v, at the SAE's hook  -  centre

That is the counterpart, inside a model, of the text embeddings that Discover-then-Name (Rao et al.
2024, arXiv:2407.14499) compares decoder rows with: both lie in the space of the activations. In a
language model the activation is that of the word's last token, where all of the word has been read;
in an encoder the mean of its tokens; of a store with a row a text, the pooled text.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saetools import progress
from saetools.errors import ConfigError
from saetools.models import SubjectModel
from saetools.models.pooling import PoolingMode, pool
from saetools.repro import fingerprint

__all__ = ["TEMPLATES", "WordVectors", "cached_word_vectors", "word_vectors"]

TEMPLATES = (
    "{word}",
    "This is about {word}.",
    "They spoke of {word} again.",
    'The word is "{word}".',
)
"""Neutral surroundings: what they add is the same for every word."""

_BATCH_TEXTS = 128
_FORMAT = "saetools-words/1"


@dataclass(frozen=True)
class WordVectors:
    """Words and the activation that each of them has, nothing subtracted yet.

    Args:
        words: the words, each once.
        vectors: mean over templates, shape (n_words, d_in), float32.
    """

    words: tuple[str, ...]
    vectors: Float[Tensor, "n_words d_in"]


def word_vectors(
    model: SubjectModel,
    words: Sequence[str],
    *,
    hook_name: str,
    templates: Sequence[str] = TEMPLATES,
    pooling: PoolingMode | Literal["token"] = "token",
) -> WordVectors:
    """Measure the activation of each word in each template.

    Args:
        model: the subject model; its tokenizer must be a fast one, which gives offsets.
        words: the words.
        hook_name: where.
        templates: texts with {word} in them, once.
        pooling: "token" reads the word's own tokens; else the template is one row, as in a store
            that was harvested with that pooling.

    Raises:
        ConfigError: a template does not contain {word} exactly once.
    """
    bad = [text for text in templates if text.count("{word}") != 1]
    if bad or not templates:
        raise ConfigError(
            f"templates are texts that contain {{word}} once; {bad[0]!r} does not"
            if bad
            else "no template was given; give texts that contain {word} once"
        )
    total = torch.zeros(len(words), model.width(hook_name))
    with progress.task("words", total=len(words) * len(templates), unit="texts") as task:
        for template in templates:
            for start in range(0, len(words), _BATCH_TEXTS):
                part = words[start : start + _BATCH_TEXTS]
                total[start : start + len(part)] += _measured(
                    model, part, template, hook_name, pooling
                )
                task.advance(len(part))
    return WordVectors(tuple(words), total / len(templates))


def cached_word_vectors(
    model: SubjectModel,
    words: Sequence[str],
    *,
    hook_name: str,
    templates: Sequence[str],
    pooling: PoolingMode | Literal["token"],
    folder: Path | None,
) -> WordVectors:
    """The same from a file in `folder`, which is written if it is not there; None keeps nothing.

    The file is of these words, templates, hook and weights: with others, another file.
    """
    if folder is None:
        return word_vectors(model, words, hook_name=hook_name, templates=templates, pooling=pooling)
    asked = [_FORMAT, model.fingerprint, hook_name, pooling, list(templates), list(words)]
    path = folder / f"words-{fingerprint(asked)}.npy"
    if path.exists():
        return WordVectors(tuple(words), torch.from_numpy(np.load(path)))
    found = word_vectors(model, words, hook_name=hook_name, templates=templates, pooling=pooling)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    with scratch.open("wb") as file:
        np.save(file, found.vectors.numpy())
    os.replace(scratch, path)
    return found


def _measured(
    model: SubjectModel,
    words: Sequence[str],
    template: str,
    hook_name: str,
    pooling: PoolingMode | Literal["token"],
) -> Float[Tensor, "n d_in"]:
    texts = [template.replace("{word}", word) for word in words]
    tokens = model.tokenize(texts)
    x = model.activations(tokens, [hook_name])[hook_name].float().cpu()  # (n, pos, d_in)
    if pooling != "token":
        return pool(x, tokens.mask.cpu(), pooling)
    first = template.index("{word}")
    weights = torch.zeros(x.shape[:2])
    for i, (text, word) in enumerate(zip(texts, words, strict=True)):
        places = _places(model, text, (first, first + len(word)))
        row = torch.nonzero(tokens.content[i].cpu()).flatten()
        inside = row[torch.tensor(places, dtype=torch.long)]
        weights[i, inside if model.kind == "text_encoder" else inside[-1:]] = 1
    return (x * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)


def _places(model: SubjectModel, text: str, span: tuple[int, int]) -> list[int]:
    """Which content tokens of `text` lie in a span of characters."""
    cut = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start, stop = span
    # The space that a token begins with counts for nothing.
    return [
        i
        for i, (begin, end) in enumerate(cut["offset_mapping"])
        if begin + (text[begin : begin + 1] == " ") < stop and start < end
    ]
