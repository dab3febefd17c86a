"""Name a latent by the word whose direction is nearest to its own (discover-then-name).

A latent's direction is its decoder row, a word's is measured in the same space: the word in neutral
templates, read at the hook that the SAE writes, minus a centre (`word_directions`). The name is the
word with the best cosine after a correction for hubs (`nearest_words`); the cosine is the
confidence. After Rao et al. 2024 (arXiv:2407.14499), who have CLIP's text embeddings for words.

Any joint space will do: `name_latents(index, namer="vocabulary", sae=sae, words=words,
vectors=matrix)` takes one vector a word, or a function from the words to these, in the space of
`sae.W_dec`. Only the centre of the words is then taken off.

The name is a claim about a direction. Whether the latent fires on the word is another question, and
the held-out precision beside the name answers it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.analysis import LatentIndex
from saetools.errors import ConfigError, ShapeError
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext, Part
from saetools.naming.nearest_words import NearestWords, nearest_words
from saetools.naming.word_directions import TEMPLATES, WordVectors, cached_word_vectors
from saetools.sae import SAE

__all__ = ["Vocabulary", "VocabularyConfig", "words_of_index"]

_ME = "vocabulary"
_N_RANDOM = 1000


class VocabularyConfig(NamerConfig):
    """Which words, how they are measured, and when one is near enough."""

    words: str | tuple[str, ...] | None = Field(
        default=None,
        description="a file with a word a line, or the words; null: the index's own, most frequent "
        "first",
    )
    n_words: int = Field(
        default=3000, ge=2, description="words of the index at most; a minute with MiniLM"
    )
    min_count: int = Field(
        default=5, ge=1, description="training tokens of a word of the index; rarer ones are noise"
    )
    templates: tuple[str, ...] = Field(
        default=TEMPLATES, description="texts with {word} once, that say nothing of it"
    )
    centre: Literal["words", "store"] = Field(
        default="words",
        description="what is taken off the words: their own mean, with which what the templates "
        "add goes too, or the mean of the store",
    )
    hubness: bool = Field(default=True, description="hold back words that are near to all latents")
    chance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of random directions whose nearest word is as near as a name's must be",
    )
    vectors: Any = Field(
        default=None,
        exclude=True,
        description="of `words`, (n_words, d) or a function from words to that; Python only",
    )


@NAMERS.register(_ME)
class Vocabulary:
    """Names from nearest word directions."""

    Config = VocabularyConfig

    @staticmethod
    def needs(config: VocabularyConfig) -> tuple[Part, ...]:
        """The SAE; the model unless vectors are given; the store if its mean is the centre."""
        if config.vectors is not None:
            return ("sae",)
        return ("sae", "model", "store") if config.centre == "store" else ("sae", "model")

    @staticmethod
    def name(
        context: NamingContext, latents: Sequence[int], config: VocabularyConfig
    ) -> list[Name]:
        """Name latents whose nearest word is nearer than one is to a random direction."""
        sae, index = context.need_sae(_ME), context.index
        if sae.config.n_latents != index.n_latents:
            raise ShapeError(
                f"the SAE has {sae.config.n_latents:,} latents and the index {index.n_latents:,}; "
                "give the SAE that was indexed"
            )
        words = _words(config, index)
        centred = _centred(context, config, sae, words)
        kept = [i for i in range(len(words)) if centred[i].any()]
        live = index.live.tolist()
        rows = sae.W_dec[live].detach().float().cpu()
        found = nearest_words(rows, centred[kept], correct=config.hubness)
        known, least = [words[i] for i in kept], _by_chance(centred[kept], config.chance)
        place = {latent: i for i, latent in enumerate(live)}
        near = (latent for latent in latents if float(found.cosine[place[latent], 0]) >= least)
        return [_name(latent, place[latent], found, known, least) for latent in near]


def words_of_index(index: LatentIndex, *, n_words: int, min_count: int = 5) -> tuple[str, ...]:
    """Words of the texts behind an index, the most frequent first; words have a letter."""
    table = index.units["word"]
    order = np.argsort(-table.background, kind="stable")
    frequent = (int(i) for i in order if table.background[i] >= min_count)
    spelled = (table.strings[i].strip() for i in frequent)
    worded = [word for word in spelled if any(char.isalpha() for char in word)]
    return tuple(dict.fromkeys(worded))[:n_words]


def _words(config: VocabularyConfig, index: LatentIndex) -> tuple[str, ...]:
    if config.words is None and config.vectors is None:
        return words_of_index(index, n_words=config.n_words, min_count=config.min_count)
    if isinstance(config.words, str):
        try:
            lines = Path(config.words).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read words from {config.words} ({error}); give a text file with a word a "
                "line"
            ) from error
        given = [line.strip() for line in lines if line.strip()]
    else:
        given = list(config.words or ())
    words = tuple(dict.fromkeys(given))
    if len(words) < 2 or (config.vectors is not None and len(words) != len(given)):
        raise ConfigError(
            f"the namer '{_ME}' got {len(words)} different words of {len(given)}; give at least "
            "two, and with vectors= each of them once"
        )
    return words


def _centred(
    context: NamingContext, config: VocabularyConfig, sae: SAE, words: tuple[str, ...]
) -> Float[Tensor, "n_words d"]:
    """The direction of each word; a row of zeros where the word has no token of its own."""
    if config.vectors is not None:
        given = config.vectors(words) if callable(config.vectors) else config.vectors
        x = torch.as_tensor(given).detach().float().cpu()
        if x.shape != (len(words), sae.d_out):
            raise ShapeError(
                f"vectors of {len(words)} words in the space of W_dec have the shape "
                f"({len(words)}, {sae.d_out}); got {tuple(x.shape)}"
            )
        return x - x.mean(0)
    x = _measured(context, config, sae, words).vectors
    seen = x.any(1)
    if config.centre == "store":
        # In a transcoder words are read where it writes.
        store = context.need_store(_ME)
        hook = sae.target_hook_name or store.hook_name
        centre = torch.from_numpy(store.moments(hook).mean).float()
    else:
        centre = x[seen].mean(0)
    return (x - centre) * seen.unsqueeze(1)


def _measured(
    context: NamingContext, config: VocabularyConfig, sae: SAE, words: tuple[str, ...]
) -> WordVectors:
    stored = context.index.source.get("store", {})
    return cached_word_vectors(
        context.need_model(_ME),
        words,
        hook_name=sae.target_hook_name or context.index.hook_name,
        templates=config.templates,
        pooling=cast("Any", stored.get("pooling", "token")),
        folder=context.cache,
    )


def _by_chance(words: Float[Tensor, "n_words d"], chance: float) -> float:
    """The cosine that a share `chance` of random directions have with their nearest word."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(_N_RANDOM, words.shape[1], generator=generator)
    best = nearest_words(drawn, words, n_best=1, correct=False).cosine[:, 0]
    return float(best.quantile(1 - chance))


def _name(latent: int, row: int, found: NearestWords, words: list[str], least: float) -> Name:
    cosine, score = found.cosine[row].tolist(), found.score[row].tolist()
    near = [words[i] for i in found.word[row].tolist()]
    evidence = ", ".join(f'"{w}" (cosine {c:.2f})' for w, c in zip(near, cosine, strict=True))
    margin = score[0] - score[1] if len(score) > 1 else 0.0
    return Name(
        latent,
        near[0],
        confidence=min(max(cosine[0], 0.0), 1.0),
        rationale=(
            f"nearest words: {evidence}; the first leads by {margin:.2f}, and chance gives "
            f"{least:.2f}"
        ),
        namer=_ME,
        unit="word",
        words=(near[0],),
    )
