"""The norm above which a token counts as an outlier (an attention sink): found once, then fixed.

Medians are taken over the first documents of the corpus, before anything is written, and the limits
go into the store's manifest. So every row of a harvest, resumed or not, is judged by one rule.
"""

import logging
from pathlib import Path

import h5py

from saetools.harvest.batching import groups
from saetools.harvest.job import Job
from saetools.harvest.rows import read_group

__all__ = ["CALIBRATION_TOKENS", "n_dropped", "norm_limits", "unfiltered"]

logger = logging.getLogger(__name__)

CALIBRATION_TOKENS = 8192


def norm_limits(job: Job) -> tuple[float, ...] | None:
    """Largest norm of a kept row at each hook; None where no filter was asked for.

    It is `max_norm_multiple` times the median norm of the rows of the first documents, about
    `CALIBRATION_TOKENS` tokens.
    """
    multiple = job.options.max_norm_multiple
    if multiple is None:
        return None
    plain = unfiltered(job)
    documents = job.corpus.documents
    for group in groups(documents, group_tokens=CALIBRATION_TOKENS, ctx_len=job.doc_tokens):
        rows = read_group(plain, group)
        if sum(rows.counts) == 0:
            continue
        medians = [float(rows.activations[n].float().norm(dim=1).median()) for n in job.names]
        for name, median in zip(job.names, medians, strict=True):
            logger.info("%s: median norm %.4g, limit %.4g", name, median, multiple * median)
        return tuple(multiple * median for median in medians)
    return tuple(0.0 for _ in job.names)  # there is no row to judge


def unfiltered(job: Job) -> Job:
    """The same job without a filter."""
    return job._replace(
        options=job.options.model_copy(update={"max_norm_multiple": None}), norm_limits=None
    )


def n_dropped(path: str | Path) -> int:
    """Rows that the filter left out of a store; 0 where it had none."""
    with h5py.File(path, "r") as file:
        turn = int(file.attrs["committed"][2])
        return int(file.attrs["dropped"][turn % 2]) if "dropped" in file.attrs else 0
