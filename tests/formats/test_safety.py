"""Files of others are read without running anything in them, and their headers are not believed."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saetools.errors import FormatError
from saetools.formats.safety import (
    npz_shapes,
    read_json,
    read_npz,
    read_safetensors,
    read_torch,
    read_yaml,
    safetensors_shapes,
    torch_keys,
)

TENSORS = {
    "W": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([0.5, -1.0]),
    "k": torch.tensor(4),
}


class Attack:
    """An object whose pickle makes a folder when it is loaded as a pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def safetensors_of(
    path: Path, header: object, data: bytes = b"", length: int | None = None
) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a zip archive with the bytes of members changed; None leaves one out."""
    copy = path.with_name("copy" + path.suffix)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return copy


def pickled(path: Path, replace: tuple[bytes, bytes]) -> Path:
    """A copy of a torch file whose pickle has some bytes replaced."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert replace[0] in content
        return content.replace(*replace)

    return rewritten(path, change)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.pt"
    torch.save(TENSORS, path)
    return path


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[k], TENSORS[k]) for k in found)


def test_what_honest_tools_write_is_read(tmp_path: Path, saved: Path):
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert same(read_safetensors(tmp_path / "a.safetensors"))
    assert safetensors_shapes(tmp_path / "a.safetensors") == {"W": (2, 3), "b": (2,), "k": ()}
    assert same(read_torch(saved))
    assert torch_keys(saved) == ["W", "b", "k"]
    arrays = {name: tensor.numpy() for name, tensor in TENSORS.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    assert same(read_npz(tmp_path / "a.npz"))
    assert same(read_npz(tmp_path / "b.npz"))
    assert npz_shapes(tmp_path / "b.npz") == {"W": (2, 3), "b": (2,), "k": ()}


def test_fortran_and_big_endian_arrays_are_read_as_their_values(tmp_path: Path):
    x = np.arange(6, dtype=">f4").reshape(2, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.asfortranarray(x), z=np.zeros((0, 3)))
    found = read_npz(tmp_path / "a.npz")
    assert torch.equal(found["x"], TENSORS["W"])
    assert torch.equal(found["y"], TENSORS["W"])
    assert found["z"].shape == (0, 3)


def test_state_dicts_parameters_and_settings_of_torch_are_read(tmp_path: Path):
    layer = torch.nn.Linear(3, 2)
    content = {"state": layer.state_dict(), "own": layer.weight, "k": 3, "act": "TopK", "no": None}
    torch.save(content, tmp_path / "a.pt")
    found = read_torch(tmp_path / "a.pt")
    assert torch.equal(found["state"]["weight"], layer.weight)
    assert torch.equal(found["own"], layer.weight)
    assert (found["k"], found["act"], found["no"]) == (3, "TopK", None)


def test_torch_file_without_a_dict_is_refused(tmp_path: Path):
    torch.save([torch.zeros(2)], tmp_path / "a.pt")
    with pytest.raises(FormatError, match="holds a list"):
        read_torch(tmp_path / "a.pt")


def test_views_of_one_storage_are_read(tmp_path: Path):
    W = torch.randn(4, 5)
    torch.save({"T": W.T, "row": W[1], "every": W[:, ::2]}, tmp_path / "a.pt")
    found = read_torch(tmp_path / "a.pt")
    assert torch.equal(found["T"], W.T)
    assert torch.equal(found["row"], W[1])
    assert torch.equal(found["every"], W[:, ::2])


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_object_in_a_torch_file_is_refused_and_not_run(tmp_path: Path, protocol: int):
    hit = tmp_path / "hit"
    torch.save({"W": TENSORS["W"], "x": Attack(hit)}, tmp_path / "a.pt", pickle_protocol=protocol)
    with pytest.raises(FormatError, match="could run code when it is loaded"):
        read_torch(tmp_path / "a.pt")
    assert not hit.exists()


def test_pickled_array_in_an_npz_is_refused_and_not_run(tmp_path: Path):
    hit = tmp_path / "hit"
    np.savez(tmp_path / "a.npz", W=np.array([Attack(hit)], dtype=object))
    with pytest.raises(FormatError, match="array 'W' is a pickled object"):
        read_npz(tmp_path / "a.npz")
    assert not hit.exists()


def test_bare_pickle_is_refused_and_not_run(tmp_path: Path):
    hit = tmp_path / "hit"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Attack(hit)))
    torch.save(TENSORS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("a.pt", "old.pt"):
        with pytest.raises(FormatError, match=r"PyTorch before 1\.6"):
            read_torch(tmp_path / name)
    assert not hit.exists()


def test_stand_ins_cannot_be_changed_by_a_pickle(tmp_path: Path, saved: Path):
    # BUILD on a callable would set its attributes, were it an ordinary function.
    attack = b"\x80\x02ctorch._utils\n_rebuild_parameter\n}q\x00X\x01\x00\x00\x00aK\x01sb."
    path = rewritten(saved, lambda name, old: attack if name.endswith("data.pkl") else old)
    with pytest.raises(FormatError, match="cannot be read"):
        read_torch(path)
    read_torch(saved)


@pytest.fixture
def no_torch_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        pytest.fail("torch.load was reached")

    monkeypatch.setattr(torch, "load", load)


@pytest.mark.usefixtures("no_torch_load")
def test_tensor_larger_than_its_data_is_never_made(saved: Path):
    # (2, 3) becomes (2, 2**31 - 1): torch would grow the storage to that.
    huge = pickled(saved, (b"K\x02K\x03\x86", b"K\x02J\xff\xff\xff\x7f\x86"))
    with pytest.raises(FormatError, match="larger than its data of 6 numbers"):
        read_torch(huge)


@pytest.mark.usefixtures("no_torch_load")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x02K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86", "a tensor of shape"),
        (b"K\x03K\x01\x86", b"K\x63K\x01\x86", "larger than its data"),
        (b"ctorch\nFloatStorage\n", b"ctorch\nDoubleStorage\n", "should have 48 bytes"),
        (b"ctorch\nFloatStorage\n", b"cbuiltins\neval\n", "'builtins.eval'"),
        (b"ctorch\nFloatStorage\n", b"ctorch\nload\n", "'torch.load'"),
    ],
)
def test_pickle_that_does_not_fit_its_data_is_refused(
    saved: Path, old: bytes, new: bytes, message: str
):
    with pytest.raises(FormatError, match=message):
        read_torch(pickled(saved, (old, new)))


@pytest.mark.usefixtures("no_torch_load")
def test_missing_and_short_storages_are_refused(saved: Path):
    gone = rewritten(saved, lambda name, old: None if name.endswith("data/0") else old)
    with pytest.raises(FormatError, match="the archive has none"):
        read_torch(gone)
    short = rewritten(saved, lambda name, old: old[:4] if name.endswith("data/0") else old)
    with pytest.raises(FormatError, match="should have 24 bytes, the archive has 4"):
        read_torch(short)


@pytest.mark.usefixtures("no_torch_load")
def test_memo_index_that_would_take_gigabytes_is_refused(saved: Path):
    text = b"\x80\x02}r\xff\xff\xff\x7f."  # LONG_BINPUT 2**31 - 1
    path = rewritten(saved, lambda name, old: text if name.endswith("data.pkl") else old)
    with pytest.raises(FormatError, match="a memo of 2147483647 entries"):
        read_torch(path)


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, no_torch_load: None):
    zeros = io.BytesIO()
    np.lib.format.write_array(zeros, np.zeros(50_000_000, dtype=np.int8))
    for name in ("a.npz", "a.pt"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/W.npy", zeros.getvalue())
    with pytest.raises(FormatError, match="weights do not compress like that"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(FormatError, match="zip bomb"):
        read_torch(tmp_path / "a.pt")


def test_archive_that_lies_about_its_length_gives_one_clear_error(tmp_path: Path):
    np.savez(tmp_path / "a.npz", W=np.zeros(1000, dtype=np.float32))
    whole = (tmp_path / "a.npz").read_bytes()
    claimed = (128 + 4000).to_bytes(4, "little")
    assert whole.count(claimed) >= 2
    larger = whole.replace(claimed, (2**31).to_bytes(4, "little"))
    (tmp_path / "b.npz").write_bytes(larger)
    with pytest.raises(FormatError):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("(2305843009213693952, 8)", "needs"),
        ("(-1,)", "no header of a plain array"),
        ("(" * 500, "no header of a plain array"),
    ],
)
def test_absurd_shapes_in_an_npz_are_refused(tmp_path: Path, header: str, message: str):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {header}, }}\n".encode()
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 32
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("W.npy", member)
    with pytest.raises(FormatError, match=message):
        read_npz(tmp_path / "a.npz")


def test_dtypes_that_are_no_weights_are_named(tmp_path: Path):
    np.savez(tmp_path / "a.npz", W=np.array(["text"]))
    with pytest.raises(FormatError, match="dtype '<U4'"):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", W=np.zeros(2, dtype=np.complex64))
    with pytest.raises(FormatError, match="dtype '<c8'"):
        read_npz(tmp_path / "b.npz")
    with pytest.raises(FormatError, match="dtype 'C64'"):
        read_safetensors(safetensors_of(tmp_path / "a.safetensors", entry(dtype="C64"), b"\0" * 8))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (entry(shape=(2**62, 2**62)), "needs"),
        (entry(shape=(-2,)), "whole numbers from 0"),
        (entry(shape=(2.0,)), "whole numbers from 0"),
        (entry(shape=[1] * 40 + [2]), "whole numbers from 0"),
        (entry(offsets=(0, 2**40), shape=(2**38,)), "truncated or padded"),
        (entry(offsets=(8, 16)), "begins at byte 8"),
        (entry(offsets=(8, 0)), "gives it -8"),
        (entry() | {"v": entry()["w"]}, "begins at byte 0 of the data, where 8"),
        ({"w": 3}, "whole numbers from 0"),
        ([], "a JSON list"),
        (b'{"w": {}, "w": {}}', "stands there twice"),
        (b"[" * 100_000, "not JSON|too deeply"),
        (b'{"w": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_headers_of_safetensors_that_do_not_fit_are_refused(
    tmp_path: Path, header: object, message: str
):
    path = safetensors_of(tmp_path / "a.safetensors", header, b"\0" * 8)
    with pytest.raises(FormatError, match=message):
        read_safetensors(path)


@pytest.mark.parametrize("length", [2**63, 10**6, 200])
def test_truncated_safetensors_header_is_one_clear_error(tmp_path: Path, length: int):
    path = safetensors_of(tmp_path / "a.safetensors", entry(), b"\0" * 8, length=length)
    with pytest.raises(FormatError, match=f"header should take {length} bytes"):
        read_safetensors(path)


@pytest.mark.parametrize("n", [0, 3, 8, 30, 200, -1])
@pytest.mark.parametrize("kind", ["a.safetensors", "a.npz", "a.pt"])
def test_cut_files_are_one_clear_error(tmp_path: Path, saved: Path, kind: str, n: int):
    save_file(TENSORS, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", W=np.arange(100.0))
    read = {"a.safetensors": read_safetensors, "a.npz": read_npz, "a.pt": read_torch}[kind]
    whole = (tmp_path / kind).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:n])
    with pytest.raises(FormatError, match="cut"):
        read(tmp_path / "cut")


@pytest.mark.parametrize("read", [read_json, read_npz, read_safetensors, read_torch, read_yaml])
def test_folders_and_pipes_are_not_opened(tmp_path: Path, read: Callable[[Path], Any]):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nowhere", "."):
        with pytest.raises(FormatError, match="there is no such file"):
            read(tmp_path / name)


def test_yaml_that_multiplies_or_builds_objects_is_refused(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [x, x]\nb: [*a, *a]\n")
    with pytest.raises(FormatError, match=r"alias '\*a'"):
        read_yaml(path)
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(FormatError, match="not plain YAML"):
        read_yaml(path)
    path.write_text("[" * 5000)
    with pytest.raises(FormatError, match=r"too deeply|not plain YAML"):
        read_yaml(path)
    path.write_text("x" * 2**19)
    with pytest.raises(FormatError, match="settings have at most"):
        read_yaml(path)
    path.write_text("model_kind: transcoder_set\n")
    assert read_yaml(path) == {"model_kind": "transcoder_set"}


def test_settings_that_are_no_object_are_refused(tmp_path: Path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(FormatError, match="a JSON list"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": ' * 100_000)
    with pytest.raises(FormatError, match=r"not JSON|too deeply"):
        read_json(tmp_path / "a.json")
