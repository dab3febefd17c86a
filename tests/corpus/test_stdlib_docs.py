"""The standard library's documentation: read in order, labelled, and never executed."""

import json
import subprocess
import sys

import pytest

from saetools.corpus import Corpus, load_corpus
from saetools.corpus.sources import stdlib_docs
from saetools.corpus.split import sample

_READ = """
import json, sys
from saetools.corpus import load_corpus
from saetools.corpus.sources import stdlib_docs
before = set(sys.modules)
corpus = load_corpus({"type": "stdlib_docs"})
print(json.dumps([corpus.fingerprint, sorted(set(sys.modules) - before)]))
"""


@pytest.fixture(scope="module")
def corpus():
    return load_corpus({"type": "stdlib_docs"})


def test_another_process_reads_the_same_and_imports_no_module_it_reads(corpus):
    done = subprocess.run(
        [sys.executable, "-c", _READ], capture_output=True, text=True, check=True, timeout=120
    )
    fingerprint, imported = json.loads(done.stdout)
    assert fingerprint == corpus.fingerprint
    assert [name for name in imported if not name.startswith(("saetools.", "encodings."))] == []


def test_modules_with_side_effects_are_read_but_not_run(corpus):
    assert "turtle" in corpus.label_counts
    for name in ("antigravity", "this"):
        assert name not in sys.modules


def test_documents_carry_label_and_qualified_title(corpus):
    by_title = {document.title: document for document in corpus}
    called = by_title["unittest.mock.NonCallableMock.assert_called_once"]
    assert called.label == "unittest"
    assert called.text == "assert that the mock was called only once."
    assert by_title["turtle"].label == "turtle"
    assert by_title["assert"].label == "topics"


def test_there_is_enough_to_learn_from(corpus):
    assert len(corpus) > 4000
    for label in ("turtle", "unittest", "encodings", "topics"):
        assert corpus.label_counts[label] >= 40, label


def test_texts_are_unique_long_enough_and_in_order(corpus):
    texts = [document.text for document in corpus]
    assert len(set(texts)) == len(texts)
    assert min(map(len, texts)) >= 40
    titles = [document.title for document in corpus]
    assert titles == sorted(titles)


def test_no_test_suite_gets_in(corpus):
    for title in (document.title for document in corpus):
        assert not {"test", "tests", "idle_test"} & set(title.split(".")[1:-1]), title


def test_a_cap_keeps_the_shares_of_labels(corpus):
    few = Corpus(tuple(sample(corpus.documents, 1500)), "few")
    assert len(few) == 1500
    share = {label: n / len(corpus) for label, n in corpus.label_counts.items()}
    for label in list(share)[:5]:
        assert few.label_counts[label] / 1500 == pytest.approx(share[label], abs=0.02)


def test_definitions_under_if_and_try_count_and_bad_files_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text('raise RuntimeError("was executed")\n')
    first, second = "first " * 9, "second " * 9
    (tmp_path / "pkg" / "mod.py").write_text(
        f"try:\n    class A:\n        def f(self):\n            '{first}'\n"
        f"except ImportError:\n    def g():\n        '{second}'\n"
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "x.py").write_text(f"'''{'never ' * 9}'''")
    monkeypatch.setattr(stdlib_docs.sysconfig, "get_path", lambda name: str(tmp_path))
    found = load_corpus({"type": "stdlib_docs"})
    assert [document.title for document in found] == ["pkg.mod.A.f", "pkg.mod.g"]
    assert set(found.labels) == {"pkg"}
    assert len(load_corpus({"type": "stdlib_docs", "n_docs": 1})) == 1
