"""Steering for the widget: a text with and without one latent, and never for minutes.

A language model goes on from the text; an encoder is asked which of the index's contexts lie
nearest to it. Everything runs in the kernel's own thread, because an edit holds for all uses of the
model; so it runs against a deadline, which the model meets before every forward pass.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError
from saetools.intervene import steer
from saetools.intervene.base import find_site
from saetools.models.base import LanguageModel, SubjectModel, TextEncoder
from saetools.sae import SAE

__all__ = ["Steerer"]

_SECONDS = 20.0
_N_TOKENS = 40
_N_TEXTS = 240
_N_NEAREST = 8
_BATCH = 16


@dataclass(frozen=True)
class Steerer:
    """What a model says with a latent added to it, and without.

    Args:
        index: contexts and largest activations.
        model: a language model or a text encoder.
        sae: the SAE of it.
        seconds: after which an answer is given up.
    """

    index: LatentIndex
    model: SubjectModel
    sae: SAE
    seconds: float = _SECONDS

    @property
    def example(self) -> str:
        """A text to begin with."""
        return "" if isinstance(self.model, TextEncoder) else "Once upon a time"

    def steer(self, latent: int, strength: float, text: str) -> dict[str, Any]:
        """The answer to one question of the widget.

        Args:
            latent: its number.
            strength: in largest activations of the latent.
            text: what the model goes on from, or what is encoded.

        Raises:
            ConfigError: the text is empty, the latent is dead, or it took too long.
        """
        if not text.strip():
            raise ConfigError("there is no text to steer on; write one above")
        if not self.index.max_act[latent] > 0:
            raise ConfigError(f"latent {latent} never fired, so its strength has no unit")
        began = time.monotonic()
        with self._in_time():
            answer = self._both(latent, strength, text)
        took = f"{time.monotonic() - began:.1f} s"
        return {**answer, "prompt": text, "note": f"{answer['note']}, in {took}"}

    def _both(self, latent: int, strength: float, text: str) -> dict[str, Any]:
        how = {"unit": "max_activation", "max_activations": self.index.max_act}
        if isinstance(self.model, LanguageModel):
            room = self.model.ctx_len - self.model.tokenize([text]).ids.shape[1]
            n_tokens = min(_N_TOKENS, max(1, room))
            plain = self.model.generate(text, n_tokens)
            with steer(self.model, self.sae, {latent: strength}, **how):  # type: ignore[arg-type]
                steered = self.model.generate(text, n_tokens)
            same = "the same text" if plain == steered else "another text"
            return {"plain": plain, "steered": steered, "note": f"{same}, up to {n_tokens} tokens"}
        assert isinstance(self.model, TextEncoder), "a subject model is one or the other"
        texts, vectors = self._texts
        plain_vector = self.model.embed([text])[0]
        with steer(self.model, self.sae, {latent: strength}, **how):  # type: ignore[arg-type]
            vector = self.model.embed([text])[0]
        cosine = torch.nn.functional.cosine_similarity(vector, plain_vector, dim=0)
        return {
            "plain": _nearest(plain_vector, vectors, texts),
            "steered": _nearest(vector, vectors, texts),
            "note": f"cosine with the plain text {float(cosine):.2f}, {len(texts)} contexts seen",
        }

    @cached_property
    def _texts(self) -> tuple[list[str], Float[Tensor, "n d"]]:
        """Contexts of the index, one a latent, and embeddings: as many as half the time gives."""
        assert isinstance(self.model, TextEncoder), "language models go on from a text instead"
        live = self.index.live
        step = max(1, len(live) // _N_TEXTS)
        contexts = [c for latent in live[::step].tolist() for c in self.index.examples(latent)[:1]]
        texts = list(dict.fromkeys("".join(c.tokens).strip() for c in contexts))
        parts, end = [], time.monotonic() + self.seconds / 2
        for start in range(0, len(texts), _BATCH):
            parts.append(self.model.embed(texts[start : start + _BATCH]))
            if time.monotonic() > end:
                break
        vectors = torch.cat(parts)
        return texts[: len(vectors)], vectors

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Give up at the forward pass that begins after the deadline."""
        end = time.monotonic() + self.seconds

        def check(
            x: Float[Tensor, "batch pos d_in"],
            content: Bool[Tensor, "batch pos"],  # noqa: ARG001 - every edit is given both
        ) -> Float[Tensor, "batch pos d_in"]:
            if time.monotonic() > end:
                raise ConfigError(
                    f"steering was stopped after {self.seconds:.0f} s, so that the kernel stays "
                    "free; take a shorter text, or run `saetools.steer` in a cell of its own"
                )
            return x

        with self.model.editing({find_site(self.model, self.sae).hook_name: check}):
            yield


def _nearest(vector: Tensor, vectors: Tensor, texts: list[str]) -> list[dict[str, Any]]:
    cosines = torch.nn.functional.cosine_similarity(vectors, vector.unsqueeze(0))
    best = cosines.topk(min(_N_NEAREST, len(texts)))
    return [
        {"text": texts[i], "cosine": float(value)}
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
