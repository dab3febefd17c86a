"""An index of planted latents, each with a rule that a name can state exactly."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saetools.analysis import index_latents
from saetools.corpus import held_out
from saetools.sae import build_sae
from saetools.store import ActivationStore, StoreWriter, TokenColumns

LATENTS = (
    "token",
    "bigram",
    "topic",
    "dead",
    "previous",
    "frozen_pair",
    "noise",
    "label",
    "pieces",
    "train_only",
    "next",
    "mostly",
)
_COMMON = [f"common{i}" for i in range(40)]
_EXTRA = ["new", "old", "york", "jersey", "the", "pen", "turtle", "draw", "##ing", "rare"]
_HOOK = "blocks.0.hook_resid_post"


class Pieces:
    """A wordpiece tokenizer as far as an index needs one."""

    vocab = (*_COMMON, *_EXTRA)

    def get_vocab(self):
        return {piece: i for i, piece in enumerate(self.vocab)}

    def convert_ids_to_tokens(self, ids):
        return [self.vocab[i] for i in ids]


def _document(rng, label, held):
    """Pieces of one document: common words with planted phrases at random places."""
    words = [[str(w)] for w in rng.choice(_COMMON, size=24)]
    phrases = [["new", "york"], ["old", "york"], ["new", "jersey"], ["the", rng.choice(_COMMON)]]
    phrases += [["draw", "##ing"], ["pen"], ["new", rng.choice(_COMMON)]]
    if label == "turtle":
        phrases += [["turtle"], ["draw"], ["pen"], ["turtle"], ["draw"]]
    if not held:
        phrases += [["rare"]]
    for phrase in phrases:
        words.insert(int(rng.integers(len(words))), [str(w) for w in phrase])
    return [piece for phrase in words for piece in phrase]


def _fires(rng, pieces, label):
    """Activations (n, latents) by the planted rules."""
    x = np.zeros((len(pieces), len(LATENTS)), dtype=np.float32)
    strength = rng.uniform(0.5, 1.5, size=x.shape)
    for i, piece in enumerate(pieces):
        before = pieces[i - 1] if i else ""
        after = pieces[i + 1] if i + 1 < len(pieces) else ""
        whole = piece == "draw" and after == "##ing"
        rules = {
            "token": piece == "pen",
            "bigram": (before, piece) == ("new", "york"),
            "topic": label == "turtle"
            and (piece in ("turtle", "pen") or (piece == "draw" and not whole)),
            "previous": before == "the",
            "frozen_pair": piece == "jersey",
            "noise": rng.random() < 0.1,
            "label": label == "turtle" and piece in _COMMON and rng.random() < 0.3,
            "pieces": whole or piece == "##ing",
            "train_only": piece == "rare",
            "next": after == "pen",
            "mostly": piece == "jersey" or (before == "new" and rng.random() < 0.2),
        }
        for name, on in rules.items():
            if on:
                x[i, LATENTS.index(name)] = strength[i, LATENTS.index(name)]
    return x


def _write(path):
    rng = np.random.default_rng(0)
    labels = [("turtle", "unittest", "email")[i % 3] for i in range(150)]
    held = held_out(150, fraction=0.25, seed=0)
    documents = [_document(rng, label, h) for label, h in zip(labels, held, strict=True)]
    rows = [_fires(rng, d, label) for d, label in zip(documents, labels, strict=True)]
    ids = Pieces().get_vocab()
    columns = TokenColumns(
        np.array([ids[piece] for d in documents for piece in d], dtype=np.int32),
        np.repeat(np.arange(150, dtype=np.int32), [len(d) for d in documents]),
        np.concatenate([np.arange(len(d), dtype=np.int32) for d in documents]),
    )
    manifest = {
        "model": {"name": "planted", "kind": "text_encoder", "fingerprint": "0" * 16},
        "corpus": {"name": "planted", "fingerprint": "0" * 16, "n_docs": 150},
        "widths": {_HOOK: len(LATENTS)},
        "dtype": "float32",
    }
    with StoreWriter(
        path, manifest=manifest, labels=labels, titles=[""] * 150, held_out=held
    ) as writer:
        x = torch.from_numpy(np.concatenate(rows))
        writer.commit({_HOOK: x}, columns, n_docs_done=150)
        writer.finish()
    return ActivationStore.open(path)


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """Index of an identity SAE over the planted activations."""
    store = _write(tmp_path_factory.mktemp("planted") / "acts.h5")
    n = len(LATENTS)
    sae = build_sae("topk", d_in=n, n_latents=n, k=n)
    with torch.no_grad():
        sae.W_enc_rows.copy_(torch.eye(n))
        sae.W_dec.copy_(torch.eye(n))
    return index_latents(sae, store, model=SimpleNamespace(tokenizer=Pieces()))


@pytest.fixture(scope="session")
def number():
    """Number of a planted latent by its name."""
    return LATENTS.index


class Server:
    """A stub that speaks as much of OpenAI's protocol as a chat needs."""

    def __init__(self):
        self.seen = []
        self.failures = []  # (status, text) answered first
        self.answer = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}}]
        }
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.seen.append((self.path, self.headers.get("Authorization"), body))
                status, content = (
                    stub.failures.pop(0) if stub.failures else (200, json.dumps(stub.answer))
                )
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    """A stub of a server; the client that speaks to it comes with saetools[llm]."""
    pytest.importorskip("openai", reason="pip install saetools[llm]")
    stub = Server()
    yield stub
    stub.close()
