"""What is settled before the first row is written: options, `auto`, outlier limits, disk space.

What an unfinished store says of itself is taken from there, so that a resume repeats it.
"""

import json
import logging
from pathlib import Path
from typing import Any

import h5py

from saetools.harvest.auto import fitting_batch_tokens
from saetools.harvest.distributed import shards_of
from saetools.harvest.job import Job
from saetools.harvest.outliers import norm_limits
from saetools.harvest.plan import refuse_if_full
from saetools.store.journal import recover

__all__ = ["prepare"]

logger = logging.getLogger(__name__)


def prepare(job: Job, out: str | Path) -> Job:
    """The same job with nothing left to find out: `batch_tokens` a number, `norm_limits` known.

    Raises:
        ConfigError: an option does not suit the model.
        StoreError: the disk has no room for what the harvest will write.
    """
    job.check()
    logger.info("special tokens are %s, padding is never stored", job.options.special_tokens)
    held, complete = _begun(Path(out))
    settled = _settled(job, held)
    if not complete:
        refuse_if_full(settled, out)
    return settled


def _settled(job: Job, held: dict[str, Any]) -> Job:
    found = held.get("batch_tokens")
    if job.batch_tokens == "auto":
        size = found if isinstance(found, int) else fitting_batch_tokens(job)
        job = job._replace(batch_tokens=size)
    elif isinstance(found, int):
        # Whoever ran out of memory goes on with less: rows are the same but for rounding.
        job = job._replace(begun_with=found)
    if job.options.max_norm_multiple is None or job.norm_limits is not None:
        return job
    judged = held.get("outliers") or {}
    limits = judged.get("norm_limits", {})
    same_rule = judged.get("max_norm_multiple") == job.options.max_norm_multiple
    if same_rule and set(limits) == set(job.names):
        return job._replace(norm_limits=tuple(limits[name] for name in job.names))
    return job._replace(norm_limits=norm_limits(job))


def _begun(path: Path) -> tuple[dict[str, Any], bool]:
    """What a store that is there, or a shard of it, says of itself, and whether it is complete.

    Whether it is the same harvest, or a store at all, is for the writer to say.
    """
    begun = [part for part in (path, *shards_of(path)) if part.is_file()]
    if not begun:
        return {}, False
    try:
        recover(begun[0])
        with h5py.File(begun[0], "r") as file:
            manifest: dict[str, Any] = json.loads(file.attrs["manifest"])
            return manifest, bool(file.attrs["complete"]) and begun[0] == path
    except (OSError, KeyError, json.JSONDecodeError):
        return {}, False
