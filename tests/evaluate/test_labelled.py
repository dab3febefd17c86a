"""Characters of a text become the rows of its tokens, and a child's rows those of its parent."""

from pathlib import Path

import pytest

import saetools as st
from saetools.corpus import ConceptSpan
from saetools.errors import ConfigError
from saetools.evaluate.labelled import labels_from_spans
from saetools.models.base import LanguageModel, TextEncoder

TEXTS = ("the little dog saw a zebra", "we saw the fish", "nothing here")
PARENTS = {"dog": "pet", "pet": "animal", "fish": "animal", "zebra": "animal"}


def spans() -> list[ConceptSpan]:
    return [
        ConceptSpan(doc, text.index(word), text.index(word) + len(word), word)
        for doc, text in enumerate(TEXTS)
        for word in ("dog", "zebra", "fish")
        if word in text
    ]


def test_rows_of_language_models_and_encoders_are_found(
    tiny_lm: LanguageModel, tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    for model in (tiny_lm, tiny_encoder):
        path = tmp_path / f"{model.kind}.h5"
        with st.harvest(model, TEXTS, hook_name="resid_post.0", out=path) as store:
            labels = labels_from_spans(spans(), store, TEXTS, model, parents=PARENTS)
            ids = store.columns(0, store.n_tokens).token_ids
        said = {
            name: model.tokenizer.decode(ids[labels.column(name)]).replace(" ", "")
            for name in labels.names
        }
        assert said == {
            "animal": "dogzebrafish",
            "dog": "dog",
            "fish": "fish",
            "pet": "dog",
            "zebra": "zebra",
        }
        assert int(labels.column("zebra").sum()) > 1, "it is spelled in pieces"


def test_another_text_than_the_stores_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with st.harvest(tiny_lm, TEXTS, hook_name="resid_post.0", out=tmp_path / "a.h5") as store:
        others = (TEXTS[1], TEXTS[0], TEXTS[2])
        with pytest.raises(ConfigError, match="document 0 are not the tokens"):
            labels_from_spans(spans(), store, others, tiny_lm, parents=PARENTS)
