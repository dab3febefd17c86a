"""Harvest: the rows are the model's own, a stop loses nothing, and bad input is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saetools.corpus import Corpus, Document
from saetools.errors import ConfigError, HookNotFoundError, StoreError
from saetools.harvest import harvest
from saetools.models.base import LanguageModel, TextEncoder
from saetools.store import ActivationStore

TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(60)]
HOOK = "blocks.1.hook_resid_post"


def _datasets(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: (
                found.__setitem__(name, node[...]) if isinstance(node, h5py.Dataset) else None
            )
        )
    return found


def _same(a: Path, b: Path) -> bool:
    one, two = _datasets(a), _datasets(b)
    moments = [name for name in one if name.startswith("moments")]
    # Of the two slots of moments only the one of the last commit counts; `moments()` reads it.
    for name in moments:
        del one[name], two[name]
    with ActivationStore.open(a) as left, ActivationStore.open(b) as right:
        equal = np.array_equal(left.moments().mean, right.moments().mean)
        equal &= np.array_equal(left.moments().deviation, right.moments().deviation)
    return equal and one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("fixture", ["tiny_lm", "tiny_encoder"])
def test_rows_equal_a_forward_pass_of_each_document_alone(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(fixture)
    store = harvest(
        model, TEXTS, hook_name=[HOOK, "resid_post.0"], out=tmp_path / "a.h5", dtype="float32"
    )
    assert store.hook_names == (HOOK, "blocks.0.hook_resid_post")
    for doc in (0, 6, 59):
        tokens = model.tokenize([TEXTS[doc]])
        for name in store.hook_names:
            expected = model.activations(tokens, [name])[name][0, tokens.content[0]]
            rows = store.rows(*store.doc_spans[doc], hook_name=name)
            torch.testing.assert_close(rows, expected, atol=2e-5, rtol=1e-5)
        columns = store.columns(*store.doc_spans[doc])
        assert columns.token_ids.tolist() == tokens.ids[0, tokens.content[0]].tolist()
        assert columns.pos.tolist() == tokens.content[0].nonzero().squeeze(1).tolist()


def test_special_tokens_and_padding_have_no_rows(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    store = harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5")
    ids = store.columns(0, store.n_tokens).token_ids
    assert not set(ids.tolist()) & set(tiny_lm.tokenizer.all_special_ids)
    expected = sum(int(tiny_lm.tokenize([text]).content.sum()) for text in TEXTS)
    assert store.n_tokens == expected


def test_a_stopped_harvest_goes_on_to_the_same_rows(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 120)
    harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "whole.h5").close()
    calls = 0
    real = tiny_encoder.activations

    def dying(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_encoder, "activations", dying)
        with pytest.raises(KeyboardInterrupt):
            harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "parts.h5")
    with ActivationStore.open(tmp_path / "parts.h5", allow_incomplete=True) as partial:
        assert 0 < partial.n_docs < 60
    harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "parts.h5").close()
    assert _same(tmp_path / "whole.h5", tmp_path / "parts.h5")


def test_n_tokens_ends_with_the_document_that_reaches_it(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    store = harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", n_tokens=100)
    assert store.n_tokens >= 100
    assert store.doc_spans[-1][0] < 100
    assert store.complete


def test_a_complete_store_is_not_harvested_again(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5").close()
    monkeypatch.setattr(tiny_lm, "activations", None)
    assert harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5").complete


def test_another_corpus_in_the_same_file_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5").close()
    with pytest.raises(StoreError, match="holds another harvest"):
        harvest(tiny_lm, TEXTS[:-1], hook_name=HOOK, out=tmp_path / "a.h5")


def test_nan_is_named_by_document_and_position(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(tuple(Document(t, title=f"title {i}") for i, t in enumerate(TEXTS)), "c")
    real = tiny_encoder.activations

    def poisoned(tokens, names):  # type: ignore[no-untyped-def]
        out = real(tokens, names)
        for i, ids in enumerate(tokens.ids):
            if torch.equal(ids[tokens.mask[i]], tiny_encoder.tokenize([TEXTS[37]]).ids[0]):
                out[names[0]][i, 4, 2] = float("nan")
        return out

    monkeypatch.setattr(tiny_encoder, "activations", poisoned)
    with pytest.raises(StoreError, match=r"nan in document 37 \('title 37'\) at position 4"):
        harvest(tiny_encoder, corpus, hook_name=HOOK, out=tmp_path / "a.h5")


def test_float16_overflow_is_told_with_the_way_out(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tiny_encoder.activations
    monkeypatch.setattr(
        tiny_encoder, "activations", lambda t, n: {k: v * 1e6 for k, v in real(t, n).items()}
    )
    with pytest.raises(StoreError, match="dtype=bfloat16 or float32"):
        harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5")
    ok = harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "b.h5", dtype="bfloat16")
    assert ok.complete


@pytest.mark.parametrize(
    ("texts", "words"), [([], "empty corpus"), (["", ""], "not one content token")]
)
def test_a_corpus_without_tokens_is_refused(
    texts: list[str], words: str, tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        harvest(tiny_encoder, texts, hook_name=HOOK, out=tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_hook_names_near_ones_and_writes_nothing(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(HookNotFoundError, match="hook_resid_post"):
        harvest(tiny_lm, TEXTS, hook_name="blocks.1.hook_resid_pots", out=tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_store_holds_the_same_rows(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    plain = harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "plain.h5")
    small = harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "small.h5", filter="gzip")
    assert torch.equal(plain.rows(0, plain.n_tokens), small.rows(0, small.n_tokens))
    assert small.manifest["filter"] == "gzip"
    assert h5py.File(small.path)[f"activations/{HOOK}"].compression == "gzip"
