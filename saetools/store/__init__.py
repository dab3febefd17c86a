"""Activations on disk, in HDF5: format `saetools-acts/1`."""

from saetools.store.reader import ActivationStore, Split, StoreBatch
from saetools.store.schema import FORMAT, Moments, StoreDtype, TokenColumns
from saetools.store.writer import StoreWriter

__all__ = [
    "FORMAT",
    "ActivationStore",
    "Moments",
    "Split",
    "StoreBatch",
    "StoreDtype",
    "StoreWriter",
    "TokenColumns",
]
