"""From texts to padded token ids, one way for every model.

Rows are right-padded; a language model's row starts with its BOS token exactly once if its
tokenizer has one (what transformer_lens calls `prepend_bos`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
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


def encode_with_bos(
    tokenizer: Any, texts: Sequence[str | Sequence[int]], ctx_len: int
) -> list[list[int]]:
    """Token ids as a causal language model expects them: BOS once, nothing at the end.

    Token ids in the place of a text are kept, but for padding at their ends.
    """
    bos = tokenizer.bos_token_id
    rows = _encode(tokenizer, texts, ctx_len, add_special_tokens=False)
    lead = [] if bos is None else [bos]
    return [(row if row[:1] == lead else [*lead, *row])[:ctx_len] for row in rows]


def encode_with_template(
    tokenizer: Any, texts: Sequence[str | Sequence[int]], ctx_len: int
) -> list[list[int]]:
    """Token ids as a text encoder expects them, with the special tokens its tokenizer adds.

    Token ids in the place of a text get these, too, unless they have them; what is too long loses
    its last ordinary tokens.
    """
    rows = _encode(tokenizer, texts, ctx_len, add_special_tokens=True)
    if all(isinstance(text, str) for text in texts):
        return rows
    before, after = _template(tokenizer)
    room = ctx_len - len(before) - len(after)
    return [
        row if isinstance(text, str) else [*before, *_bare(row, before, after)[:room], *after]
        for row, text in zip(rows, texts, strict=True)
    ]


def pad(rows: Sequence[Sequence[int]], tokenizer: Any, device: torch.device) -> TokenBatch:
    """Right-pad rows of ids to one length."""
    filler = tokenizer.pad_token_id
    if filler is None:
        filler = tokenizer.eos_token_id or 0
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    table = np.full((len(rows), lengths.max(initial=0)), filler, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    ids = torch.from_numpy(table)
    mask = torch.from_numpy(np.arange(table.shape[1]) < lengths[:, None])
    special = is_special(ids, special_ids(tokenizer)) | ~mask
    return TokenBatch(ids, mask, special).to(device)


def is_special(ids: Int[Tensor, "batch pos"], specials: Sequence[int]) -> Bool[Tensor, "batch pos"]:
    """True where a token id is one of `specials`."""
    return torch.isin(ids, torch.tensor(specials, dtype=ids.dtype, device=ids.device))


def _encode(
    tokenizer: Any,
    texts: Sequence[str | Sequence[int]],
    ctx_len: int,
    *,
    add_special_tokens: bool,
) -> list[list[int]]:
    if isinstance(texts, str):
        raise ConfigError(
            f"tokenize takes a list of texts and got one string, {texts[:40]!r}; put it in a list"
        )
    words = [text for text in texts if isinstance(text, str)]
    encoded: Iterator[list[int]] = iter(())
    if words:
        encoded = iter(
            tokenizer(
                words,
                add_special_tokens=add_special_tokens,
                truncation=True,
                max_length=ctx_len,
                padding=False,
                return_attention_mask=False,
            )["input_ids"]
        )
    return [
        next(encoded) if isinstance(text, str) else _unpadded(_ids(text), tokenizer)
        for text in texts
    ]


def _ids(row: Any) -> list[int]:
    if isinstance(row, int):
        raise ConfigError(
            f"tokenize takes a list of texts or of lists of token ids and got the number {row}; "
            "put the ids of one text in a list of their own"
        )
    return [int(token) for token in row]


def _unpadded(row: list[int], tokenizer: Any) -> list[int]:
    """The row without padding at its ends, where padding has a token of its own."""
    filler = tokenizer.pad_token_id
    if filler is None or filler in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        return row
    kept = [i for i, token in enumerate(row) if token != filler]
    return row[kept[0] : kept[-1] + 1] if kept else []


def _template(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = [i for i in range(len(full)) if full[i : i + len(bare)] == bare]
    start = starts[0]
    return full[:start], full[start + len(bare) :]


def _bare(row: list[int], before: list[int], after: list[int]) -> list[int]:
    """The row without the special tokens of the template, where it has them."""
    if before and row[: len(before)] == before:
        row = row[len(before) :]
    if after and row[-len(after) :] == after:
        row = row[: -len(after)]
    return row
