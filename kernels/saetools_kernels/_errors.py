"""The two errors a kernel can raise; this floor knows nothing of the package above it.

`saetools.sae.ops` turns them into saetools' own classes of the same names. A message has three
parts: what was asked, what was found, what to do next.
"""

__all__ = ["KernelInputError", "KernelUnavailableError"]


class KernelInputError(ValueError):
    """A kernel was given a tensor it cannot take; the message begins with the argument's name."""


class KernelUnavailableError(RuntimeError):
    """A Triton kernel was asked for by name and cannot run here; the message says why."""
