"""`auto`: a choice is made once, told in the manifest, and kept by a resume."""

from pathlib import Path

import pytest
import torch

from saetools.harvest import auto
from saetools.harvest.job import Job, as_corpus
from saetools.harvest.layout import Window
from saetools.harvest.prepare import prepare
from saetools.models.base import LanguageModel, TextEncoder
from saetools.store import StoreWriter

HOOK = "blocks.0.hook_resid_post"
TEXTS = ["the dog went up the tree", "a fish"] * 10


def _job(model: LanguageModel, batch_tokens: object = "auto") -> Job:
    return Job(model, as_corpus(TEXTS), (HOOK,), "float32", 64, batch_tokens, None, 0.1, 0)


def test_on_a_cpu_one_of_the_timed_sizes_is_chosen(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    job = prepare(_job(tiny_lm), tmp_path / "a.h5")
    assert job.forward_tokens in auto.CPU_CHOICES
    assert job.manifest()["batch_tokens"] == job.forward_tokens


@pytest.mark.parametrize(("asked", "runs_with"), [("auto", 777), (500, 500)])
def test_a_resume_keeps_what_the_store_was_begun_with(
    asked: object,
    runs_with: int,
    tiny_lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = _job(tiny_lm, 777).manifest()
    n = len(TEXTS)
    held_out = torch.zeros(n, dtype=torch.bool).numpy()
    describe = {"labels": [""] * n, "titles": [""] * n, "held_out": held_out}
    StoreWriter(tmp_path / "a.h5", manifest=begun, **describe).close()
    monkeypatch.setattr("saetools.harvest.prepare.fitting_batch_tokens", None)
    job = prepare(_job(tiny_lm, asked), tmp_path / "a.h5")
    assert job.forward_tokens == runs_with
    # Less memory may be left than when it began; that does not make it another harvest.
    StoreWriter(tmp_path / "a.h5", manifest=job.manifest(), **describe).close()


def test_on_a_gpu_three_quarters_of_the_largest_that_fits(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def forward(_job: Job, chosen: list[Window]) -> None:
        tried.append(sum(len(window.ids) for window in chosen))
        if tried[-1] > 10_000:
            raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(auto, "_forward", forward)
    window = Window([5, 6, 7], [0] * 3, [0, 1, 2])
    assert auto._fitting_on_gpu(_job(tiny_lm), window) == 8192 * 3 // 4
    assert tried == [2048, 4096, 8192, 16_384]


def test_long_contexts_are_cut_for_language_models_only(
    tiny_lm: LanguageModel, tiny_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auto.default_ctx_len(tiny_lm) == tiny_lm.ctx_len
    for model in (tiny_lm, tiny_encoder):
        monkeypatch.setattr(model, "ctx_len", 100_000)
    assert auto.default_ctx_len(tiny_lm) == 1024
    assert auto.default_ctx_len(tiny_encoder) == 100_000
