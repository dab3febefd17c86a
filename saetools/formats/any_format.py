"""Load, save and convert SAEs of any format; every conversion is proved before it counts.

`saetools.sae` sits below this floor and may not import it. It asks the registry `FOREIGN` for
"any_format" when it meets files that are not its own; the registry then imports this file.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import FORMATS, Foreign, Note
from saetools.formats.hub import Pulled, place_of, pull
from saetools.formats.proof import Proof, prove
from saetools.repro import write_json
from saetools.sae import SAE
from saetools.sae.foreign import FOREIGN

__all__ = [
    "REPORT_FORMAT",
    "AnyFormat",
    "Probe",
    "detect",
    "found_on_hub",
    "read",
    "report_path",
    "save",
]

Probe = Float[Tensor, "n d_in"] | Callable[[SAE], Float[Tensor, "n d_in"]]
"""Real activations for a proof, or what finds them once it is known what the SAE reads."""

_MOST_LOOKED_AT = 200
_REPORT = "conversion.json"
REPORT_FORMAT = "saetools-conversion/1"


def detect(path: str | Path) -> str | None:
    """The name of the format of the files at `path`; None where none is recognised.

    Raises:
        FormatError: more than one format claims them.
    """
    path = Path(path)
    if not path.exists():
        return None
    found = [name for name in FORMATS.names() if FORMATS.get(name)().detect(path)]
    if len(found) > 1:
        raise FormatError(
            f"{path} looks like {' and like '.join(found)}; say which with format='{found[0]}' "
            f"(--from {found[0]})"
        )
    return found[0] if found else None


def read(
    path: str | Path, *, format: str | None = None, probe: Probe | None = None
) -> tuple[Foreign, Proof]:
    """Read an SAE of another tool, and prove that it computes what the original does.

    Args:
        path: a folder or file, or a place on the hub that is in the cache (`saetools.formats.pull`
            fetches it).
        format: its name; None: recognised by the files.
        probe: real activations of the hook that it reads (n, d_in), or what finds them for an SAE;
            made-up ones are used besides.

    Raises:
        FormatError: of no known format, damaged, not expressible, or the proof fails.
    """
    pulled = found_on_hub(path)
    path = Path(path) if pulled is None else pulled.path
    name = format or detect(path)
    if name is None:
        _refuse_several(path)
        raise FormatError(
            f"{path} is of no format that is known here ({', '.join(FORMATS.names())}); name the "
            "folder or file that the other tool wrote"
        )
    foreign = FORMATS.get(name)().read(path)
    proof = prove(
        foreign.formula,
        foreign.sae,
        latent_scale=foreign.latent_scale,
        real=_real(probe, foreign.sae),
        what=f"reading {path} as {name}",
    )
    foreign.sae.meta["converted"] = {
        "from": name,
        "checksums": _checksums(path),
        "notes": [note._asdict() for note in foreign.notes],
        "proof": proof.as_dict(),
    }
    if pulled is not None:
        foreign.sae.meta["hub"] = pulled.as_dict()
    return foreign, proof


def save(
    sae: SAE,
    path: str | Path,
    *,
    format: str,
    probe: Probe | None = None,
) -> tuple[tuple[Note, ...], Proof]:
    """Write an SAE in another tool's format, and prove what was written before it counts.

    The files are written beside their place, read back, and compared with `sae`; only then are they
    moved there, with the report (`conversion.json`, or `<file>.conversion.json`).

    Raises:
        FormatError: the format cannot express this SAE, or the proof fails; nothing is written.
    """
    path = Path(path)
    kind = FORMATS.get(format)()
    _check_free(path, format)
    scratch = path.with_name(path.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        notes = kind.write(sae, scratch / path.name)
        written = kind.read(scratch / path.name)
        real, what = _real(probe, sae), f"a {sae.config.type} SAE as {format}"
        scale, formula = written.latent_scale, written.formula
        proof = prove(formula, sae, latent_scale=scale, real=real, what=f"writing {what}")
        again = prove(
            formula, written.sae, latent_scale=scale, real=real, what=f"reading back {what}"
        )
        report = {
            "format": REPORT_FORMAT,
            "from": "saetools-sae/1",
            "to": format,
            "architecture": sae.config.type,
            "checksums": _checksums(scratch / path.name),
            "notes": [note._asdict() for note in notes],
            "proof": proof.as_dict(),
            "read_back": again.as_dict(),
            "versions": {"saetools": version("saetools"), "torch": torch.__version__},
        }
        write_json(report_path(scratch / path.name), report)
        _move(scratch / path.name, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return notes, proof


def report_path(path: Path) -> Path:
    """Where the report on the files at `path` is."""
    return path / _REPORT if path.is_dir() else _beside(path)


@FOREIGN.register("any_format")
class AnyFormat:
    """What `SAE.load` and `SAE.save` ask for files that are not of saetools' own format."""

    @staticmethod
    def load(path: str | Path, *, format: str | None) -> SAE | None:
        """The SAE at `path`, proved; None where no format is recognised and none was named.

        `path` may be a place on the hub; then SAEs of our own format are found there too.
        """
        pulled = found_on_hub(path)
        if pulled is not None:
            sae = SAE.load(pulled.path, format=format)
            sae.meta["hub"] = pulled.as_dict()
            return sae
        if format is None and detect(path) is None:
            _refuse_several(Path(path))
            return None
        return read(path, format=format)[0].sae

    @staticmethod
    def save(sae: SAE, path: str | Path, *, format: str) -> Path:
        """Write `sae` in a named format, proved."""
        save(sae, path, format=format)
        return Path(path)


def found_on_hub(path: str | Path) -> Pulled | None:
    """What the hub's cache has of a place; None of a path, or of a name that can only be one."""
    if Path(path).exists():
        return None
    place = place_of(path)
    return None if place is None else pull(place)


def _refuse_several(path: Path) -> None:
    """Say so where the SAEs are one or two folders further down."""
    if not path.is_dir():
        return
    folders = [
        p for p in sorted([*path.glob("*"), *path.glob("*/*")])[:_MOST_LOOKED_AT] if p.is_dir()
    ]
    found = [f"{p} ({name})" for p in folders if (name := detect(p)) is not None]
    if found:
        raise FormatError(
            f"{path} is no SAE itself, but a folder of {len(found)}; name one of them: "
            f"{', '.join(found[:5])}{', …' if len(found) > 5 else ''}"
        )


def _real(probe: Probe | None, sae: SAE) -> Tensor | None:
    if probe is None or isinstance(probe, Tensor):
        return probe
    return probe(sae)


def _check_free(path: Path, format: str) -> None:
    """Refuse to write over anything but an SAE of the same format."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if detect(path) != format:
        raise FormatError(
            f"will not write {format} over {path}: it holds something else; choose a new name"
        )


def _move(source: Path, target: Path) -> None:
    """Put what was written in its place, the report with it."""
    if target.is_dir():
        shutil.rmtree(target)
    if source.is_file():
        report_path(source).replace(_beside(target))
    source.replace(target)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.{_REPORT}")


def _checksums(path: Path) -> Mapping[str, str]:
    """SHA-256 of each file, by its name; of a folder, the files directly in it."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    found: dict[str, str] = {}
    for file in files:
        with file.open("rb") as opened:
            found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found
