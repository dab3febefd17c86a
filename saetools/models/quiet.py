"""Silence while a library loads: no warnings, progress bars or log lines of other people's code."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers.utils.logging as hf_logging

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block transformers logs errors only and shows no progress bar."""
    level = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
