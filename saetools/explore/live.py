"""What stands behind a widget: it answers questions about texts and strengths, and keeps names.

Knows nothing of Jupyter: `answer` maps a message to a message, so a test needs no kernel.
"""

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError, SaetoolsError, UnknownNameError
from saetools.explore.steering import Steerer
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.naming.base import MANUAL, Name
from saetools.sae import SAE

__all__ = ["Live"]

logger = logging.getLogger(__name__)

_MAX_CHARACTERS = 8000  # of a text that is read: a kernel is not to be blocked by a pasted book


class Live:
    """Answers an explorer's questions.

    Args:
        index: what is explored.
        names: the names that it begins with.
        names_path: CSV that edited names go to; None keeps them in `names` alone.
        sae: the SAE; with `model` it makes prompts and steering possible.
        model: the subject model.
    """

    def __init__(
        self,
        index: LatentIndex,
        *,
        names: NamesTable | None = None,
        names_path: str | Path | None = None,
        sae: SAE | None = None,
        model: SubjectModel | None = None,
    ) -> None:
        self.index = index
        self.names = names if names is not None else NamesTable()
        self.names_path = None if names_path is None else Path(names_path)
        self.edits: dict[str, str] = {}
        self._sae, self._model = sae, model

    @property
    def abilities(self) -> list[str]:
        """What can be asked: "name" always, "prompt" and "steer" with a model and its SAE."""
        if self._model is None or self._sae is None:
            return ["name"]
        steers = self._sae.target_hook_name is None and self._sae.d_out == self._sae.config.d_in
        return ["name", "prompt", *(["steer"] if steers else [])]

    @property
    def steer_text(self) -> str:
        """What the box of the steering form holds at first."""
        return "" if self._steerer is None else self._steerer.example

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one message of a widget: {kind, id, ...} gives {kind: "answer", id, ok, ...}.

        An error becomes the answer: it is shown where it was asked, and the kernel lives on.
        """
        kind, id_ = message.get("kind"), message.get("id")
        try:
            if kind not in self.abilities:
                raise ConfigError(
                    f"asked for {kind!r}; this explorer can {', '.join(self.abilities)}"
                )
            result = getattr(self, f"_{kind}")(message)
        except SaetoolsError as error:
            return {"kind": "answer", "id": id_, "ok": False, "error": str(error)}
        except Exception as error:  # whatever a model raises is for the reader who asked it
            logger.exception("the explorer could not answer a question of kind %s", kind)
            return {
                "kind": "answer",
                "id": id_,
                "ok": False,
                "error": f"{type(error).__name__}: {error}",
            }
        return {"kind": "answer", "id": id_, "ok": True, "result": result}

    def rename(self, latent: int, name: str) -> str:
        """Give a latent a name as namer "manual"; an empty one takes its name away.

        Returns a sentence that says where the name went.

        Raises:
            UnknownNameError: there is no such latent.
        """
        if not 0 <= latent < self.index.n_latents:
            raise UnknownNameError(
                f"asked to name latent {latent}; there are the latents 0 to "
                f"{self.index.n_latents - 1}"
            )
        kept = self._on_disk()
        others = NamesTable(old for old in kept if old.latent != latent)
        added = [Name(latent, name, 1.0, "", MANUAL)] if name else []
        table = others.merge(NamesTable(added))
        if self.names_path is not None:
            table.save(self.names_path)
        self.names, self.edits = table, {**self.edits, str(latent): name}
        return (
            "Kept in widget.names." if self.names_path is None else f"Saved to {self.names_path}."
        )

    def _on_disk(self) -> NamesTable:
        """The names as they are now: another widget or command may have written since."""
        if self.names_path is None or not self.names_path.exists():
            return self.names
        return NamesTable.load(self.names_path)

    @cached_property
    def _steerer(self) -> Steerer | None:
        if self._model is None or self._sae is None:
            return None
        return Steerer(self.index, self._model, self._sae)

    def _name(self, message: Mapping[str, Any]) -> str:
        return self.rename(int(message["latent"]), " ".join(str(message["name"]).split()))

    def _prompt(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._model is not None, "abilities says so"
        assert self._sae is not None, "abilities says so"
        began, text = time.monotonic(), str(message["text"])
        if not text.strip():
            raise ConfigError("there is no text to read; write some words")
        reading = self.index.fires_on(self._model, self._sae, text[:_MAX_CHARACTERS])
        if not reading.tokens:
            raise ConfigError("the tokenizer finds no token in this text; write other words")
        cut = f", the first {_MAX_CHARACTERS:,} characters" if len(text) > _MAX_CHARACTERS else ""
        took = f"{time.monotonic() - began:.1f} s"
        return {
            "tokens": reading.tokens,
            "latents": [[latent for latent, _ in here] for here in reading.latents],
            "acts": [[act for _, act in here] for here in reading.latents],
            "note": f"{len(reading.tokens)} tokens{cut}, in {took}",
        }

    def _steer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._steerer is not None, "abilities says so"
        latent, strength = int(message["latent"]), float(message["strength"])
        return self._steerer.steer(latent, strength, str(message["text"]))
