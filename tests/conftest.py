"""What all tests share: quiet threads, no hub, tiny models, a small store, the shared inputs."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import saetools as st
from saetools.corpus import held_out
from saetools.models.base import LanguageModel, TextEncoder
from saetools.store import ActivationStore, StoreWriter, TokenColumns

# Two threads that share the cores with another process are slower than one.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real models and texts beside the checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip("needs the folder of shared models and texts beside the checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_lm() -> LanguageModel:
    """A language model with random weights, made in memory."""
    model = st.load_model("tiny")
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="session")
def tiny_encoder() -> TextEncoder:
    """A text encoder with random weights, made in memory."""
    model = st.load_model("tiny-encoder")
    assert isinstance(model, TextEncoder)
    return model


StoreMaker = Callable[..., ActivationStore]


@pytest.fixture(scope="session")
def store_in() -> StoreMaker:
    """Write activations (n, d_in) into a folder, a store of documents of `doc_len` tokens each.

    `also` holds activations of the same tokens at further hooks.
    """

    def make(
        folder: Path,
        x: torch.Tensor,
        *,
        doc_len: int = 16,
        hook_name: str = "blocks.0.hook_resid_post",
        dtype: str = "float32",
        held_out_fraction: float = 0.2,
        name: str = "acts.h5",
        also: Mapping[str, torch.Tensor] | None = None,
    ) -> ActivationStore:
        acts = {hook_name: x, **(also or {})}
        doc = np.arange(len(x), dtype=np.int32) // doc_len
        n_docs = int(doc[-1]) + 1
        manifest = {
            "model": {"name": "planted", "kind": "text_encoder", "fingerprint": "0" * 16},
            "corpus": {"name": "planted", "fingerprint": "0" * 16, "n_docs": n_docs},
            "widths": {hook: rows.shape[1] for hook, rows in acts.items()},
            "dtype": dtype,
        }
        with StoreWriter(
            folder / name,
            manifest=manifest,
            labels=[f"label{i % 3}" for i in range(n_docs)],
            titles=[f"document {i}" for i in range(n_docs)],
            held_out=held_out(n_docs, fraction=held_out_fraction, seed=0),
        ) as writer:
            columns = TokenColumns(
                (np.arange(len(x)) % 97).astype(np.int32),
                doc,
                (np.arange(len(x)) % doc_len).astype(np.int32),
            )
            writer.commit(acts, columns, n_docs_done=n_docs)
            writer.finish()
        return ActivationStore.open(folder / name)

    return make


@pytest.fixture
def make_store(tmp_path: Path, store_in: StoreMaker) -> StoreMaker:
    """`store_in` into the folder of the test."""
    return partial(store_in, tmp_path)


@pytest.fixture
def tiny_store(make_store: StoreMaker) -> ActivationStore:
    """3200 random rows of width 16, seed 0."""
    return make_store(torch.randn(3200, 16, generator=torch.Generator().manual_seed(0)))
