"""The first-letter task: does a latent for "begins with S" fail at words with one of their own?

1. Words are the tokens of the vocabulary that are a space and letters. Each stands at the end of
   five examples, " word has the first letter: W"; a causal model cannot see what would follow, so
   the activation at the word is that of the whole prompt of Chanin et al. 2024 (arXiv:2409.14507).
2. Seven tenths of the words are fitted on, the rest is measured on. A letter is used only if its
   probe has F1 of at least 0.6 there, with 20 words or more.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from saetools import progress
from saetools.evaluate.absorption.reading import fit_reading
from saetools.evaluate.absorption.tally import MIN_ITEMS, Tally
from saetools.evaluate.context import MetricContext
from saetools.models.base import LanguageModel
from saetools.types import SparseLatents

__all__ = ["Word", "letter_tally", "letters_of", "vocabulary_words"]

_SPACES = ("Ġ", "▁")
_TEST_SHARE = 0.3
_N_EXAMPLES = 5
_MAX_WORDS = 6000
_BATCH_TOKENS = 4096

Word = tuple[int, str]
"""Token id, and the word in small letters."""


def vocabulary_words(tokenizer: Any) -> list[Word]:
    """Tokens that are one space and ASCII letters, by token id."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [
        (number, piece[1:].lower())
        for number, piece in enumerate(pieces)
        if isinstance(piece, str)
        and piece[:1] in _SPACES
        and piece[1:].isascii()
        and piece[1:].isalpha()
    ]


def letters_of(words: list[Word]) -> list[str]:
    """Letters with so many words that 20 remain to be measured on."""
    counts = Counter(word[0] for _, word in words)
    return sorted(letter for letter, n in counts.items() if n * _TEST_SHARE >= MIN_ITEMS)


def letter_tally(ctx: MetricContext, words: list[Word]) -> Tally:
    """Measure every letter that has words enough."""
    model = ctx.model
    assert isinstance(model, LanguageModel)
    rng = np.random.default_rng([ctx.seed, 0xABC])
    order = rng.permutation(len(words))[: _MAX_WORDS + _N_EXAMPLES]
    mixed = [words[i] for i in order]
    examples, asked = mixed[:_N_EXAMPLES], mixed[_N_EXAMPLES:]
    x = _activations(ctx, model, asked, examples)
    first = np.array([word[0] for _, word in asked])
    is_test = rng.random(len(asked)) < _TEST_SHARE
    letters = letters_of(asked)
    with torch.no_grad():
        fit, test = ctx.sae.encode(x[~is_test]), ctx.sae.encode(x[is_test])
        with progress.task("absorption", total=len(letters), unit="letters") as task:
            readings = []
            for letter in letters:
                on = first[~is_test] == letter
                readings.append(fit_reading(x[~is_test], fit, on, seed=ctx.seed))
                task.advance()
        tally = Tally(tuple(readings), tuple(letters), len(asked))
        _measure(ctx, tally, x[is_test], test, first[is_test], np.flatnonzero(is_test))
    return tally


def _measure(
    ctx: MetricContext,
    tally: Tally,
    x: Tensor,
    latents: SparseLatents,
    first: npt.NDArray[np.str_],
    unit: npt.NDArray[np.int64],
) -> None:
    for concept, (letter, reading) in enumerate(zip(tally.names, tally.readings, strict=True)):
        on = first == letter
        tally.see(concept, (reading.scores(x) > 0).cpu().numpy(), on)
        rows = torch.as_tensor(np.flatnonzero(on), device=x.device)
        part = SparseLatents(latents.values[rows], latents.indices[rows], latents.n_latents)
        tally.add(concept, unit[on], reading.items(x[rows], part, ctx.sae.W_dec.detach()))


def _activations(
    ctx: MetricContext, model: LanguageModel, words: list[Word], examples: list[Word]
) -> Float[Tensor, "n d_in"]:
    """Activation at each word, behind the examples, on the SAE's device."""
    shown = "\n".join(f" {word} has the first letter: {word[0].upper()}" for _, word in examples)
    tokens = model.tokenize([f"{shown}\n"])
    lead = tokens.ids[0][tokens.mask[0]].tolist()[: model.ctx_len - 1]
    size = max(1, _BATCH_TOKENS // (len(lead) + 1))
    found = []
    with progress.task("words", total=len(words), unit="words") as task:
        for start in range(0, len(words), size):
            rows = [[*lead, number] for number, _ in words[start : start + size]]
            batch = model.tokenize(rows)
            read = model.activations(batch, [ctx.hook_name])[ctx.hook_name]
            found.append(read[:, len(lead)].to(ctx.sae.device, torch.float32))
            task.advance(len(rows))
    return torch.cat(found)
