"""Classes of tokens: by name, by a regular expression on the readable token, or as a set of ids."""

import re
from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from saetools.errors import ConfigError, UnknownNameError, nearest
from saetools.models.base import SubjectModel

__all__ = ["TOKEN_CLASSES", "TokenClass", "check_token_class", "vocabulary_mask"]

TokenClass = str | Collection[int]
"""A name in `TOKEN_CLASSES`, "re:" and a regular expression, or token ids."""

TOKEN_CLASSES = {
    "word": r"[^\W\d_]+",
    "capitalised": r"[^\W\d_a-zß-öø-ÿ][^\W\d_]*",
    "number": r"\d+([.,]\d+)*",
    "punctuation": r"[^\w\s]+",
    "space": r"\s*",
}
"""What a token must be, spaces around it left out, to belong to a class."""


def check_token_class(asked: TokenClass) -> TokenClass:
    """The class in one spelling: a string, or ids in order.

    Raises:
        UnknownNameError: there is no class of that name.
        ConfigError: the expression is none, or no id is given.
    """
    if not isinstance(asked, str):
        ids = tuple(sorted({int(i) for i in asked}))
        if not ids:
            raise ConfigError("a class of tokens needs at least one token id; none was given")
        return ids
    if asked.startswith("re:"):
        try:
            re.compile(asked[3:])
        except re.error as error:
            raise ConfigError(
                f"{asked[3:]!r} is no regular expression ({error}); write e.g. 're:^ ?(cat|dog)$'"
            ) from error
        return asked
    if asked not in TOKEN_CLASSES:
        near = ", ".join(nearest(asked, TOKEN_CLASSES))
        raise UnknownNameError(
            f"unknown token class '{asked}'; the nearest names are {near}. Known: "
            f"{', '.join(TOKEN_CLASSES)}; or give token ids, or 're:' and a regular expression"
        )
    return asked


def vocabulary_mask(model: SubjectModel, asked: TokenClass) -> Bool[Tensor, " n_vocab"]:
    """True at the token ids of a class.

    A named class is matched against the token without the spaces around it; an expression is
    searched for in the token as it is read, with its space before it.

    Raises:
        ConfigError: no token of the model's vocabulary belongs to the class.
    """
    pieces = _pieces(model.tokenizer)
    mask = torch.zeros(max(pieces, default=0) + 1, dtype=torch.bool)
    if not isinstance(asked, str):
        outside = [i for i in asked if i not in pieces]
        if outside:
            raise ConfigError(
                f"token id {outside[0]} was asked for, but {model.name} has the ids 0 to "
                f"{len(mask) - 1}; choose among those"
            )
        mask[list(asked)] = True
        return mask
    if asked.startswith("re:"):
        search = re.compile(asked[3:]).search
        hits = [i for i, text in pieces.items() if search(text)]
    else:
        match = re.compile(TOKEN_CLASSES[asked]).fullmatch
        hits = [i for i, text in pieces.items() if match(text.strip())]
    if not hits:
        raise ConfigError(
            f"no token of {model.name} belongs to the class '{asked}': nothing would ever be "
            "edited; look at the tokens with model.tokenizer, or choose another class"
        )
    mask[hits] = True
    return mask


def _pieces(tokenizer: Any) -> dict[int, str]:
    """Every token id with its text as it is read."""
    named = {i: piece for piece, i in tokenizer.get_vocab().items()}
    ids = sorted(named)
    texts = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    return {i: _text(named[i], text) for i, text in zip(ids, texts, strict=True)}


def _text(piece: str, decoded: str) -> str:
    if piece.startswith("##"):
        return piece[2:]
    # Decoded on its own, a word of SentencePiece has lost its space.
    return f" {decoded}" if piece.startswith("▁") and not decoded.startswith(" ") else decoded
