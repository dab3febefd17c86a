"""Lines of a UTF-8 text file, gzipped or not, with an error that says where a bad byte is."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

from saetools.errors import FormatError

__all__ = ["text_lines"]

_BOM = b"\xef\xbb\xbf"


def text_lines(file: Path, *, errors: Literal["strict", "replace"]) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a text file, gzipped or not.

    Raises:
        FormatError: a byte is no UTF-8 (and `errors` is "strict"), or the gzip data is damaged.
    """
    offset = 0
    with _open(file) as stream:
        for number, raw in enumerate(_raw_lines(stream, file), start=1):
            data = raw.removeprefix(_BOM) if number == 1 else raw
            try:
                line = data.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                at = offset + len(raw) - len(data) + error.start
                raise FormatError(_undecodable(file, number, at, data, error.start)) from error
            offset += len(raw)
            yield number, line.rstrip("\r\n")


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file, "rb")) if file.suffix == ".gz" else file.open("rb")


def _raw_lines(stream: BinaryIO, file: Path) -> Iterator[bytes]:
    try:
        yield from stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(
            f"{file.name}: the gzip data is damaged or cut short ({error}); "
            f"fetch or compress the file again"
        ) from error


def _undecodable(file: Path, number: int, at: int, data: bytes, start: int) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        advice = "the file looks like UTF-16: convert it to UTF-8"
    else:
        advice = "convert the file to UTF-8, or set errors: replace to read on"
    inside = " of the unpacked data" if file.suffix == ".gz" else ""
    return (
        f"{file.name}, line {number}, byte {at}{inside}: 0x{data[start]:02x} is no UTF-8; {advice}"
    )
