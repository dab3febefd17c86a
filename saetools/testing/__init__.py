"""Conformance suites and tiny models for tests, ours and those of people who extend saetools."""

from saetools.testing.sae import check_sae

__all__ = ["check_sae"]
