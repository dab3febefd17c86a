"""Conformance suites and tiny models for tests, ours and those of people who extend saetools."""

from saetools.testing.eraser import check_eraser
from saetools.testing.sae import check_sae

__all__ = ["check_eraser", "check_sae"]
