"""Tokens as people read them: `##ing` is "ing", `Ġword` and `▁word` are " word".

Joined, the readable tokens of a text give the text back, up to what the tokenizer threw away
(BERT's pieces forget the spaces around punctuation).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = ["Style", "readable", "starts_word", "style_of"]

Style = Literal["wordpiece", "byte_bpe", "sentencepiece", "plain"]

_MARKS: tuple[tuple[str, Style], ...] = (
    ("##", "wordpiece"),
    ("Ġ", "byte_bpe"),
    ("▁", "sentencepiece"),
)
_HUGS_LEFT = frozenset(".,;:!?)]}%'\"\u2019\u201d")


def style_of(pieces: Iterable[str]) -> Style:
    """How a tokenizer marks the joints of words, judged by its vocabulary."""
    counts = dict.fromkeys((style for _, style in _MARKS), 0)
    for piece in pieces:
        for mark, style in _MARKS:
            counts[style] += piece.startswith(mark) and len(piece) > len(mark)
    best = max(counts, key=lambda style: counts[style])
    return best if counts[best] else "plain"


def starts_word(piece: str, style: Style) -> bool:
    """Whether a piece begins a new word whatever stands before it."""
    if style == "wordpiece":
        return not piece.startswith("##")
    if style == "byte_bpe":
        return piece[:1] in ("Ġ", "Ċ", "ĉ")
    if style == "sentencepiece":
        return piece.startswith("▁")
    return True


def readable(pieces: Sequence[str], style: Style) -> list[str]:
    """Text of each piece, with a leading space where the text had (or must have had) one."""
    return [_text(piece, style) for piece in pieces]


def _text(piece: str, style: Style) -> str:
    if style == "wordpiece":
        if piece.startswith("##") and len(piece) > 2:
            return piece[2:]
        return piece if piece in _HUGS_LEFT else f" {piece}"
    if style == "byte_bpe":
        if all(char in _BYTE_OF for char in piece):
            return bytes(_BYTE_OF[char] for char in piece).decode("utf-8", "replace")
        return piece
    if style == "sentencepiece":
        byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece)
        if byte:
            return bytes([int(byte[1], 16)]).decode("utf-8", "replace")
        return piece.replace("▁", " ")
    return f" {piece.strip()}"


def _byte_alphabet() -> dict[str, int]:
    """Byte of each character of byte-level BPE: printable bytes are themselves, others shifted."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in kept}
    others = (byte for byte in range(256) if byte not in set(kept))
    table.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_alphabet()
