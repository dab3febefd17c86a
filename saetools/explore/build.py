"""Build the page of an SAE: gather what is known of its latents and write one HTML file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saetools.analysis import LatentIndex
from saetools.errors import ShapeError
from saetools.evaluate import ConceptAblationReport, EvaluationReport
from saetools.explore import plots
from saetools.explore.bundle import Bundle
from saetools.explore.contexts import pack_contexts, pack_words
from saetools.explore.figures import evaluation_rows, facts, headline, training_rows
from saetools.explore.latents import (
    N_BEST_LABELS,
    concept_rows,
    figure_columns,
    label_columns,
    name_columns,
    neighbour_columns,
)
from saetools.explore.page import Page, assemble
from saetools.naming import NamesTable
from saetools.sae import SAE

__all__ = ["explore"]

logger = logging.getLogger(__name__)

_N_NEIGHBOURS = 8


def explore(
    index: LatentIndex,
    *,
    names: NamesTable | None = None,
    sae: SAE | None = None,
    evaluation: EvaluationReport | None = None,
    training: str | Path | Sequence[Mapping[str, Any]] | None = None,
    ablation: ConceptAblationReport | Sequence[ConceptAblationReport] | None = None,
    summary: str | None = None,
    title: str = "saetools",
    out: str | Path | None = None,
) -> Page:
    """Build one self-contained HTML page about the latents of an index.

    The page loads nothing from the network and sends nothing. `#latent=123` at the end of its
    address opens a latent, `#q=birthday` a search.

    Args:
        index: from `index_latents`.
        names: names of latents, from `name_latents`.
        sae: the SAE that was indexed; adds facts.
        evaluation: figures for the top of the page.
        training: metrics.jsonl of the training run, the folder that holds it, or its rows.
        ablation: what ablating a concept did, one report or several.
        summary: a sentence or two under the title.
        title: heading of the page.
        out: where to write it; None builds it in memory.

    Raises:
        ShapeError: the SAE or the names have other latents than the index.
        FormatError: `training` is missing or not a file of JSON lines.

    >>> page = explore(index, names=names, sae=sae, out="page.html")    # doctest: +SKIP
    """
    if sae is not None and sae.config.n_latents != index.n_latents:
        raise ShapeError(
            f"explore was given an index of {index.n_latents} latents and an SAE of "
            f"{sae.config.n_latents}; give the SAE that was indexed, or leave it out"
        )
    steps = plots.read_training(training)
    figures = [] if evaluation is None else evaluation_rows(evaluation)
    latents, arrays = _latents(index, names)
    head = {
        "title": title,
        "summary": summary,
        "facts": facts(index, sae, evaluation),
        "headline": headline(figures or training_rows(steps[-1] if steps else {})),
        "figures": figures,
        "training": plots.training_curve(steps),
        "firing": plots.firing_histogram(index.firing_rate),
        "widths": plots.width_curve(evaluation, index.n_latents),
        "ablation": [plots.ablation_chart(report) for report in _as_list(ablation)],
        "concepts": concept_rows(index),
        **latents,
    }
    page = Page(assemble(Bundle(head, arrays), title=title), index.n_latents)
    if out is None:
        return page
    page = page.save(out)
    logger.info("wrote %s; open it in a browser", page.path)
    return page


def _latents(index: LatentIndex, names: NamesTable | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The part of the page that is about single latents: head entries and arrays."""
    texts, name_figures = name_columns(names, index.n_latents)
    contexts, words = pack_contexts(index), pack_words(index)
    arrays = {
        **figure_columns(index),
        **name_figures,
        **label_columns(index),
        **contexts.arrays,
        **words.arrays,
    }
    arrays |= neighbour_columns(index, _N_NEIGHBOURS)
    head = {
        "n_latents": index.n_latents,
        "n_dead": index.n_latents - len(index.live),
        "n_bins": index.histogram.shape[1],
        "n_best_labels": N_BEST_LABELS,
        "n_neighbours": _N_NEIGHBOURS if (index.decoder_neighbours.ids >= 0).any() else 0,
        "has_confidence": names is not None and len(names) > 0,
        **texts,
        **contexts.texts,
        **words.texts,
    }
    return head, arrays


def _as_list(
    ablation: ConceptAblationReport | Sequence[ConceptAblationReport] | None,
) -> list[ConceptAblationReport]:
    if ablation is None:
        return []
    return list(ablation) if isinstance(ablation, Sequence) else [ablation]
