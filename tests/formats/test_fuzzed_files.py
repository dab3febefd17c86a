"""Whatever bytes a file has, reading gives tensors or a FormatError, and costs what it is long."""

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from saetools.errors import FormatError
from saetools.formats.safety import (
    read_json,
    read_npz,
    read_safetensors,
    read_torch,
    read_yaml,
)

# What parsers and the archives' own tables take, whatever the file.
_SMALL = 2**21
_MULTIPLE = 32
_TENSORS = {"W": torch.randn(8, 4), "b": torch.zeros(8), "k": torch.tensor(3)}

fuzzed = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def attempt(read: Callable[[Path], Any], content: bytes) -> None:
    """Read a file of these bytes; anything but a result or a FormatError fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        problem = None
        tracemalloc.start()
        try:
            read(path)
        except FormatError as error:
            problem = str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert problem is None or (str(path) in problem and len(problem) < 1500)
    assert peak < _MULTIPLE * len(content) + _SMALL


def written(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file.{kind}"
        if kind == "safetensors":
            save_file(_TENSORS, path)
        elif kind == "npz":
            np.savez(path, **{name: tensor.numpy() for name, tensor in _TENSORS.items()})
        else:
            torch.save(_TENSORS | {"settings": {"k": 3, "act": "TopK"}}, path)
        return path.read_bytes()


WHOLE = {kind: written(kind) for kind in ("safetensors", "npz", "pt")}
READ = {"safetensors": read_safetensors, "npz": read_npz, "pt": read_torch}
edits = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=6)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pt"])
@fuzzed
@given(edits=edits, cut=st.integers(0, 3000) | st.none())
def test_damaged_files_never_crash(kind: str, edits: list[tuple[int, bytes]], cut: int | None):
    content = bytearray(WHOLE[kind])
    for at, new in edits:
        at %= len(content)
        content[at : at + len(new)] = new
    attempt(READ[kind], bytes(content[:cut]))


@pytest.mark.parametrize("read", [read_safetensors, read_npz, read_torch, read_json, read_yaml])
@fuzzed
@given(content=st.binary(max_size=300))
def test_random_bytes_never_crash(read: Callable[[Path], Any], content: bytes):
    attempt(read, content)


sizes = st.integers(-3, 6) | st.integers(2**31 - 2, 2**65)
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F4", "U64", ""]) | st.none(),
        "shape": st.lists(sizes, max_size=10) | st.text(max_size=3),
        "data_offsets": st.lists(sizes, min_size=1, max_size=3) | st.none(),
        "other": st.booleans(),
    },
)
headers = st.dictionaries(st.text(max_size=8) | st.just("__metadata__"), entries, max_size=4)


@fuzzed
@given(header=headers, length=sizes | st.none(), data=st.binary(max_size=64))
def test_made_up_safetensors_headers_never_allocate_what_they_say(
    header: dict[str, Any], length: int | None, data: bytes
):
    text = json.dumps(header).encode()
    claimed = len(text) if length is None else max(length, 0) % 2**64
    attempt(read_safetensors, claimed.to_bytes(8, "little") + text + data)
