"""A corpus is the same corpus wherever and whenever it is read."""

import pytest

from saetools.corpus import CORPORA, Corpus, Document, load_corpus
from saetools.errors import ConfigError, UnknownNameError


def test_fingerprint_sees_texts_labels_and_order_but_not_titles():
    def of(*documents: Document) -> str:
        return Corpus(documents, "any").fingerprint

    a, b = Document("a", "x"), Document("b", "y")
    assert of(a, b) == of(Document("a", "x", "titled"), b)
    others = [
        of(b, a),
        of(a),
        of(Document("a", "z"), b),
        of(Document("a", None), b),
        of(Document("a", ""), b),
        of(Document("ax", ""), b),
    ]
    assert len({of(a, b), *others}) == 1 + len(others)


def test_a_corpus_is_a_sequence_of_its_documents():
    documents = tuple(Document(t, label) for t, label in [("p", "x"), ("q", None), ("r", "x")])
    corpus = Corpus(documents, "three")
    assert len(corpus) == 3
    assert list(corpus) == list(documents)
    assert corpus[-1] is documents[2]
    assert corpus[:2] == documents[:2]
    assert corpus.labels == ("x", None, "x")
    assert corpus.label_counts == {"x": 2}


def test_jupyter_shows_labels_escaped():
    shown = Corpus((Document("t", "<b>x</b>"),), "a<b")._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "a&lt;b" in shown


def test_every_source_file_has_a_config_and_load():
    assert {"files", "hub", "stdlib_docs"} <= set(CORPORA.names())
    for name in CORPORA.names():
        source = CORPORA.get(name)
        assert source.Config.model_config["frozen"]
        assert source.Config.model_config["extra"] == "forbid"
        assert callable(source.load)


def test_a_bad_config_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(
        ConfigError, match=r"needs a `type`.*files, hub, planted_world, stdlib_docs"
    ):
        load_corpus({"path": "x"})
    with pytest.raises(UnknownNameError, match="did you mean 'files'"):
        load_corpus({"type": "file"})
    with pytest.raises(ConfigError, match=r"txet_field: unknown key; did you mean 'text_field'"):
        load_corpus({"type": "files", "path": "x", "txet_field": "y"})
    with pytest.raises(ConfigError, match="corpus 'files': path: is missing"):
        load_corpus({"type": "files"})
    with pytest.raises(ConfigError, match="n_docs = 0 is out of range; allowed: >= 1"):
        load_corpus({"type": "stdlib_docs", "n_docs": 0})
