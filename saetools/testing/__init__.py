"""Conformance suites and tiny models for tests, ours and those of people who extend saetools."""

from saetools.testing.eraser import check_eraser
from saetools.testing.namer import check_namer, naming_subject
from saetools.testing.sae import check_sae

__all__ = ["check_eraser", "check_namer", "check_sae", "naming_subject"]
