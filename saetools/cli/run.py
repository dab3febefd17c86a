"""A run folder: where its files lie, what made them, and what its commands share."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from saetools.cli.output import Outcome
from saetools.cli.stamps import FORMAT, STAGES, conflicts, read_stamps, settings_of
from saetools.errors import ConfigError, SaetoolsError, ShapeError

if TYPE_CHECKING:  # types only: `--help` must not pay for pydantic (0.2 s) and torch (2.4 s)
    from saetools.analysis import LatentIndex
    from saetools.config import RunConfig
    from saetools.corpus import Corpus
    from saetools.models import SubjectModel
    from saetools.sae import SAE
    from saetools.store import ActivationStore

__all__ = ["RunFolder"]

T = TypeVar("T")

_OWN_FILES = ("config.yaml", "env.json", "run.json")


class RunFolder:
    """A run folder: where its files lie, what made them, and what its commands share.

    Args:
        path: the folder; made when the first stage begins.
        config: the run, checked.
        sae_folder: the SAE, if it is not the folder's own `sae/`.
    """

    def __init__(self, path: Path, config: "RunConfig", *, sae_folder: Path | None = None) -> None:
        self.path = path
        self.config = config
        self.sae_folder = sae_folder or path / "sae"

    def product(self, stage: str) -> Path:
        """The file or folder that a stage makes."""
        return self.sae_folder if stage == "train" else self.path / STAGES[stage].product

    @property
    def device(self) -> str | None:
        """The device asked for; None for the best there is."""
        asked = self.config.subject.device
        return None if asked == "auto" else asked

    @property
    def torch_device(self) -> str:
        """The device to train on: the one asked for, or the GPU if there is one."""
        import torch  # heavy: 2.4 s

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def finished(self, stage: str) -> bool:
        """Whether a stage's result is there, and was made from what is there now."""
        stamp = read_stamps(self.path).get(stage, {"finished": True})
        return bool(stamp["finished"]) and self.product(stage).exists()

    def up_to_date(self, stage: str) -> bool:
        """Whether a stage's result is there and these very settings made it."""
        stamp = read_stamps(self.path).get(stage)
        same = stamp is not None and stamp["settings"] == settings_of(self.config, stage)
        return same and self.finished(stage)

    @cached_property
    def model(self) -> "SubjectModel":
        """The subject model."""
        from saetools.models import load_model  # heavy: torch, transformers

        subject = self.config.subject
        return load_model(
            subject.model,
            kind=subject.kind,
            device=self.device,
            dtype=subject.dtype,
            seed=self.config.seed,
        )

    @cached_property
    def corpus(self) -> "Corpus":
        """The texts."""
        from saetools.corpus import load_corpus  # heavy: numpy, datasets

        return load_corpus({"type": self.config.data.type, **self.config.data.fields})

    def store(self) -> "ActivationStore":
        """The harvested activations."""
        from saetools.store import ActivationStore  # heavy: torch, h5py

        self._need("harvest")
        # The store of a sweep's member is a link; shards lie beside what it leads to.
        return ActivationStore.open(self.product("harvest").resolve())

    def sae(self) -> "SAE":
        """The trained SAE, checked to read what was harvested."""
        from saetools.sae import SAE  # heavy: torch

        self._need("train")
        sae = SAE.load(self.sae_folder, device=self.torch_device)
        with self.store() as store:
            if sae.config.d_in != store.d_in:
                raise ShapeError(
                    f"{self.sae_folder} reads activations of width {sae.config.d_in}, but "
                    f"{store.path} holds width {store.d_in}; name the run folder that the SAE was "
                    "trained in, or train it again"
                )
        return sae

    def index(self) -> "LatentIndex":
        """The index of latents."""
        from saetools.analysis import LatentIndex  # heavy: torch, h5py

        self._need("index")
        return LatentIndex.load(self.product("index"))

    def load_if_finished(self, stage: str, load: Callable[[Path], T]) -> T | None:
        """A stage's result, None if it is missing or older than what it was made from."""
        return load(self.product(stage)) if self.finished(stage) else None

    def plan(self, stage: str) -> Outcome:
        """What a stage would do: its settings, its inputs, its result. Writes nothing."""
        conflicts(self.path, read_stamps(self.path), self.config, stage)
        inputs = [
            {"needs": str(self.product(name)), "there": self.finished(name)}
            for name in STAGES[stage].needs
        ]
        state = "is there, and these settings made it" if self.up_to_date(stage) else "to be made"
        return Outcome(
            title=f"dry run: {stage}, nothing is written",
            figures={
                **settings_of(self.config, stage),
                "device": self.config.subject.device,
                str(self.product(stage)): state,
            },
            table=inputs,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Write the run's settings, do the work of the block, and stamp its result as finished.

        When the block fails with an error of ours before it wrote anything, the folder is left as
        it was found.

        Raises:
            ConfigError: the folder holds the result of other settings, or another person's files.
        """
        for needed in STAGES[name].needs:
            self._need(needed)
        held = {file: _read(self.path / file) for file in _OWN_FILES}
        entries = {entry.name for entry in self.path.iterdir()} if self.path.exists() else None
        new_parents = [folder for folder in self.path.parents if not folder.exists()]
        self._begin(name, entries)
        started = time.monotonic()
        try:
            yield
        except SaetoolsError:
            self._take_back(held, entries)
            for folder in new_parents:
                if folder.exists() and not any(folder.iterdir()):
                    folder.rmdir()
            raise
        self._stamp(name, finished=True, seconds=round(time.monotonic() - started, 2))

    def seconds(self, stage: str) -> float | None:
        """Wall time of the stage's last finished run."""
        found = read_stamps(self.path).get(stage, {}).get("seconds")
        return None if found is None else float(found)

    def _need(self, stage: str) -> None:
        if self.finished(stage):
            return
        product, stamp = self.product(stage), read_stamps(self.path).get(stage, {})
        if not product.exists():
            reason = "is missing"
        elif stamp.get("stale"):
            reason = "was made from results that have changed since"
        else:
            reason = "is not finished"
        how = f"`saetools {stage} {self.path}`"
        if not (self.path / "config.yaml").is_file():  # the folder is no run yet
            how = f"`saetools {stage}` with the same file and settings"
        raise ConfigError(f"{product} {reason}; run {how} first")

    def _begin(self, name: str, entries: set[str] | None) -> None:
        from saetools.repro import environment, write_json  # heavy: torch

        if entries and "run.json" not in entries and "config.yaml" not in entries:
            raise ConfigError(
                f"{self.path} holds other files ({', '.join(sorted(entries)[:5])}) and no run; "
                "choose an empty or new folder with --out"
            )
        conflicts(self.path, read_stamps(self.path), self.config, name)
        self.path.mkdir(parents=True, exist_ok=True)
        scratch = self.path / "config.yaml.partial"
        scratch.write_text(self.config.dump(), encoding="utf-8")
        scratch.replace(self.path / "config.yaml")
        environments = json.loads(_read(self.path / "env.json") or b"{}")
        environments[name] = environment(seed=self.config.seed)
        write_json(self.path / "env.json", environments)
        self._stamp(name, finished=False)

    def _stamp(self, name: str, *, finished: bool, seconds: float | None = None) -> None:
        from saetools.repro import write_json  # heavy: torch

        stamps = read_stamps(self.path)
        stamps[name] = {
            "settings": settings_of(self.config, name),
            "finished": finished,
            "seconds": seconds,
        }
        if finished:
            for later in _after(name):
                if later in stamps:
                    stamps[later] |= {"finished": False, "stale": True}
        write_json(self.path / "run.json", {"format": FORMAT, "stages": stamps})

    def _take_back(self, held: Mapping[str, bytes | None], entries: set[str] | None) -> None:
        left = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        if left - set(_OWN_FILES) - (entries or set()):
            return  # the work left something to resume from, and these files say how it was made
        if entries is None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for file, content in held.items():
            path = self.path / file
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)


def _after(stage: str) -> Iterator[str]:
    return (name for name, later in STAGES.items() if stage in (*later.needs, *later.uses))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
