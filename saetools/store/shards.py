"""What a merged store says of each of its shards, and where the shard is."""

from pathlib import Path
from typing import NamedTuple

from saetools.errors import StoreError

__all__ = ["Shard", "shard_file"]


class Shard(NamedTuple):
    """One shard of a merged store, as its manifest has it.

    Args:
        path: relative to the folder of the merged store, with forward slashes.
        n_tokens: number of rows.
        n_docs: number of documents.
        checksum: CRC-32 of the shard's own checksums.
    """

    path: str
    n_tokens: int
    n_docs: int
    checksum: int


def shard_file(merged: Path, shard: Shard) -> Path:
    """Where a shard is.

    Raises:
        StoreError: it is not there.
    """
    path = merged.parent / shard.path
    if not path.is_file():
        raise StoreError(
            f"{merged} was merged from shards without copying them, and its shard {path} is not "
            "there; put it back (paths are relative to the merged store), or merge again"
        )
    return path
