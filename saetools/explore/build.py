"""Build the explorer of an SAE: gather what is known of its latents, for a page and a widget."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex
from saetools.errors import ShapeError
from saetools.evaluate import ConceptAblationReport, EvaluationReport
from saetools.explore import plots
from saetools.explore.bundle import Bundle
from saetools.explore.contexts import Packed, pack_contexts, pack_words
from saetools.explore.figures import evaluation_rows, facts, headline, training_rows
from saetools.explore.groups import pack_groups
from saetools.explore.latents import (
    N_BEST_LABELS,
    concept_rows,
    figure_columns,
    label_columns,
    name_columns,
    score_columns,
)
from saetools.explore.layout import MapKind
from saetools.explore.live import Live
from saetools.explore.page import Page, assemble_explorer
from saetools.explore.reading import pack_texts, read_documents, read_texts
from saetools.explore.relations import pack_logits, pack_relations
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.repro import fingerprint
from saetools.sae import SAE

__all__ = ["explore"]

logger = logging.getLogger(__name__)


def explore(
    index: LatentIndex,
    *,
    names: NamesTable | None = None,
    scores: Mapping[str, npt.NDArray[np.floating]] | None = None,
    sae: SAE | None = None,
    model: SubjectModel | None = None,
    save_names: str | Path | None = None,
    prompts: Sequence[str] | int = 24,
    map: MapKind | None = "auto",
    evaluation: EvaluationReport | None = None,
    training: str | Path | Sequence[Mapping[str, Any]] | None = None,
    ablation: ConceptAblationReport | Sequence[ConceptAblationReport] | None = None,
    summary: str | None = None,
    title: str = "saetools",
    out: str | Path | None = None,
) -> Page:
    """Look at the latents of an index: a widget in Jupyter, one self-contained HTML page on disk.

    The page loads nothing from the network and sends nothing. `#latent=123` at the end of its
    address opens a latent, `#q=birthday` a search.

    Args:
        index: from `index_latents`.
        names: names of latents, from `name_latents`.
        scores: columns by name, each with a number a latent, NaN where there is none; e.g.
            `score_names(...).columns(index.n_latents)`. The first is shown first.
        sae: the SAE that was indexed; adds facts and the map.
        model: its subject model; with `sae` the widget reads any text and steers.
        save_names: CSV that takes the names edited in the widget; without, `page.widget.names` has
            them. A page keeps them in the browser and exports them.
        prompts: texts whose latents the page shows token by token, read with `model` and `sae`; or
            how many training documents of the index.
        map: how the map is laid out: "umap", "pca", "auto" for UMAP where umap-learn is installed,
            None for no map.
        evaluation: figures for the top of the page.
        training: metrics.jsonl of the training run, the folder that holds it, or its rows.
        ablation: what ablating a concept did, one report or several.
        summary: a sentence or two under the title.
        title: heading of the page.
        out: where to write the page; None builds it in memory.

    Raises:
        ShapeError: the SAE, the names or the scores have other latents than the index.
        FormatError: `training` is missing or not a file of JSON lines.
        ConfigError: `prompts` has texts and the model or the SAE is missing.

    >>> page = explore(index, names=names, sae=sae, out="page.html")    # doctest: +SKIP
    """
    if sae is not None and sae.config.n_latents != index.n_latents:
        raise ShapeError(
            f"explore was given an index of {index.n_latents} latents and an SAE of "
            f"{sae.config.n_latents}; give the SAE that was indexed, or leave it out"
        )
    steps = plots.read_training(training)
    figures = [] if evaluation is None else evaluation_rows(evaluation)
    texts = (
        read_documents(index, n=prompts)
        if isinstance(prompts, int)
        else read_texts(index, prompts, model=model, sae=sae)
    )
    latents, arrays = _latents(index, names, scores)
    parts = (*_parts(index), pack_groups(index, sae, map=map), pack_texts(texts))
    head = {
        "title": title,
        "summary": summary,
        "facts": facts(index, sae, evaluation),
        "headline": headline(figures or training_rows(steps[-1] if steps else {})),
        "figures": figures,
        "training": plots.training_curve(steps),
        "firing": plots.firing_histogram(index.firing_rate),
        "widths_chart": plots.width_curve(evaluation, index.n_latents),
        "ablation": [plots.ablation_chart(report) for report in _as_list(ablation)],
        "concepts": concept_rows(index),
        "model_kind": None if model is None else model.kind,
        **latents,
    }
    for part in parts:
        head |= part.texts
        arrays |= part.arrays
    bundle = Bundle(head, arrays)
    live = Live(index, names=names, names_path=save_names, sae=sae, model=model)
    page = Page(assemble_explorer(bundle, title=title), index.n_latents, bundle=bundle, live=live)
    if out is None:
        return page
    page = page.save(out)
    logger.info("wrote %s; open it in a browser", page.path)
    return page


def _latents(
    index: LatentIndex,
    names: NamesTable | None,
    scores: Mapping[str, npt.NDArray[np.floating]] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is one number or text for each latent: head entries and arrays."""
    texts, of_names = name_columns(names, index.n_latents)
    listed, columns = score_columns(scores, of_names, index.n_latents)
    head = {
        "fingerprint": fingerprint([dict(index.source), index.stats.n_fired.tolist()]),
        "n_latents": index.n_latents,
        "n_dead": index.n_latents - len(index.live),
        "n_bins": index.histogram.shape[1],
        "n_best_labels": N_BEST_LABELS,
        "scores": listed,
        **texts,
    }
    return head, {**figure_columns(index), **columns, **label_columns(index)}


def _parts(index: LatentIndex) -> tuple[Packed, ...]:
    """What is a list for each latent."""
    return pack_contexts(index), pack_words(index), pack_relations(index), pack_logits(index)


def _as_list(
    ablation: ConceptAblationReport | Sequence[ConceptAblationReport] | None,
) -> list[ConceptAblationReport]:
    if ablation is None:
        return []
    return list(ablation) if isinstance(ablation, Sequence) else [ablation]
