"""From texts to padded token ids, one way for every model.

Rows are right-padded; a language model's row starts with its BOS token exactly once if its
tokenizer has one (what transformer_lens calls `prepend_bos`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saetools.errors import ConfigError
from saetools.models.base import TokenBatch
from saetools.repro import fingerprint

__all__ = [
    "encode_with_bos",
    "encode_with_template",
    "is_special",
    "pad",
    "special_ids",
    "tokenizer_fingerprint",
]


def special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of the tokens that no text contains: BOS, EOS, CLS, SEP, MASK, padding and added ones.

    The unknown token is left out unless it doubles as one of these: it stands for real text.
    """
    roles = ("bos", "eos", "cls", "sep", "pad", "mask")
    in_a_role = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    unknown = getattr(tokenizer, "unk_token_id", None)
    found = set(tokenizer.all_special_ids) - ({unknown} - in_a_role)
    return tuple(sorted(found))


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash (16 hex digits) of the vocabulary and the special tokens."""
    return fingerprint([sorted(tokenizer.get_vocab().items()), special_ids(tokenizer)])


def encode_with_bos(tokenizer: Any, texts: Sequence[str], ctx_len: int) -> list[list[int]]:
    """Token ids as a causal language model expects them: BOS once, nothing at the end."""
    bos = tokenizer.bos_token_id
    rows = _encode(tokenizer, texts, ctx_len, add_special_tokens=False)
    if bos is None:
        return rows
    return [row if row[:1] == [bos] else [bos, *row][:ctx_len] for row in rows]


def encode_with_template(tokenizer: Any, texts: Sequence[str], ctx_len: int) -> list[list[int]]:
    """Token ids as a text encoder expects them, with the special tokens its tokenizer adds."""
    return _encode(tokenizer, texts, ctx_len, add_special_tokens=True)


def pad(rows: Sequence[Sequence[int]], tokenizer: Any, device: torch.device) -> TokenBatch:
    """Right-pad rows of ids to one length."""
    filler = tokenizer.pad_token_id
    if filler is None:
        filler = tokenizer.eos_token_id or 0
    length = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), length), filler, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : len(row)] = True
    special = is_special(ids, special_ids(tokenizer)) | ~mask
    return TokenBatch(ids, mask, special).to(device)


def is_special(ids: Int[Tensor, "batch pos"], specials: Sequence[int]) -> Bool[Tensor, "batch pos"]:
    """True where a token id is one of `specials`."""
    return torch.isin(ids, torch.tensor(specials, dtype=ids.dtype, device=ids.device))


def _encode(
    tokenizer: Any, texts: Sequence[str], ctx_len: int, *, add_special_tokens: bool
) -> list[list[int]]:
    if isinstance(texts, str):
        raise ConfigError(
            f"tokenize takes a list of texts and got one string, {texts[:40]!r}; put it in a list"
        )
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=add_special_tokens,
        truncation=True,
        max_length=ctx_len,
        padding=False,
        return_attention_mask=False,
    )
    rows: list[list[int]] = encoded["input_ids"]
    return rows
