"""A file whose changes count all together at a commit, or not at all, whenever its writer dies.

HDF5 writes a change piece by piece, and its own size last; a file whose writer was killed between
two pieces may not open again, or show a compressed chunk that is half new. So a store is written
through this file, which HDF5 takes for a plain one:

- what is new goes straight behind the end that the last commit had, where nothing points to yet;
- what would change bytes before that end is held in memory, in pages;
- a commit appends the held pages and the new size as a journal, whose checksum is the very end of
  the file; then writes the pages to their places; then cuts the journal off.

A kill before the journal is whole leaves the last commit as it was; after it, `recover` does the
rest. A write that fails (a full disk) is not shown to HDF5, which would crash at close: it is
kept in memory, and the commit fails. docs/formats.md has the layout of the journal.
"""

import errno
import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saetools.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows: two writers of one store are not kept apart there
    fcntl = None  # type: ignore[assignment]

__all__ = ["JournaledFile", "recover"]

_PAGE = 4096
_MAGIC = b"saetools-journal"
_NUMBER = struct.Struct("<Q")
_FOOTER = struct.Struct("<QQI16s")  # number of pages, size of the file, CRC-32, magic


class JournaledFile:
    """A file that is there, opened for reading and writing; only `commit` changes what it holds.

    It has what h5py asks of a file object.

    Raises:
        StoreError: another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._raw = io.FileIO(path, "r+")
        try:
            _lock(self._raw, path)
            _finish_commit(self._raw)
        except BaseException:
            self._raw.close()
            raise
        self._end = self._size = self._raw.seek(0, io.SEEK_END)  # of the last commit, and now
        self._at = 0
        self._held: dict[int, bytearray] = {}
        self._failure: OSError | None = None
        self._is_committing = False

    @property
    def n_bytes(self) -> int:
        """Bytes that a commit would add to the file, its journal included."""
        return max(self._size - self._end, 0) + len(self._held) * (_PAGE + _NUMBER.size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the start, or with `SEEK_END` from the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next read or write is."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what is here, uncommitted changes included; zeros behind the end."""
        out = memoryview(buffer).cast("B")
        n_read = self._read(out, self._at)
        out[n_read:] = bytes(len(out) - n_read)
        if self._held:
            for number, inside, part in _pages(self._at, len(out)):
                if number in self._held:
                    page = self._held[number]
                    out[part] = page[inside : inside + part.stop - part.start]
        self._at += len(out)
        return len(out)

    def read(self, n: int) -> bytes:
        """The next `n` bytes."""
        out = bytearray(n)
        self.readinto(memoryview(out))
        return bytes(out)

    def write(self, data: Any) -> int:
        """Put `data` here."""
        view = memoryview(data).cast("B")
        new = max(_page_up(self._end) - self._at, 0)  # from here on `view` overwrites nothing
        if self._failure is None and new < len(view):
            try:
                _write(self._raw, view[new:], self._at + new)
            except OSError as error:
                self._failure = error
        kept = view if self._failure else view[:new]
        for number, inside, part in _pages(self._at, len(kept)):
            if number not in self._held:
                self._held[number] = self._page(number)
            self._held[number][inside : inside + part.stop - part.start] = kept[part]
        self._at += len(view)
        self._size = max(self._size, self._at)
        return len(view)

    def truncate(self, size: int) -> int:
        """Make `size` the size of the file."""
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: what was written counts when it is committed."""

    def forget_rest(self) -> None:
        """Cut off what lies behind the present size, left by a writer that was killed.

        To be called when HDF5 has said how large the file is, and before anything is written.
        """
        self._end = min(self._end, self._size)
        _cut(self._raw, self._end)

    def commit(self) -> None:
        """Make all changes since the last commit count.

        Raises:
            OSError: they cannot be written; the file holds what it held, and takes no changes more.
        """
        self._is_committing = True
        try:
            if self._failure is not None:
                raise self._failure
            if self._held:
                _write(self._raw, *self._journal())
        except OSError as error:
            self._failure = error
            _cut(self._raw, self._end)
            self._is_committing = False
            raise
        for number, page in self._held.items():
            _write(self._raw, memoryview(page), number * _PAGE)
        _cut(self._raw, self._size)
        self._held.clear()
        self._end = self._size
        self._is_committing = False

    def close(self) -> None:
        """Close the file without what was not committed."""
        if not self._raw.closed:
            if not self._is_committing:  # else the journal is needed, or harmless
                _cut(self._raw, self._end)
            self._raw.close()

    def _journal(self) -> tuple[memoryview, int]:
        """The journal of the held pages, and where it goes: behind every byte of the file."""
        body = b"".join([*map(_NUMBER.pack, self._held), *self._held.values()])
        return memoryview(body + _footer(len(self._held), self._size, body)), _page_up(
            max(self._size, self._end)
        )

    def _page(self, number: int) -> bytearray:
        page = bytearray(_PAGE)
        self._read(memoryview(page), number * _PAGE)
        return page

    def _read(self, out: memoryview, offset: int) -> int:
        self._raw.seek(offset)
        n_read = 0
        while n := self._raw.readinto(out[n_read:]):
            n_read += n
        return n_read


def recover(path: Path) -> None:
    """Finish the commit that the writer of a file was killed in, if there is one.

    Raises:
        StoreError: there is one, and the file may not be written.
    """
    with path.open("rb") as file:
        if _found(file) is None:
            return
    try:
        with io.FileIO(path, "r+") as file:
            _lock(file, path)
            _finish_commit(file)
    except PermissionError as error:
        raise StoreError(
            f"{path} was being written when its harvest was killed; that must be ended before "
            "it can be read, and is not allowed here: open it once where it may be written"
        ) from error


def _finish_commit(file: io.FileIO) -> None:
    found = _found(file)
    if found is not None:
        pages, size = found
        for number, page in pages.items():
            _write(file, memoryview(page), number * _PAGE)
        _cut(file, size)


def _found(file: io.FileIO | io.BufferedReader) -> tuple[Mapping[int, bytes], int] | None:
    """Pages and size that the journal at the end of a file holds; None if there is none."""
    end = file.seek(0, io.SEEK_END)
    if end < _FOOTER.size:
        return None
    file.seek(end - _FOOTER.size)
    n_pages, size, _, magic = _FOOTER.unpack(footer := file.read(_FOOTER.size))
    n_bytes = n_pages * (_NUMBER.size + _PAGE)
    if magic != _MAGIC or n_bytes + _FOOTER.size > end:
        return None
    file.seek(end - _FOOTER.size - n_bytes)
    body = file.read(n_bytes)
    if _footer(n_pages, size, body) != footer:
        return None
    numbers = [number for (number,) in _NUMBER.iter_unpack(body[: n_pages * _NUMBER.size])]
    pages = body[n_pages * _NUMBER.size :]
    return {n: pages[i * _PAGE : (i + 1) * _PAGE] for i, n in enumerate(numbers)}, size


def _footer(n_pages: int, size: int, body: bytes) -> bytes:
    value = zlib.crc32(_NUMBER.pack(size), zlib.crc32(body))
    return _FOOTER.pack(n_pages, size, value, _MAGIC)


def _write(file: io.FileIO, data: memoryview, offset: int) -> None:
    file.seek(offset)
    while len(data):
        data = data[file.write(data) or 0 :]


def _cut(file: io.FileIO, size: int) -> None:
    file.truncate(size)


def _pages(offset: int, n_bytes: int) -> Iterator[tuple[int, int, slice]]:
    """Pages that bytes from `offset` on lie in: number, where in it, and which of the bytes."""
    start = 0
    while start < n_bytes:
        number, inside = divmod(offset + start, _PAGE)
        stop = min(start + _PAGE - inside, n_bytes)
        yield number, inside, slice(start, stop)
        start = stop


def _page_up(offset: int) -> int:
    return -(-offset // _PAGE) * _PAGE


def _lock(file: io.FileIO, path: Path) -> None:
    """Keep other processes away as HDF5 would: by `flock`, unless its environment forbids that."""
    if fcntl is None or os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise StoreError(
                f"{path} is open in another process, a harvest or a reader; wait for its end, or "
                "choose another path"
            ) from error
        # A file system without locks: go on, as HDF5 does.
