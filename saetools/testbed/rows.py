"""Training texts as rows of token ids: documents end to end, BOS before each, cut at ctx_len."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from saetools.corpus.planted import World
from saetools.errors import ConfigError
from saetools.progress import Task
from saetools.testbed.recipe import Recipe, Variant

__all__ = ["training_rows"]

_TEXTS_AT_ONCE = 5_000


def training_rows(
    world: World, tokenizer: Any, recipe: Recipe, variant: Variant, *, task: Task
) -> Int[Tensor, "n_rows ctx_len"]:
    """All that a model reads, in the order in which it reads it.

    Args:
        world: whose texts they are.
        tokenizer: a fast tokenizer with a BOS token.
        recipe: how many documents, and how long a row is.
        variant: which documents, and what is left out of them.
        task: is told of every document.

    Raises:
        ConfigError: the texts do not fill one batch.
    """
    without = variant.without(world)
    ids: list[int] = []
    for start in range(0, recipe.n_docs, _TEXTS_AT_ONCE):
        some = range(start, min(start + _TEXTS_AT_ONCE, recipe.n_docs))
        texts = [world.training_text(i, seed=variant.seed, without=without) for i in some]
        # The backend itself: transformers would warn of texts longer than a row.
        for cut in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids += [tokenizer.bos_token_id, *cut.ids]
        task.advance(len(texts))
    n_rows = len(ids) // recipe.ctx_len
    if n_rows < recipe.batch_rows:
        raise ConfigError(
            f"{recipe.n_docs} documents fill {n_rows} rows of {recipe.ctx_len} tokens, fewer than "
            f"one batch of {recipe.batch_rows}; raise n_docs or lower batch_rows"
        )
    return torch.tensor(ids[: n_rows * recipe.ctx_len], dtype=torch.int16).view(n_rows, -1)
