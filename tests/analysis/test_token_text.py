"""Tokens read like text, whatever the tokenizer."""

import pytest

from saetools.analysis.token_text import readable, starts_word, style_of


@pytest.mark.parametrize(
    ("pieces", "style", "text", "starts"),
    [
        (["draw", "##ing", ",", "a"], "wordpiece", " drawing, a", [1, 0, 1, 1]),
        (["The", "Ġcaf", "Ã©", "ĊĠ", "x"], "byte_bpe", "The café\n x", [0, 1, 0, 1, 0]),
        (["▁Once", "▁up", "on", "<0x0A>"], "sentencepiece", " Once upon\n", [1, 1, 0, 0]),
        (["a", "b"], "plain", " a b", [1, 1]),
    ],
)
def test_joined_tokens_are_the_text(pieces, style, text, starts):
    assert style_of(pieces) == style
    assert "".join(readable(pieces, style)) == text
    assert [starts_word(piece, style) for piece in pieces] == [bool(s) for s in starts]


def test_a_few_strange_pieces_do_not_change_the_style():
    assert style_of(["##a", "##b", "##c", "▁x", "y", "##"]) == "wordpiece"
    assert style_of([]) == "plain"


def test_half_a_character_does_not_stop_a_byte_tokenizer():
    assert readable(["Ã"], "byte_bpe") == ["\ufffd"]
    assert readable(["<|endoftext|>", "日"], "byte_bpe") == ["<|endoftext|>", "日"]
