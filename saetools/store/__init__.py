"""Activations on disk, in HDF5: format `saetools-acts/1`."""

from saetools.store.filters import StoreFilter
from saetools.store.merge import merge
from saetools.store.moments import Moments
from saetools.store.reader import ActivationStore, Split, StoreBatch
from saetools.store.schema import FORMAT, StoreDtype, TokenColumns, stored
from saetools.store.source import ActivationSource
from saetools.store.verify import Problem, verify
from saetools.store.writer import StoreWriter

__all__ = [
    "FORMAT",
    "ActivationSource",
    "ActivationStore",
    "Moments",
    "Problem",
    "Split",
    "StoreBatch",
    "StoreDtype",
    "StoreFilter",
    "StoreWriter",
    "TokenColumns",
    "merge",
    "stored",
    "verify",
]
