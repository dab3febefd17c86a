"""Packing: every content token has one row, at its place in its document, and nothing leaks."""

from pathlib import Path

import pytest
import torch

from saetools.corpus import Corpus, Document
from saetools.errors import ConfigError
from saetools.harvest import harvest
from saetools.models.base import LanguageModel, TextEncoder, TokenBatch
from saetools.models.tokens import encode_with_bos
from saetools.store import ActivationStore

HOOK = "blocks.1.hook_resid_post"
LONG = "the little dog and the old tree " * 12
TEXTS = ["a fish", LONG, "", "they went up the house", "a very happy day " * 3, LONG + "again"]
CTX_LEN = 24


def _ids(model: LanguageModel, text: str) -> list[int]:
    return encode_with_bos(model.tokenizer, [text], 10**6)[0]


def _forward(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    row = torch.tensor([ids])
    there = torch.ones_like(row, dtype=torch.bool)
    return model.activations(TokenBatch(row, there, ~there), [HOOK])[HOOK][0]


def _rows(store: ActivationStore, doc: int) -> tuple[torch.Tensor, list[int], list[int]]:
    columns = store.columns(*store.doc_spans[doc])
    return store.rows(*store.doc_spans[doc]), columns.token_ids.tolist(), columns.pos.tolist()


@pytest.mark.parametrize("packing", ["none", "joined"])
def test_split_documents_have_each_token_once_in_order(
    packing: str, tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    store = harvest(
        tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", ctx_len=CTX_LEN, packing=packing
    )
    for doc, text in enumerate(TEXTS):
        _, ids, pos = _rows(store, doc)
        assert [tiny_lm.tokenizer.bos_token_id, *ids] == _ids(tiny_lm, text)
        assert pos == list(range(1, len(ids) + 1))
    assert store.manifest["long"] == "split"


def test_unpacked_rows_equal_a_forward_of_each_window_alone(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    store = harvest(
        tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", dtype="float32", ctx_len=CTX_LEN
    )
    bos = tiny_lm.tokenizer.bos_token_id
    for doc, text in enumerate(TEXTS):
        content, step = _ids(tiny_lm, text)[1:], CTX_LEN - 1
        windows = [content[i : i + step] for i in range(0, len(content), step)]
        alone = [_forward(tiny_lm, [bos, *window])[1:] for window in windows]
        rows, _, _ = _rows(store, doc)
        torch.testing.assert_close(rows, torch.cat(alone) if alone else rows, atol=2e-5, rtol=1e-5)


def test_joined_rows_equal_a_forward_of_the_packed_sequences(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    store = harvest(
        tiny_lm,
        TEXTS,
        hook_name=HOOK,
        out=tmp_path / "a.h5",
        dtype="float32",
        ctx_len=CTX_LEN,
        packing="joined",
    )
    # Packed by hand: a BOS before each document, and one where a sequence starts within one.
    bos = tiny_lm.tokenizer.bos_token_id
    sequences: list[list[int]] = [[]]
    for text in TEXTS:
        if len(sequences[-1]) + 2 > CTX_LEN:
            sequences.append([])
        for token in _ids(tiny_lm, text):
            if len(sequences[-1]) == CTX_LEN:
                sequences.append([])
            if not sequences[-1] and token != bos:
                sequences[-1].append(bos)
            sequences[-1].append(token)
    expected = [_forward(tiny_lm, ids)[torch.tensor(ids) != bos] for ids in sequences]
    torch.testing.assert_close(
        store.rows(0, store.n_tokens), torch.cat(expected), atol=2e-5, rtol=1e-5
    )


def test_joined_forwards_hold_next_to_no_padding(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = tiny_lm.activations, []
    monkeypatch.setattr(
        tiny_lm, "activations", lambda tokens, names: (seen.append(tokens), real(tokens, names))[1]
    )
    texts = ["a bird sat by the water"] * 40
    harvest(
        tiny_lm, texts, hook_name=HOOK, out=tmp_path / "a.h5", ctx_len=CTX_LEN, packing="joined"
    )
    real_tokens = sum(int(tokens.mask.sum()) for tokens in seen)
    assert real_tokens / sum(tokens.ids.numel() for tokens in seen) > 0.9


def test_truncate_keeps_the_first_window(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    store = harvest(
        tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", ctx_len=CTX_LEN, long="truncate"
    )
    for doc, text in enumerate(TEXTS):
        assert _rows(store, doc)[1] == _ids(tiny_lm, text)[1:CTX_LEN]


def test_kept_special_tokens_are_the_documents_own(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    store = harvest(
        tiny_lm,
        TEXTS,
        hook_name=HOOK,
        out=tmp_path / "a.h5",
        ctx_len=CTX_LEN,
        special_tokens="kept",
    )
    for doc, text in enumerate(TEXTS):
        _, ids, pos = _rows(store, doc)
        assert ids == _ids(tiny_lm, text)
        assert pos == list(range(len(ids)))


def test_a_stopped_joined_harvest_goes_on_to_the_same_rows(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 60)
    asked = {"hook_name": HOOK, "ctx_len": CTX_LEN, "packing": "joined"}
    whole = harvest(tiny_lm, TEXTS * 3, out=tmp_path / "whole.h5", **asked)
    real, calls = tiny_lm.activations, []

    def dying(tokens, names):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(tokens, names)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_lm, "activations", dying)
        with pytest.raises(KeyboardInterrupt):
            harvest(tiny_lm, TEXTS * 3, out=tmp_path / "parts.h5", **asked)
    parts = harvest(tiny_lm, TEXTS * 3, out=tmp_path / "parts.h5", **asked)
    n = whole.n_tokens
    assert torch.equal(whole.rows(0, n), parts.rows(0, n))
    assert whole.columns(0, n).doc.tolist() == parts.columns(0, n).doc.tolist()


@pytest.mark.parametrize("option", [{"packing": "joined"}, {"long": "split"}])
def test_text_encoders_are_neither_packed_nor_split(
    option: dict[str, str], tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is a text encoder"):
        harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", **option)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_names_the_nearest(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'packing'"):
        harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", pakcing="joined")


@pytest.mark.parametrize("fixture", ["tiny_lm", "tiny_encoder"])
@pytest.mark.parametrize("with_specials", [True, False])
def test_token_ids_give_the_rows_of_their_text(
    fixture: str, with_specials: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(fixture)
    texts = ["a fish", "they went up the house", LONG]
    documents = []
    for text in texts:
        rows = model.tokenizer([text], add_special_tokens=False)["input_ids"]
        tokens = model.tokenize([text])
        whole = tokens.ids[0].tolist()
        ids = whole if with_specials and len(whole) < model.ctx_len else rows[0]
        documents.append(Document(text, token_ids=tuple(ids)))
    corpus = Corpus(tuple(documents), "ids", model.tokenizer_fingerprint)
    asked = {"hook_name": HOOK, "dtype": "float32"}
    from_text = harvest(model, texts, out=tmp_path / "a.h5", **asked)
    from_ids = harvest(model, corpus, out=tmp_path / "b.h5", **asked)
    n = from_text.n_tokens
    assert torch.equal(from_ids.rows(0, n + 1), from_text.rows(0, n))
    assert from_ids.columns(0, n).pos.tolist() == from_text.columns(0, n).pos.tolist()
