"""Every error that a user can cause, as one tree.

    SaetoolsError
    ├── ConfigError            (ValueError)    a setting is unknown, missing or out of range
    ├── UnknownNameError       (KeyError)      no plug-in, latent or label of that name
    ├── HookNotFoundError      (KeyError)      the model has no such hook
    ├── BridgeError            (RuntimeError)  transformer_lens cannot take this model
    ├── ShapeError             (ValueError)    a tensor or file has another width than needed
    ├── StoreError             (OSError)       an activation store cannot be read or written
    │   └── IncompleteStoreError               ... because its harvest did not finish
    ├── FormatError            (ValueError)    a file or folder is not what it should be
    ├── HubError               (OSError)       something is not on the hub, or it does not answer
    ├── NotFittedError         (RuntimeError)  used before it was trained or calibrated
    ├── ChatError              (RuntimeError)  a language model that was asked does not answer
    ├── DamageError            (RuntimeError)  an edit of weights broke the model
    ├── ProcessError           (RuntimeError)  another process that shares the work is gone
    ├── KernelUnavailableError (RuntimeError)  a Triton kernel was asked for and cannot run
    └── KernelInputError       (ValueError)    a kernel was given a tensor it cannot take

Each one also derives from the builtin that a stranger would catch. A message has three parts:
what was asked, what was found, what to do next.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "BridgeError",
    "ChatError",
    "ConfigError",
    "DamageError",
    "FormatError",
    "HookNotFoundError",
    "HubError",
    "IncompleteStoreError",
    "KernelInputError",
    "KernelUnavailableError",
    "NotFittedError",
    "ProcessError",
    "SaetoolsError",
    "ShapeError",
    "StoreError",
    "UnknownNameError",
    "nearest",
]


class SaetoolsError(Exception):
    """Base of all errors that saetools raises on purpose."""

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, quotes and escapes included.
        return str(self.args[0]) if self.args else ""


class ConfigError(SaetoolsError, ValueError):
    """A setting is unknown, missing or out of range."""


class UnknownNameError(SaetoolsError, KeyError):
    """No plug-in, latent or label has the name that was asked for."""


class HookNotFoundError(SaetoolsError, KeyError):
    """The model has no hook of that name."""


class BridgeError(SaetoolsError, RuntimeError):
    """A site was asked for that only transformer_lens names, and it cannot take this model."""


class ShapeError(SaetoolsError, ValueError):
    """A tensor or file has another shape than the operation needs."""


class StoreError(SaetoolsError, OSError):
    """An activation store cannot be read or written."""


class IncompleteStoreError(StoreError):
    """The store is readable, but its harvest did not finish."""


class FormatError(SaetoolsError, ValueError):
    """A file or folder is not of the format it should be."""


class HubError(SaetoolsError, OSError):
    """Something is not on the hub or in its cache, or the hub refuses or does not answer."""


class NotFittedError(SaetoolsError, RuntimeError):
    """Something was used before it was trained, calibrated or fitted."""


class ChatError(SaetoolsError, RuntimeError):
    """A language model that was asked does not answer: wrong address, key, name or request."""


class DamageError(SaetoolsError, RuntimeError):
    """An edit of weights broke the model, and was refused before it could be saved."""


class ProcessError(SaetoolsError, RuntimeError):
    """Another process that shares the work has ended or does not answer."""


class KernelUnavailableError(SaetoolsError, RuntimeError):
    """A Triton kernel was asked for by name and cannot run here."""


class KernelInputError(SaetoolsError, ValueError):
    """A kernel was given a tensor it cannot take."""


def nearest(asked: str, known: Iterable[str], *, n: int = 3) -> list[str]:
    """Return the `n` names of `known` that are closest in spelling to `asked`, best first."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    hits = difflib.get_close_matches(asked.lower(), list(lowered), n=n, cutoff=0.0)
    return [lowered[hit] for hit in hits]
