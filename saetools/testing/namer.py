"""The promises that every namer keeps, as one call: `check_namer("mine", folder=...)`.

Raises AssertionError with a sentence about the first promise that is broken. The latents are those
of an SAE on a tiny language model over labelled texts: some have the direction of a word or a token
planted, the others are as they were drawn, and there is little to say about them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saetools.analysis import LatentIndex, index_latents
from saetools.analysis.contexts import HELD_OUT
from saetools.config import validate
from saetools.corpus import Document
from saetools.errors import ConfigError
from saetools.harvest import harvest
from saetools.models.base import LanguageModel
from saetools.models.unembedding import unembedding_of
from saetools.naming import NAMERS, Name, NamesTable, NamingContext
from saetools.naming.word_directions import word_vectors
from saetools.sae import SAE, build_sae
from saetools.testing.tiny import tiny_lm

__all__ = ["check_namer", "naming_subject"]

_WORDS = {
    "sea": ("ship", "wave", "sail", "fish", "salt"),
    "farm": ("cow", "barn", "hay", "pig", "milk"),
    "city": ("bus", "street", "tower", "shop", "light"),
}
_HOOK = "blocks.1.hook_resid_post"


def check_namer(
    type: str, *, folder: Path, subject: NamingContext | None = None, **fields: Any
) -> None:
    """Check a namer by name.

    Args:
        type: name in the registry.
        folder: empty folder for files.
        subject: what it names; `naming_subject(folder)` by default.
        fields: settings of its config, where it has no defaults that work.

    Raises:
        AssertionError: a promise is broken; the message says which.

    >>> from tempfile import mkdtemp
    >>> check_namer("top_tokens", folder=Path(mkdtemp()))
    """
    plug_in: Any = NAMERS.get(type)
    subject = naming_subject(folder) if subject is None else subject
    assert plug_in.Config.model_config.get("frozen"), "its Config is frozen"
    assert plug_in.Config.model_config.get("extra") == "forbid", "its Config refuses unknown keys"
    config = validate(plug_in.Config, fields, what=f"namer '{type}'")
    live = subject.index.live.tolist()
    names = _names(plug_in, subject, live, config)
    _check_claims(names, live, subject.index)
    assert _rows(names) == _rows(_names(plug_in, subject, live, config)), (
        "the same latents get the same names again"
    )
    some = live[::2]
    assert _rows(_names(plug_in, subject, some, config)) == _rows(
        [name for name in names if name.latent in set(some)]
    ), "a latent's name does not depend on which others are named"
    assert not plug_in.name(subject, [], config), "of no latents there are no names"
    blind = replace(subject, index=_other_held_out(subject.index))
    assert _rows(_names(plug_in, blind, live, config)) == _rows(names), (
        "held-out documents do not shape a name"
    )
    table = NamesTable(names)
    assert NamesTable.load(table.save(folder / "names.csv")) == table, "names survive the CSV"
    _check_needs(plug_in, subject, live, config)


def naming_subject(folder: Path) -> NamingContext:
    """A tiny language model, the activations of 90 labelled texts, an SAE on them, its index.

    Latents 0 to 14 have the directions of the words that tell the labels, latent 15 that of one
    token of the unembedding.
    """
    rng = np.random.default_rng(0)
    documents = [
        Document(
            " ".join(rng.choice([*words, "the", "and", "old"], size=14).tolist()) + ".",
            label=label,
            title=f"{label} {i}",
        )
        for i in range(30)
        for label, words in _WORDS.items()
    ]
    model = tiny_lm()
    store = harvest(
        model, documents, hook_name=_HOOK, out=folder / "acts.h5", held_out_fraction=0.4
    )
    sae = build_sae("topk", d_in=store.d_in, n_latents=48, k=4, seed=0)
    sae.meta["hook_name"] = _HOOK
    _plant(sae, model)
    index = index_latents(sae, store, model=model, n_examples=4, window=6)
    return NamingContext(index, sae=sae, model=model, store=store, cache=folder / "cache")


def _plant(sae: SAE, model: LanguageModel) -> None:
    x = word_vectors(model, [w for words in _WORDS.values() for w in words], hook_name=_HOOK)
    unembedding = unembedding_of(model)
    assert unembedding is not None, "the tiny language model has an unembedding"
    token = model.tokenizer(" ship", add_special_tokens=False)["input_ids"][-1]
    rows = torch.cat([x.vectors - x.vectors.mean(0), unembedding.centred()[token : token + 1]])
    rows = torch.nn.functional.normalize(rows, dim=1)
    with torch.no_grad():
        sae.W_enc_rows[: len(rows)] = rows
        sae.W_dec[: len(rows)] = rows


def _names(plug_in: Any, context: NamingContext, latents: Sequence[int], config: Any) -> list[Name]:
    found: list[Name] = plug_in.name(context, latents, config)
    return found


def _rows(names: Sequence[Name]) -> list[str]:
    """Names as texts, so that nan equals nan."""
    return sorted(repr(name) for name in names)


def _check_claims(names: Sequence[Name], live: list[int], index: LatentIndex) -> None:
    latents = [name.latent for name in names]
    assert len(set(latents)) == len(latents), "a latent has one name at most"
    assert set(latents) <= set(live), "only latents that were asked for get names"
    for name in names:
        assert name.name.strip(), "a name is not empty"
        assert name.rationale.strip(), "a name has a rationale"
        assert 0 <= name.confidence <= 1, "a confidence lies between 0 and 1"
        assert name.unit is None or name.unit in index.units, "a unit is one of the index's"
        assert name.unit is None or name.words, "a name with a unit claims words"
        assert name.label is None or name.label in index.labels, "a label is one of the index's"
        assert np.isnan(name.held_out_precision), "a namer leaves the scores to others"


def _check_needs(plug_in: Any, subject: NamingContext, live: list[int], config: Any) -> None:
    needs: Callable[[Any], tuple[str, ...]] = getattr(plug_in, "needs", lambda _: ())
    for part in needs(config):
        told = _error(plug_in, _without(subject, part), live, config)
        assert f"{part}=" in told, f"without its {part} a namer raises a ConfigError that says so"


def _without(context: NamingContext, part: str) -> NamingContext:
    kept = {name: getattr(context, name) for name in ("sae", "model", "store") if name != part}
    return NamingContext(context.index, **kept)


def _error(plug_in: Any, context: NamingContext, latents: list[int], config: Any) -> str:
    try:
        plug_in.name(context, latents, config)
    except ConfigError as error:
        return str(error)
    return ""


def _other_held_out(index: LatentIndex) -> LatentIndex:
    """The same index with nonsense wherever held-out documents are all that it comes from."""
    kept = index.contexts.kind != HELD_OUT
    contexts = replace(
        index.contexts,
        token=np.where(kept[:, None], index.contexts.token, 0),
        act=np.where(kept[:, None], index.contexts.act, 1.0).astype(index.contexts.act.dtype),
    )
    units = {
        unit: replace(table, mass_held_out=table.mass_held_out[::-1].copy())
        for unit, table in index.units.items()
    }
    stats = replace(index.stats, mass_held_out=index.stats.mass_held_out[::-1].copy())
    labels = replace(index.label_table, auroc_held_out=1 - index.label_table.auroc_held_out)
    return replace(index, contexts=contexts, units=units, stats=stats, label_table=labels)
