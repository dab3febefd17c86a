"""The settings that `auto` stands for: how long a sequence, how many tokens a forward pass.

On a CPU a few sizes are timed; on a GPU the size is doubled until memory ends. What was chosen is
written to the store's manifest, and a resume takes it from there.
"""

import logging
import time
from collections.abc import Iterator

import torch

from saetools.harvest.job import Job
from saetools.harvest.layout import Window, as_batch, windows
from saetools.models.base import SubjectModel

__all__ = ["CPU_CHOICES", "default_ctx_len", "fitting_batch_tokens"]

logger = logging.getLogger(__name__)

CPU_CHOICES = (2048, 4096, 8192, 16_384)

# A group of documents has about 32,768 tokens, and a batch never leaves its group.
_GPU_MOST = 65_536
_PROBE_SECONDS = 4.0
_CTX_LEN = 1024
_SAMPLE_DOCS = 64


def default_ctx_len(model: SubjectModel) -> int:
    """Tokens of a sequence where none were asked for.

    A language model gets at most 1024: longer documents are split, and attention over more costs
    much. A text encoder, which truncates, gets all it takes.
    """
    return min(model.ctx_len, _CTX_LEN) if model.kind == "language_model" else model.ctx_len


def fitting_batch_tokens(job: Job) -> int:
    """Tokens of a forward pass that suit the model and the machine."""
    laid = windows(job, [document.content for document in job.corpus.documents[:_SAMPLE_DOCS]])
    if not laid:
        return CPU_CHOICES[0]
    if job.model.device.type == "cuda":
        chosen = _fitting_on_gpu(job, max(laid, key=lambda window: len(window.ids)))
    else:
        chosen = _fastest_on_cpu(job, laid)
    logger.info("batch_tokens: %s tokens a forward pass", f"{chosen:,}")
    return chosen


def _fastest_on_cpu(job: Job, laid: list[Window]) -> int:
    """The smallest of `CPU_CHOICES` within a twentieth of the fastest, timed on real windows."""
    _forward(job, laid[:1])  # the first pass pays for what later ones find ready
    rates: dict[int, float] = {}
    started = time.monotonic()
    for size in CPU_CHOICES:
        batch = list(_repeated(laid, size))
        begun = time.monotonic()
        _forward(job, batch)
        rates[size] = sum(len(window.ids) for window in batch) / (time.monotonic() - begun)
        # A slow model would pay more for the probe than it can win.
        if 2 * (time.monotonic() - begun) + (time.monotonic() - started) > _PROBE_SECONDS:
            break
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= 0.95 * best)


def _fitting_on_gpu(job: Job, longest: Window) -> int:
    """Three quarters of the largest size that fits, found by doubling, with full sequences."""
    ids = (longest.ids * job.ctx_len)[: job.ctx_len]
    full = Window(ids, [0] * len(ids), [0] * len(ids))
    fits, size = len(ids), CPU_CHOICES[0]
    try:
        while size <= _GPU_MOST:
            _forward(job, [full] * max(1, size // len(ids)))
            fits, size = size, 2 * size
    except torch.cuda.OutOfMemoryError:
        logger.info("a forward pass of %s tokens does not fit", f"{size:,}")
    finally:
        torch.cuda.empty_cache()
    return max(len(ids), fits * 3 // 4)


def _repeated(laid: list[Window], size: int) -> Iterator[Window]:
    """Windows in turn, over and over, until they hold `size` tokens, padding included."""
    longest = max(len(window.ids) for window in laid)
    for i in range(max(1, size // longest)):
        yield laid[i % len(laid)]


def _forward(job: Job, chosen: list[Window]) -> None:
    found = job.model.activations(as_batch(job, chosen), job.names)
    for x in found.values():
        x.float().sum().item()  # waits for the device
