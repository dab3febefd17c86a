"""A store that is written in commits of chosen sizes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saetools.store import StoreWriter, TokenColumns

WriteStore = Callable[..., Path]
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture
def write_store(tmp_path: Path) -> WriteStore:
    """Write rows of documents of ten tokens, in commits of the sizes given."""

    def write(
        name: str,
        x: torch.Tensor,
        *,
        commits: Sequence[int] = (),
        first_doc: int = 0,
        dtype: str = "float32",
        finish: bool = True,
        filter: str | None = None,
        **manifest: Any,
    ) -> Path:
        n_docs = -(-len(x) // 10)
        options: dict[str, Any] = {"filter": filter} if filter else {}
        with StoreWriter(
            tmp_path / name,
            manifest={
                "model": {"name": "m"},
                "corpus": {"name": "c", "n_docs": n_docs},
                "widths": {HOOK: x.shape[1]},
                "dtype": dtype,
                **manifest,
            },
            labels=[f"label {first_doc + i}" for i in range(n_docs)],
            titles=[f"title {first_doc + i}" for i in range(n_docs)],
            held_out=(np.arange(n_docs) + first_doc) % 5 == 0,
            **options,
        ) as writer:
            for size in commits or (len(x),):
                start = writer.n_tokens
                rows = np.arange(start, min(start + size, len(x)))
                columns = TokenColumns(
                    ((rows + first_doc * 10) % 97).astype(np.int32),
                    (rows // 10).astype(np.int32),
                    (rows % 10).astype(np.int32),
                )
                part = {HOOK: x[start : start + len(rows)]}
                writer.commit(part, columns, n_docs_done=-(-(start + len(rows)) // 10))
            if finish:
                writer.finish()
        return tmp_path / name

    return write


@pytest.fixture
def numbers() -> Callable[..., torch.Tensor]:
    """Random rows that depend on their number alone."""

    def make(n: int, d: int = 8) -> torch.Tensor:
        return torch.randn(n, d, generator=torch.Generator().manual_seed(n))

    return make
