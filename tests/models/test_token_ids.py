"""Token ids in the place of a text give the batch that the text would give."""

import pytest
import torch

from saetools.errors import ConfigError
from saetools.models import LanguageModel, SubjectModel, TextEncoder

TEXTS = ["Once upon a time there was a dog.", "hi", "The big tree fell into the water " * 9]


def same(model: SubjectModel, rows: list[list[int]], ctx_len: int | None = None) -> bool:
    got, want = model.tokenize(rows, ctx_len=ctx_len), model.tokenize(TEXTS, ctx_len=ctx_len)
    return all(
        torch.equal(getattr(got, part), getattr(want, part)) for part in ("ids", "mask", "special")
    )


@pytest.mark.parametrize("ctx_len", [None, 9])
@pytest.mark.parametrize("fixture", ["tiny_lm", "tiny_encoder"])
def test_ids_get_the_special_tokens_that_a_text_gets_once(
    fixture: str, ctx_len: int | None, request: pytest.FixtureRequest
) -> None:
    model: SubjectModel = request.getfixturevalue(fixture)
    bare = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    full = model.tokenize(TEXTS)
    padded = full.ids.tolist()
    assert same(model, bare, ctx_len)
    assert same(model, padded, ctx_len)
    mixed = [TEXTS[0], tuple(bare[1]), full.ids[2]]
    assert same(model, mixed, ctx_len)  # type: ignore[arg-type]


def test_minilm_takes_ids(minilm: TextEncoder) -> None:
    bare = [minilm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert same(minilm, bare)
    assert torch.equal(minilm.embed(bare), minilm.embed(TEXTS))


def test_one_row_of_ids_is_told_from_a_list_of_rows(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="got the number 5"):
        tiny_lm.tokenize([5, 6])  # type: ignore[list-item]
    assert tiny_lm.tokenize([[]]).ids.tolist() == [[tiny_lm.tokenizer.bos_token_id]]
