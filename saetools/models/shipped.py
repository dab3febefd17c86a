"""Trained models that come with the package: where they lie, and that their bytes are right.

A shipped model is a Hugging Face folder with a file SHA256SUMS, `data/<family>/<variant>`. Its name
is `family:variant`; `family` alone means its variant `base`. They were made by `saetools testbed
train`; nothing here knows how.
"""

import hashlib
from pathlib import Path

from saetools.errors import ConfigError, FormatError, nearest

__all__ = ["SUMS", "shipped_folder", "shipped_names", "verify_sums", "write_sums"]

SUMS = "SHA256SUMS"
_DATA = Path(__file__).with_name("data")
_BASE = "base"


def shipped_names() -> tuple[str, ...]:
    """Names of all shipped models, the base of a family first."""
    found = []
    for sums in sorted(_DATA.glob(f"*/*/{SUMS}")):
        family, variant = sums.parts[-3:-1]
        found.append(family if variant == _BASE else f"{family}:{variant}")
    return tuple(found)


def shipped_folder(name: str) -> Path | None:
    """The folder of a shipped model, verified; None if no family of shipped models is so called.

    Raises:
        ConfigError: the family has no such variant.
        FormatError: a file of it is damaged or gone.
    """
    family, _, variant = name.partition(":")
    # Names of families are plain words: nothing here may leave the data folder.
    if not family.isidentifier() or not (_DATA / family).is_dir():
        return None
    known = [other for other in shipped_names() if other.partition(":")[0] == family]
    canonical = name.removesuffix(f":{_BASE}")
    if canonical not in known:
        raise ConfigError(
            f"asked for the shipped model '{name}'; did you mean '{nearest(name, known, n=1)[0]}'? "
            f"Known: {', '.join(known)}"
        )
    folder = _DATA / family / (variant or _BASE)
    verify_sums(folder)
    return folder


def write_sums(folder: Path) -> Path:
    """Write SHA256SUMS of all files of a folder, as `sha256sum` does."""
    lines = [
        f"{_digest(path)}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != SUMS
    ]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return folder / SUMS


def verify_sums(folder: Path) -> None:
    """Compare all files that SHA256SUMS names with what it says of them.

    Raises:
        FormatError: SHA256SUMS is not there or not readable, or a file differs or is gone.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise FormatError(
            f"'{folder}' should have a list of checksums, {SUMS}, and it cannot be read ({error}); "
            "install the package anew"
        ) from error
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise FormatError(f"'{folder}' lacks {name}, which {SUMS} names; install it anew")
        if _digest(path) != digest:
            raise FormatError(
                f"'{path}' is damaged: its SHA-256 begins with {_digest(path)[:12]} and should "
                f"begin with {digest[:12]}; install the package anew, or train the model anew"
            )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
