"""What an eraser is: a small frozen object that maps activations to activations.

Learning and applying are two things: `learn` looks at rows and gives tensors, `apply` uses them.
An eraser is one file in `saetools/erase/erasers/`: a `Config` and these two functions.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from saetools.config import validate
from saetools.erase.folder import read_folder, write_folder
from saetools.erase.report import EraserReport
from saetools.erase.rows import LabelledRows, Place
from saetools.errors import ConfigError, FormatError, SaetoolsError, ShapeError
from saetools.models.weights import fingerprint_weights
from saetools.registry import Registry
from saetools.sae import SAE

__all__ = ["ERASERS", "AffineMap", "Eraser", "EraserConfig", "Learned"]


class EraserConfig(BaseModel):
    """What all erasers' settings have in common: they are frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AffineMap(NamedTuple):
    """x -> x · matrixᵀ + shift, in float64: matrix (d, d), shift (d,)."""

    matrix: Float[Tensor, "d d"]
    shift: Float[Tensor, " d"]

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The map of rows, in float64."""
        return x.double() @ self.matrix.T + self.shift


class Learned(NamedTuple):
    """What `learn` found: the eraser's tensors, and what belongs into its report."""

    tensors: Mapping[str, Tensor]
    evidence: tuple[Mapping[str, int | float], ...] = ()
    thresholds: Mapping[str, int | float] = {}
    rejected: Mapping[str, int] = {}
    figures: Mapping[str, int | float] = {}
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Eraser(ABC):
    """An eraser that has been fitted.

    Class attributes say what it promises, and `saetools.testing.check_eraser` holds it to that:
    `needs_sae`; `idempotent`, applying it twice is applying it once; `keeps_rest`, a row on which
    none of its latents fires keeps its bits; `by_text`, what happens to a row depends on the other
    rows of its text.

    Args:
        config: its settings.
        tensors: what it learned.
        report: what was selected, and how large the edit is.
        sae: the SAE that it works through, None for erasers without one.
    """

    config: EraserConfig
    tensors: Mapping[str, Tensor]
    report: EraserReport
    sae: SAE | None = field(default=None)

    Config: ClassVar[type[EraserConfig]] = EraserConfig
    needs_sae: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    keeps_rest: ClassVar[bool] = False
    by_text: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def learn(cls, rows: LabelledRows, config: Any, sae: SAE | None) -> Learned:
        """Look at labelled rows and give the tensors that `apply` uses."""

    @abstractmethod
    def apply(self, x: Float[Tensor, "n d_in"], place: Place) -> Float[Tensor, "n d_in"]:
        """Erase float32 rows on the eraser's device; rows that stay as they are keep their bits."""

    def __call__(
        self, x: Float[Tensor, "n d_in"], *, place: Place | None = None
    ) -> Float[Tensor, "n d_in"]:
        """Erase rows.

        Args:
            x: activations.
            place: text and place of each row; by default every row is a text of its own.

        Returns:
            float32 rows on the device of x.

        Raises:
            ShapeError: x is not (n, d_in).
        """
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ShapeError(
                f"this {self.kind} eraser reads rows of shape (n, {self.d_in}); got "
                f"{tuple(x.shape)}; it was fitted at {self.hook_name or 'an unnamed hook'}"
            )
        rows = x.detach().to(self.device, torch.float32)
        place = Place.alone(len(rows), rows.device) if place is None else place
        with torch.no_grad():
            return self.apply(rows, place.to(rows.device)).to(x.device, torch.float32)

    @property
    def kind(self) -> str:
        """Name of the eraser in the registry."""
        return self.report.kind

    @property
    def hook_name(self) -> str | None:
        """Where it acts."""
        return self.report.hook_name

    @property
    def d_in(self) -> int:
        """Width of the rows it reads."""
        return int(self.tensors["mean"].shape[0])

    @property
    def device(self) -> torch.device:
        """Device that it works on."""
        return self.tensors["mean"].device

    @property
    def affine(self) -> AffineMap | None:
        """The eraser as one affine map, where it is exactly that; None elsewhere."""
        return None

    def to(self, device: torch.device | str) -> "Eraser":
        """The same eraser on another device."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        sae = None if self.sae is None else copy.deepcopy(self.sae).to(device)
        return replace(self, tensors=tensors, sae=sae)

    def save(self, folder: str | Path, *, with_sae: bool = True) -> Path:
        """Write eraser.json and eraser.safetensors; an eraser that is there is replaced.

        Args:
            with_sae: put the SAE beside it, in `sae/`; without it, `load` has to be given one.
        """
        header = {
            "kind": self.kind,
            "config": self.config.model_dump(mode="json"),
            "report": self.report.as_json(),
            "sae": None if self.sae is None else fingerprint_weights(self.sae),
        }
        beside = self.sae if with_sae else None
        return write_folder(folder, header=header, tensors=self.tensors, sae=beside)

    @staticmethod
    def load(folder: str | Path, *, sae: SAE | None = None) -> "Eraser":
        """Read an eraser folder.

        Args:
            sae: the SAE it works through, if that is not in the folder.

        Raises:
            FormatError: no eraser folder, of a newer format, damaged, or the SAE is another one.
        """
        header, tensors = read_folder(folder)
        try:
            kind = ERASERS.get(str(header["kind"]))
            config = validate(kind.Config, header["config"], what="eraser.json")
            report = EraserReport.from_json(header["report"])
        except (SaetoolsError, KeyError, TypeError) as error:
            raise FormatError(f"{folder} does not describe an eraser: {error}") from error
        if header.get("sae") is None:
            return kind(config, tensors, report)
        beside = Path(folder) / "sae"
        if sae is None and not beside.is_dir():
            raise ConfigError(
                f"the {header['kind']} eraser of {folder} was saved without its SAE "
                f"(hash {header['sae']}); load it with sae=SAE.load(...)"
            )
        sae = SAE.load(beside) if sae is None else sae
        found = fingerprint_weights(sae)
        if found != header["sae"]:
            raise FormatError(
                f"the eraser of {folder} works through the SAE {header['sae']}; the one given is "
                f"{found}; give the SAE that it was fitted with"
            )
        return kind(config, tensors, report, sae)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hook_name or 'no hook'}, d_in {self.d_in})"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


ERASERS: Registry[type[Eraser]] = Registry(
    "eraser", package="saetools.erase.erasers", group="saetools.erasers"
)
"""All erasers by name."""
