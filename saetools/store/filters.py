"""Filters that make a store smaller and slower; none by default.

Most need the package `hdf5plugin`, an extra of saetools. A filtered store is read through HDF5,
not by chunk offset.
"""

from importlib import import_module
from typing import Any, Literal, get_args

from saetools.errors import ConfigError, StoreError

__all__ = ["StoreFilter", "filter_options", "need_filter"]

StoreFilter = Literal["blosc2-zstd", "zstd", "bitshuffle-lz4", "gzip"]


def filter_options(name: str | None) -> dict[str, Any]:
    """What `create_dataset` is told to filter its chunks so.

    Raises:
        ConfigError: there is no such filter.
        StoreError: it needs hdf5plugin, which is not installed.
    """
    if name is None:
        return {}
    if name not in get_args(StoreFilter):
        known = ", ".join(get_args(StoreFilter))
        raise ConfigError(
            f"a store cannot have the filter {name!r}; choose none, or one of {known}"
        )
    if name == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    plugins = need_filter(name)
    if name == "blosc2-zstd":
        shuffled = plugins.Blosc2(cname="zstd", clevel=5, filters=plugins.Blosc2.BITSHUFFLE)
        return {"compression": shuffled}
    if name == "zstd":
        return {"compression": plugins.Zstd(clevel=3), "shuffle": True}
    return {"compression": plugins.Bitshuffle(cname="lz4")}


def need_filter(name: str) -> Any:
    """Import hdf5plugin, which makes its filters known to HDF5.

    Raises:
        StoreError: it is not installed.
    """
    try:
        return import_module("hdf5plugin")
    except ImportError as error:
        raise StoreError(
            f"the filter {name!r} of a store needs the package hdf5plugin, which is not installed; "
            'install it: pip install "saetools[filters]"'
        ) from error
