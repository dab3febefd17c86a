"""What a format is: how its files are recognised, read and written, and what it keeps and loses.

One file in `dialects` a format; the registry finds it by its name. A reader gives the SAE of ours
together with the formula of the original, written from the format's specification, so that
`saetools.formats.proof` can compare the two.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, FormatError
from saetools.formats.formulas import Formula
from saetools.registry import Registry
from saetools.sae import SAE, build_sae

__all__ = ["FORMATS", "Foreign", "Format", "Note", "assembled", "fold_centre", "need"]


class Note(NamedTuple):
    """One thing that a conversion had to change or leave out.

    what: its word, e.g. "b_dec", "threshold", "hook_name", "lost". done: a sentence.
    """

    what: str
    done: str


def _as_they_are(x: Float[Tensor, "n d_in"]) -> Tensor:
    return torch.ones(len(x), 1, dtype=torch.float64)


@dataclass(frozen=True)
class Foreign:
    """An SAE that was read from another tool's files.

    Args:
        sae: ours.
        formula: what the original computes, from its own tensors by its own specification.
        notes: what the conversion changed, in order.
        latent_scale: our latents over theirs, broadcastable to (n, n_latents), from tokens.
    """

    sae: SAE
    formula: Formula
    notes: tuple[Note, ...] = ()
    latent_scale: Callable[[Tensor], Tensor] = field(default=_as_they_are)


class Format(ABC):
    """A format of other people's files; a subclass in `dialects/<name>.py` registers itself.

    `holds` says for each of our architectures what becomes of it there ("" where it cannot be
    written); `keeps` and `loses` are short phrases. All three make the table in docs/formats.md.
    """

    title: ClassVar[str]
    files: ClassVar[str]
    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    one_file: ClassVar[bool] = False
    """Whether what is written is one file, not a folder."""
    holds: ClassVar[Mapping[str, str]] = {}
    keeps: ClassVar[tuple[str, ...]] = ()
    loses: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def detect(self, path: Path) -> bool:
        """Whether the files at `path` are of this format; looks at names and headers only."""

    @abstractmethod
    def read(self, path: Path) -> Foreign:
        """Read the SAE at `path`.

        Raises:
            FormatError: damaged, or an SAE that ours cannot express; the message says why.
        """

    def write(self, sae: SAE, path: Path) -> tuple[Note, ...]:
        """Write `sae` to `path`, which does not exist yet; return what had to be changed.

        Raises:
            FormatError: the format cannot express this SAE; the message says why.
        """
        raise FormatError(
            f"{self.title} is read here but not written, so {sae.config.type} SAE was not written "
            f"to {path}; `saetools convert --help` names the formats that are"
        )


FORMATS: Registry[type[Format]] = Registry(
    "format", package="saetools.formats.dialects", group="saetools.formats"
)
"""All formats by name."""


@torch.no_grad()
def assembled(
    type: str,
    *,
    W_enc: Float[Tensor, "d_in n_latents"],
    b_enc: Float[Tensor, " n_latents"],
    W_dec: Float[Tensor, "n_latents d_out"],
    b_dec: Float[Tensor, " d_out"],
    meta: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
    **fields: Any,
) -> SAE:
    """The SAE of ours that has these weights, in the field's orientation; float32.

    Args:
        tensors: what the architecture has besides, by its name in `state_dict`.
        fields: of the architecture's config, besides d_in and n_latents.

    Raises:
        FormatError: the shapes do not fit each other, or a weight is not finite.
    """
    d_in, n_latents = W_enc.shape
    held = {
        "W_enc_rows": W_enc.T,
        "b_enc": b_enc,
        "W_dec": W_dec,
        "b_dec": b_dec,
        **(tensors or {}),
    }
    try:
        sae = build_sae(type, d_in=d_in, n_latents=n_latents, meta=meta, **fields)
    except ConfigError as error:
        raise FormatError(f"the files describe an SAE that cannot be: {error}") from error
    for name, wanted in sae.state_dict().items():
        found = held.get(name)
        if found is None or found.shape != wanted.shape:
            shape = None if found is None else tuple(found.shape)
            raise FormatError(
                f"the weights do not fit each other: for d_in {d_in} and {n_latents} latents "
                f"{name} should be {tuple(wanted.shape)}, is {shape}; the files are damaged or of "
                "another format"
            )
        if not bool(found.isfinite().all()):
            raise FormatError(f"{name} holds NaN or infinite numbers; the files are damaged")
    fitted = {name: tensor.float().contiguous() for name, tensor in held.items()}
    return sae.with_tensors(fitted).requires_grad_(False)


def fold_centre(
    W_enc: Float[Tensor, "d_in n_latents"], b_dec: Float[Tensor, " d_in"]
) -> Float[Tensor, " n_latents"]:
    """b_dec @ W_enc in float64: what b_enc gains where the original takes no b_dec off its input.

    (x − b_dec) @ W_enc + (b_enc + b_dec @ W_enc) = x @ W_enc + b_enc.
    """
    return b_dec.double() @ W_enc.double()


def need(tensors: Mapping[str, Tensor], names: tuple[str, ...], *, where: Path) -> None:
    """Refuse files that lack a tensor they must have.

    Raises:
        FormatError: which are missing, and what there is.
    """
    missing = [name for name in names if name not in tensors]
    if missing:
        raise FormatError(
            f"{where} should hold the tensors {', '.join(names)}; {', '.join(missing)} missing "
            f"(found: {', '.join(sorted(tensors)) or 'none'}); the file is damaged or of another "
            "format"
        )
