"""Convert the SAE at one place to a format at another; both ends are proved."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError, FormatError
from saetools.formats.any_format import (
    REPORT_FORMAT,
    Probe,
    detect,
    found_on_hub,
    read,
    report_path,
    save,
)
from saetools.formats.base import Note
from saetools.formats.proof import Proof
from saetools.repro import write_json
from saetools.sae import SAE
from saetools.sae.folder import is_own
from saetools.sae.foreign import OWN_NAME
from saetools.store import ActivationStore

__all__ = ["Conversion", "convert", "from_store"]

_N_REAL = 256


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        source, target: names of the formats.
        sae: the SAE that was converted, as ours.
        notes: what was changed on the way, reading first.
        proofs: of reading, where the source is another tool's, and of writing, where the target is.
    """

    source: str
    target: str
    sae: SAE
    notes: tuple[Note, ...]
    proofs: dict[str, Proof]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str,
    format: str | None = None,
    probe: Probe | None = None,
    dry_run: bool = False,
) -> Conversion:
    """Convert an SAE between formats of other tools and ours.

    Args:
        source: a folder or file of any format, a run folder of ours, or a place on the hub that is
            in the cache.
        target: what to write; it is not there yet, or holds an SAE of the same format.
        to: the format to write, "saetools" for ours.
        format: that of the source; None: recognised by the files.
        probe: real activations for the proofs, or `from_store(...)`.
        dry_run: convert and prove, and leave nothing behind.

    Raises:
        FormatError: the source cannot be read, the target's format cannot express it, or a proof
            fails; nothing is written then.
    """
    pulled, target = found_on_hub(str(source)), Path(target)
    source = Path(source) if pulled is None else pulled.path
    place = source / "sae" if is_own(source / "sae") else source
    proofs: dict[str, Proof] = {}
    notes: tuple[Note, ...] = ()
    if format in (None, OWN_NAME) and is_own(place):
        sae, name = SAE.load(place), OWN_NAME
    else:
        foreign, proofs["reading"] = read(place, format=format, probe=probe)
        sae, notes, name = foreign.sae, foreign.notes, format or str(detect(place))
    if pulled is not None:
        sae.meta["hub"] = pulled.as_dict()
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            more = _write(sae, Path(scratch) / target.name, to, probe, proofs)
    else:
        more = _write(sae, target, to, probe, proofs)
    return Conversion(name, to, sae, (*notes, *more), proofs)


def from_store(store: str | Path) -> Callable[[SAE], Float[Tensor, "n d_in"]]:
    """Real activations from a store of `saetools harvest`, at the hook that an SAE reads.

    Raises (when called):
        ConfigError: the store has several hooks and not that of the SAE.
    """

    def rows(sae: SAE) -> Float[Tensor, "n d_in"]:
        with ActivationStore.open(store) as opened:
            hook = sae.meta.get("hook_name")
            if hook not in opened.hook_names:
                if len(opened.hook_names) > 1:
                    raise ConfigError(
                        f"the probe {store} holds activations of {', '.join(opened.hook_names)}, "
                        f"and the SAE reads {hook or 'a hook that its files do not name'}; harvest "
                        "a store of that hook alone"
                    )
                hook = opened.hook_name
            return opened.rows(0, min(_N_REAL, opened.n_tokens), hook_name=hook)

    return rows


def _write(
    sae: SAE, target: Path, to: str, probe: Probe | None, proofs: dict[str, Proof]
) -> tuple[Note, ...]:
    if to != OWN_NAME:
        notes, proofs["writing"] = save(sae, target, format=to, probe=probe)
        return notes
    if target.exists() and not is_own(target) and (target.is_file() or any(target.iterdir())):
        raise FormatError(
            f"will not write an SAE of ours over {target}: it holds something else; choose a new "
            "name"
        )
    sae.save(target)
    report = {"format": REPORT_FORMAT, "to": OWN_NAME, **sae.meta.get("converted", {})}
    write_json(report_path(target), report)
    return ()
