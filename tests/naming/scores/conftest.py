"""Documents whose latents follow known rules, and judges that know them."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from saetools.naming import Name

RULES = ("pen", "after_the", "new_york", "before_jersey", "turtle", "pen_or_ink", "dense", "rare")
_COMMON = [f"word{i}" for i in range(40)]
_PHRASES = (["pen"], ["ink"], ["new", "york"], ["old", "york"], ["new", "jersey"], ["pen"])


@dataclass(frozen=True)
class Near:
    """Neighbours as an index has them."""

    table: dict

    def of(self, latent):
        return [(other, 1.0) for other in self.table.get(latent, [])]


class FakeIndex:
    """As much of an index as scoring reads; remembers which documents were opened."""

    def __init__(self, documents, labels, held, acts):
        self.documents, self.acts = documents, acts
        self.docs = SimpleNamespace(held_out=np.array(held), label=labels)
        self.opened = set()
        whole = np.concatenate(acts)
        self.n_latents = whole.shape[1]
        self.firing_rate = (whole > 0).mean(0)
        self.max_act = whole.max(0)
        self.coactivation = Near({0: [5], 5: [0]})
        self.decoder_neighbours = Near({0: [1]})

    def tokens_of(self, doc):
        self.opened.add(doc)
        return [f" {word}" for word in self.documents[doc]]

    def postings(self, latent):
        found = [
            (doc, pos, rows[pos, latent])
            for doc, rows in enumerate(self.acts)
            for pos in np.flatnonzero(rows[:, latent]).tolist()
        ]
        doc, pos, value = zip(*found, strict=True) if found else ((), (), ())
        return SimpleNamespace(
            doc=np.array(doc, dtype=np.int32),
            pos=np.array(pos, dtype=np.int32),
            value=np.array(value, dtype=np.float32),
        )


def _document(rng):
    words = [[str(w)] for w in rng.choice(_COMMON, size=40)]
    for phrase in (*_PHRASES, ["the", str(rng.choice(_COMMON))]):
        words.insert(int(rng.integers(len(words))), list(phrase))
    return [word for phrase in words for word in phrase]


def _on(rule, words, i, label, rng):
    before = words[i - 1] if i else ""
    after = words[i + 1] if i + 1 < len(words) else ""
    return {
        "pen": words[i] == "pen",
        "after_the": before == "the",
        "new_york": (before, words[i]) == ("new", "york"),
        "before_jersey": after == "jersey",
        "turtle": label == "turtle" and rng.random() < 0.1,
        "pen_or_ink": words[i] in ("pen", "ink"),
        "dense": rng.random() < 0.3,
        "rare": False,
    }[rule]


def make_index(*, seed=0, n_docs=200):
    """Documents, half of them held out, and activations by the rules."""
    rng = np.random.default_rng(seed)
    held = [i % 2 == 1 for i in range(n_docs)]
    labels = ["turtle" if (i // 2) % 3 == 0 else "email" for i in range(n_docs)]
    documents = [_document(rng) for _ in range(n_docs)]
    acts = []
    for words, label in zip(documents, labels, strict=True):
        rows = np.zeros((len(words), len(RULES)), dtype=np.float32)
        for i in range(len(words)):
            for j, rule in enumerate(RULES):
                if _on(rule, words, i, label, rng):
                    rows[i, j] = rng.uniform(0.5, 1.5)
        acts.append(rows)
    acts[1][0, RULES.index("rare")] = 1.0  # one token of a held-out document
    return FakeIndex(documents, labels, held, acts)


def true_names():
    """The right name of each rule."""
    claims = {
        "pen": ("word", ("pen",), None),
        "after_the": ("previous", ("the",), None),
        "new_york": ("bigram", ("new york",), None),
        "before_jersey": ("next", ("jersey",), None),
        "turtle": (None, (), "turtle"),
        "pen_or_ink": ("word", ("pen", "ink"), None),
        "dense": ("word", ("word1",), None),
        "rare": ("word", ("word2",), None),
    }
    return [
        Name(i, rule, 1.0, "", "test", unit=unit, words=words, label=label)
        for i, (rule, (unit, words, label)) in enumerate(claims.items())
    ]


class Judge:
    """Knows what the explanations mean, and answers wrongly with a chance of `flip`."""

    def __init__(self, *, flip=0.0, seed=0):
        self.n_asked = 0
        self._flip, self._rng = flip, np.random.default_rng(seed)

    def __call__(self, messages):
        self.n_asked += 1
        user = messages[1]["content"]
        rule = re.match(r"Explanation: (.*)", user)[1]
        if "Tokens:" in user:
            words = [w.strip("' ") for w in re.findall(r"\d+: '(.*)'", user)]
            return str([10 * int(knows(rule, words, i)) for i in range(len(words))])
        texts = [re.sub(r"^Example \d+: ", "", t) for t in user.split("\n\n")[1:]]
        answers = [self._judge(rule, text) for text in texts]
        flips = self._rng.random(len(answers)) < self._flip
        return f"Looking closely: {[int(a != f) for a, f in zip(answers, flips, strict=True)]}"

    @staticmethod
    def _judge(rule, text):
        words = re.sub(r"<<|>>", "", text).split()
        if "<<" not in text:
            return any(knows(rule, words, i) for i in range(len(words)))
        inside, marked = False, []
        for piece in text.split():
            inside = inside or piece.startswith("<<")
            marked.append(inside)
            inside = inside and not piece.endswith(">>")
        return all(knows(rule, words, i) for i, m in enumerate(marked) if m)


def knows(rule, words, i):
    """What a judge makes of a rule; labels it cannot see."""
    return _on(rule, words, i, "", np.random.default_rng(0)) if rule != "dense" else False


@pytest.fixture(scope="session")
def index():
    return make_index()


@pytest.fixture(scope="session")
def names():
    return true_names()


@pytest.fixture(scope="session")
def latent():
    """Number of a rule's latent."""
    return RULES.index


@pytest.fixture(scope="session")
def judge():
    return Judge


@pytest.fixture(scope="session")
def fake_index():
    """Makes an index of documents, labels, which are held out, and activations."""
    return FakeIndex
