"""Pooling: one row a document, equal to pooling the activations of the text alone."""

from pathlib import Path

import pytest
import torch

from saetools.errors import ConfigError
from saetools.harvest import harvest
from saetools.models.base import LanguageModel, TextEncoder

HOOK = "blocks.1.hook_resid_post"
TEXTS = ["a fish", "the little dog and the old tree went away", "", "one day", "dog " * 300]


@pytest.mark.parametrize("mode", ["cls", "mean", "eot"])
def test_a_row_equals_the_pooled_activations_of_the_text_alone(
    mode: str, tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    asked = {"hook_name": [HOOK, "resid_post.0"], "dtype": "float32", "pooling": mode}
    store = harvest(tiny_encoder, TEXTS, out=tmp_path / "a.h5", **asked)
    columns = store.columns(0, store.n_tokens)
    assert columns.doc.tolist() == [0, 1, 3, 4]  # a text without tokens has no row
    assert columns.pos.tolist() == [0] * 4
    for row, doc in enumerate(columns.doc.tolist()):
        tokens = tiny_encoder.tokenize([TEXTS[doc]])
        place = {"cls": 0, "mean": 1, "eot": -1}[mode]
        assert columns.token_ids[row] == tokens.ids[0, place]
        for name in store.hook_names:
            x = tiny_encoder.activations(tokens, [name])[name][0]
            expected = x.mean(0) if mode == "mean" else x[place]
            found = store.rows(row, row + 1, hook_name=name)[0]
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_auto_is_the_pooling_of_the_model(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    asked = {"hook_name": HOOK, "dtype": "float32"}
    auto = harvest(tiny_encoder, TEXTS, out=tmp_path / "a.h5", pooling="auto", **asked)
    own = harvest(tiny_encoder, TEXTS, out=tmp_path / "b.h5", pooling=tiny_encoder.pooling, **asked)
    assert auto.manifest["pooling"] == own.manifest["pooling"] == tiny_encoder.pooling
    assert torch.equal(auto.rows(0, 4), own.rows(0, 4))


def test_padding_never_reaches_a_pooled_row(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tiny_encoder.activations

    def with_nan_at_padding(tokens, names):  # type: ignore[no-untyped-def]
        found = real(tokens, names)
        hole = ~tokens.mask.unsqueeze(-1)
        return {name: x.masked_fill(hole, float("nan")) for name, x in found.items()}

    monkeypatch.setattr(tiny_encoder, "activations", with_nan_at_padding)
    store = harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", pooling="mean")
    assert store.rows(0, store.n_tokens).isfinite().all()


def test_language_models_are_not_pooled(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a language model; pooling belongs"):
        harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", pooling="mean")


def test_pooled_rows_cannot_keep_special_tokens(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    asked = {"pooling": "mean", "special_tokens": "kept"}
    with pytest.raises(ConfigError, match="one row a document"):
        harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", **asked)
