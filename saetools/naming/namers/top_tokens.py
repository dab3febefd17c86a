"""Name a latent by the words its activation falls on. No language model, no network.

In this order, all from training documents:

1. one unit holds most of the activation: a word, `"york"`; a pair of words, `"new york"`; the word
   before or after, `after "the"`, `before "of"`. Of several, that which tells best where the latent
   fires: F1 of the share of the activation that it holds and the share of such tokens on which the
   latent fires. None that is worse at it than the heaviest word.
2. up to three words that are over-represented among its tokens, by the log-odds ratio with an
   informative Dirichlet prior (Monroe, Colaresi and Quinn 2008): `draw, pen, turtle`.
3. where its strongest activation in a document tells a label, the label is added: `· in turtle`.

A latent without any of these is called `unclear`, with its heaviest words and confidence 0.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64
from pydantic import Field

from saetools.analysis import LatentIndex
from saetools.analysis.units import UnitRows
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext, Unit

__all__ = ["TopTokens", "TopTokensConfig", "log_odds_z"]

_WHERE: dict[Unit, tuple[str, str]] = {
    "word": ("", "is on"),
    "bigram": ("", "is on"),
    "previous": ("after ", "comes right after"),
    "next": ("before ", "comes right before"),
}
"""How a name of one unit begins, and its rationale; of equals, the first stands."""

_ON = ("word", "bigram")
"""Units that the latent fires on, and not beside."""


class TopTokensConfig(NamerConfig):
    """When a word is good enough for a name."""

    coverage: float = Field(
        default=0.8, gt=0, le=1, description="share of the activation that one word alone must hold"
    )
    n_words: int = Field(default=3, ge=1, description="words in a name, at most")
    min_z: float = Field(
        default=3.0, description="z of the log-odds that a word needs; 3 is one chance in 700"
    )
    min_auroc: float = Field(
        default=0.9, ge=0.5, le=1, description="training AUROC that adds a label to the name"
    )
    prior: float = Field(
        default=500.0, gt=0, description="weight of the background in the log-odds, in tokens"
    )


@NAMERS.register("top_tokens")
class TopTokens:
    """Names from token statistics."""

    Config = TopTokensConfig

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: TopTokensConfig) -> list[Name]:
        """Name every latent that fires in training documents."""
        index = context.index
        fired = [latent for latent in latents if index.stats.mass_train[latent] > 0]
        return [_name(index, latent, config) for latent in fired]


def log_odds_z(
    count: Float64[np.ndarray, " w"],
    total: float,
    background: Float64[np.ndarray, " w"],
    background_total: float,
    *,
    prior: float,
) -> Float64[np.ndarray, " w"]:
    """z of the log-odds ratio of each word between a sample and a background.

    With α = prior · share of the word overall, δ = log odds(count + α) - log odds(background + α),
    and z = δ / sqrt(1/(count + α) + 1/(background + α)).

    Args:
        count: occurrences (or weight) of each word in the sample.
        total: the same of all words.
        background: occurrences of each word in the texts that the sample is compared with.
        background_total: the same of all words.
        prior: α summed over all words.
    """
    share = (count + background) / max(total + background_total, 1e-12)
    alpha = prior * np.where(share > 0, share, 1.0)
    here, there = count + alpha, background + alpha
    odds = np.log(here / np.maximum(total + prior - here, 1e-12))
    odds -= np.log(there / np.maximum(background_total + prior - there, 1e-12))
    # A word that occurs neither here nor there (only in held-out documents) is no evidence.
    z: npt.NDArray[np.float64] = np.where(share > 0, odds / np.sqrt(1 / here + 1 / there), 0.0)
    return z


def _name(index: LatentIndex, latent: int, config: TopTokensConfig) -> Name:
    single = _single(index, latent, config)
    if single is not None:
        return single
    rows = index.units["word"].of(latent)
    total = float(index.stats.mass_train[latent])
    z = _z(index, latent, rows, config.prior)
    order = [i for i in np.argsort(-z, kind="stable") if z[i] >= config.min_z][: config.n_words]
    label, auroc = _label(index, latent, config.min_auroc)
    context = "" if label is None else f"in {label}"
    told = "" if label is None else f"; tells the label '{label}' with AUROC {auroc:.2f}"
    if not order and label is None:
        return _unclear(index, latent, rows)
    words = tuple(rows.text[i] for i in order)
    share = min(float(rows.mass[order].sum()) / total, 1.0) if order else 0.0
    evidence = ", ".join(f'"{rows.text[i]}" (z {z[i]:.0f})' for i in order)
    return Name(
        latent,
        " · ".join(part for part in (", ".join(words), context) if part),
        confidence=max(share, 2 * auroc - 1 if label is not None else 0.0),
        rationale=(
            f"{evidence} hold {share:.0%} of its activation in training{told}"
            if order
            else f"no word stands out{told}"
        ),
        namer="top_tokens",
        unit="word" if order else None,
        words=words,
        label=label,
    )


def _single(index: LatentIndex, latent: int, config: TopTokensConfig) -> Name | None:
    """A name of one word, one pair, or one word beside, if one covers enough."""
    total = float(index.stats.mass_train[latent])
    heaviest = {unit: index.units[unit].of(latent) for unit in _WHERE}
    cover = {
        unit: float(rows.mass[0]) / total if len(rows.mass) else 0.0
        for unit, rows in heaviest.items()
    }
    agrees = {unit: _f1(cover[unit], heaviest[unit]) for unit in _WHERE}
    # "york" is name enough where it fires on every york, and "after the" is none where it fires on
    # few of the words after a "the".
    enough = [
        unit
        for unit in _WHERE
        if cover[unit] > config.coverage
        and agrees[unit] >= agrees["word"]
        and (unit in _ON or _z(index, latent, heaviest[unit], config.prior)[0] >= config.min_z)
    ]
    if not enough:
        return None
    unit = max(enough, key=lambda unit: agrees[unit])
    rows = heaviest[unit]
    quoted = f'"{rows.text[0]}"'
    before_name, where = _WHERE[unit]
    return Name(
        latent,
        f"{before_name}{quoted}",
        confidence=min(cover[unit], 1.0),
        rationale=(
            f"{cover[unit]:.0%} of its activation in training {where} {quoted}; it fires on "
            f"{int(rows.count[0]):,} of {int(rows.background[0]):,} such tokens"
        ),
        namer="top_tokens",
        unit=unit,
        words=(rows.text[0],),
    )


def _f1(cover: float, rows: UnitRows) -> float:
    """How well "on the heaviest unit" tells where the latent fires: F1 of the share of activation
    that is there and the share of such tokens on which it fires."""
    if not len(rows.count):
        return 0.0
    fires = float(rows.count[0]) / max(int(rows.background[0]), 1)
    return 2 * cover * fires / max(cover + fires, 1e-12)


def _z(index: LatentIndex, latent: int, rows: UnitRows, prior: float) -> npt.NDArray[np.float64]:
    """z of each unit among the latent's tokens, each token weighted by activation / maximum.

    The background is all training tokens, not those where the latent is silent: a word on which it
    always fires would leave no background at all, and the variance would count against it.
    """
    scale = max(float(index.max_act[latent]), 1e-12)
    return log_odds_z(
        rows.mass / scale,
        float(index.stats.mass_train[latent]) / scale,
        rows.background.astype(np.float64),
        float(index.n_tokens_train),
        prior=prior,
    )


def _label(index: LatentIndex, latent: int, min_auroc: float) -> tuple[str | None, float]:
    """The label that the latent tells best on training documents, if well enough."""
    if not index.labels:
        return None, 0.5
    scores = np.nan_to_num(index.auroc_train[latent], nan=0.5)
    best = int(scores.argmax())
    told = float(scores[best])
    return (index.labels[best], told) if told > min_auroc else (None, told)


def _unclear(index: LatentIndex, latent: int, rows: UnitRows) -> Name:
    """A name that says there is none; it claims no words, so it has no score either."""
    rate = float(index.firing_rate[latent])
    return Name(
        latent,
        f"unclear ({', '.join(rows.text[:3])})",
        confidence=0.0,
        rationale=f"fires on {rate:.1%} of tokens; no word is more frequent there than elsewhere",
        namer="top_tokens",
    )
