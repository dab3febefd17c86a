"""Files of torch.save from others: the pickle in them is read as a description, never run.

First the pickle's instructions are listed (which does nothing), then it is played through with
stand-ins in the place of every callable, which gives the tensors' shapes, strides and storages
without making one. These are compared with the bytes that the archive has. Only then torch.load
builds them, with `weights_only=True`.

Files from before PyTorch 1.6 are one long pickle and cannot be checked that way; they are refused.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

from saetools.errors import FormatError
from saetools.formats.safety.sizes import file_size, is_shape

__all__ = ["read_torch", "torch_keys"]

_MAX_PICKLE = 16 * 2**20
_INSTRUCTIONS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL",
    "REDUCE", "BUILD", "BINPERSID",
})  # fmt: skip
_ITEMSIZE = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


class _Kind(NamedTuple):
    """Stands for a class of storage."""

    name: str


class _Call(NamedTuple):
    """Stands for a callable; a pickle can call it, and cannot change it."""

    call: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


class _Storage(NamedTuple):
    """Stands for a storage: where its bytes are, and how many numbers they should be."""

    key: str
    itemsize: int
    numel: int


class _Tensor(NamedTuple):
    """Stands for a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(path: str | Path) -> dict[str, Any]:
    """What torch.save wrote: a dict of tensors, numbers, texts, dicts and lists; on the CPU.

    Raises:
        FormatError: it is no dict, holds any other object, is compressed or truncated, was written
            before PyTorch 1.6, or a tensor does not fit the bytes that the file has.
    """
    path = Path(path)
    _described(path)
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError,
            pickle.UnpicklingError) as error:  # fmt: skip  # what torch says
        raise FormatError(f"cannot read {path}: {error!s:.300}; the file is damaged") from None
    return found


def torch_keys(path: str | Path) -> list[str]:
    """Keys of the dict that torch.save wrote, and of dicts in it after a dot; no tensor is made.

    Raises:
        FormatError: as `read_torch`.
    """
    found: list[str] = []
    for key, value in _described(Path(path)).items():
        found.append(str(key))
        if isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in value]
    return found


def _described(path: Path) -> dict[Any, Any]:
    """The dict with stand-ins for its tensors, all of which fit the bytes that the file has."""
    size = file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            lengths = _lengths(path, archive, size)
            content, tensors = _played(path, _pickle_of(path, archive))
    except zipfile.BadZipFile:
        raise FormatError(
            f"{path} is no archive of torch.save: it is cut off, or PyTorch before 1.6 wrote it, "
            "whose files cannot be checked; fetch it again, or load and save it where you trust it"
        ) from None
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"cannot read {path}: {error!s:.300}; the file is damaged") from None
    for tensor in tensors:
        _check(path, tensor, lengths)
    if not isinstance(content, dict):
        raise FormatError(
            f"{path} holds a {type(content).__name__.strip('_')}, a dict of weights was expected; "
            "name the file with the state dict"
        )
    return content


def _lengths(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Bytes of every member by its path without the archive's own folder."""
    members = archive.infolist()
    packed = [m.filename for m in members if m.compress_type or m.compress_size != m.file_size]
    if packed or sum(member.file_size for member in members) > size:
        raise FormatError(
            f"{path} has compressed or overlapping members "
            f"({', '.join(packed[:3])[:200] or 'overlap'}); torch.save writes none, so "
            " it may be a zip bomb and was not unpacked"
        )
    lengths = {_inside(m.filename): m.file_size for m in members}
    if len(lengths) != len(members):
        raise FormatError(f"{path} has two members of one name; the file is damaged")
    return lengths


def _inside(name: str) -> str:
    return "/".join(PurePosixPath(name).parts[1:])


def _pickle_of(path: Path, archive: zipfile.ZipFile) -> bytes:
    found = [m for m in archive.infolist() if _inside(m.filename) == "data.pkl"]
    if not found:
        raise FormatError(
            f"{path} is a zip archive without data.pkl, so torch.save did not write it; "
            "name the file of the weights"
        )
    if found[0].file_size > _MAX_PICKLE:
        raise FormatError(
            f"{path}: its pickle has {found[0].file_size} bytes, and a state dict needs a few "
            f"thousand (at most {_MAX_PICKLE}); it was not read"
        )
    return archive.read(found[0])


def _played(path: Path, text: bytes) -> tuple[object, list[_Tensor]]:
    """What a pickle describes, with stand-ins, and the tensors in it."""
    try:
        for instruction, value, _ in pickletools.genops(text):
            if instruction.name not in _INSTRUCTIONS:
                raise _refused(path, f"the pickle instruction {instruction.name}")
            if instruction.name == "LONG_BINPUT" and int(value or 0) > len(text):
                raise _refused(path, f"a memo of {value} entries")
        player = _Player(path, text)
        content = player.load()
    except FormatError:
        raise
    except RecursionError:
        raise FormatError(f"{path} nests too deeply to be weights; the file is damaged") from None
    except Exception as error:  # a damaged pickle can raise anything; nothing of it is run
        raise FormatError(
            f"{path}: its pickle cannot be read ({type(error).__name__}: {error!s:.200}); "
            "the file is damaged"
        ) from None
    return content, player.tensors


def _refused(path: Path, what: str) -> FormatError:
    return FormatError(
        f"{path} holds {what}, a pickled object that could run code when it is loaded; only "
        "tensors, numbers and texts are read. Ask for the weights as safetensors, or save the "
        "state dict alone"
    )


class _Player(pickle.Unpickler):
    """Plays a pickle with stand-ins; no callable of the file's choice is ever called."""

    def __init__(self, path: Path, text: bytes) -> None:
        super().__init__(io.BytesIO(text))
        self.tensors: list[_Tensor] = []
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "torch._utils._rebuild_tensor_v2": _Call(self._tensor),
            "torch._utils._rebuild_parameter": _Call(_parameter),
            "collections.OrderedDict": _Call(_Mapping),
            "torch.Size": _Call(tuple),
        }
        if module == "torch" and name in _ITEMSIZE:
            return _Kind(name)
        if f"{module}.{name}" not in known:
            raise _refused(self._path, f"'{module}.{name}'"[:200])
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        kind = pid[1] if isinstance(pid, tuple) and len(pid) == 5 else None
        if not isinstance(kind, _Kind) or pid[0] != "storage" or not is_shape([pid[4]]):
            raise _refused(self._path, f"the reference {pid!r:.80}")
        return _Storage(str(pid[2]), _ITEMSIZE[kind.name], pid[4])

    def _tensor(self, *args: Any) -> _Tensor:
        storage, offset, shape, stride = args[:4]
        plain = isinstance(storage, _Storage) and all(map(is_shape, ([offset], shape, stride)))
        if not plain or len(shape) != len(stride) or len(args) < 5 or any(args[5:]):
            raise _refused(self._path, f"a tensor of shape {shape!r:.80} and stride {stride!r:.80}")
        found = _Tensor(storage, offset, tuple(shape), tuple(stride))
        self.tensors.append(found)
        return found


class _Mapping(dict[Any, Any]):
    """Stands for an OrderedDict; the attributes that a state dict carries are let go."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(items)

    def __setstate__(self, state: object) -> None:
        pass


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _check(path: Path, tensor: _Tensor, lengths: dict[str, int]) -> None:
    storage = tensor.storage
    found = lengths.get(f"data/{storage.key}")
    if found is None or storage.numel * storage.itemsize != found:
        raise FormatError(
            f"{path}: a tensor's data should have {storage.numel * storage.itemsize} bytes, the "
            f"archive has {'none' if found is None else found}; the file is truncated or damaged"
        )
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((n - 1) * step for n, step in steps)
    count = 1
    for n in tensor.shape:
        count *= n
    if count > storage.numel or (count and last >= storage.numel):
        raise FormatError(
            f"{path}: a tensor of shape {list(tensor.shape)} and stride {list(tensor.stride)} is "
            f"larger than its data of {storage.numel} numbers; the file is damaged"
        )
