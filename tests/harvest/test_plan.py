"""The plan of a harvest: near what the harvest then is; one that cannot fit is refused at once."""

from pathlib import Path
from typing import Any

import pytest

from saetools.errors import StoreError
from saetools.harvest import harvest, plan
from saetools.harvest.job import Job, as_corpus
from saetools.harvest.options import HarvestOptions
from saetools.harvest.plan import plan_harvest
from saetools.models.base import LanguageModel, TextEncoder

HOOKS = ("blocks.1.hook_resid_post", "blocks.0.hook_resid_post")
TEXTS = [f"document {i} tells of " + "birds and stones " * (i % 9 + 1) for i in range(600)]


def _job(model: LanguageModel | TextEncoder, *, n_tokens: int | None = None, **options: str) -> Job:
    return Job(
        model,
        as_corpus(TEXTS),
        HOOKS,
        "float16",
        64,
        2048,
        n_tokens,
        0.1,
        0,
        HarvestOptions(**options),
    )


@pytest.mark.parametrize(("packing", "dtype"), [("none", "float16"), ("joined", "int8")])
def test_predicted_tokens_and_bytes_are_near_the_actual_ones(
    packing: str, dtype: Any, tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    out = tmp_path / "a.h5"
    predicted = plan_harvest(_job(tiny_lm, packing=packing)._replace(dtype=dtype), out)
    assert not out.exists()
    asked = {"ctx_len": 64, "packing": packing, "dtype": dtype}
    store = harvest(tiny_lm, TEXTS, hook_name=HOOKS, out=out, **asked)
    assert predicted.n_tokens == pytest.approx(store.n_tokens, rel=0.1)
    assert predicted.n_bytes == pytest.approx(out.stat().st_size, rel=0.2)
    assert predicted.seconds is not None
    assert predicted.seconds > 0
    assert predicted.n_docs == len(TEXTS)


def test_a_pooled_harvest_is_planned_by_document(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    assert plan_harvest(_job(tiny_encoder, pooling="cls"), tmp_path / "a").n_tokens == len(TEXTS)


def test_a_small_corpus_is_predicted_exactly(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    job = _job(tiny_lm)._replace(corpus=as_corpus(TEXTS[:50]))
    store = harvest(tiny_lm, TEXTS[:50], hook_name=HOOKS, out=tmp_path / "a.h5", ctx_len=64)
    assert plan_harvest(job, tmp_path / "b.h5").n_tokens == store.n_tokens


def test_the_plan_ends_where_n_tokens_does(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    assert plan_harvest(_job(tiny_lm, n_tokens=300), tmp_path / "a.h5").n_tokens == 300


def test_a_harvest_that_cannot_fit_is_refused_before_it_starts(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = plan_harvest(_job(tiny_lm), tmp_path / "a.h5").n_bytes
    monkeypatch.setattr(plan, "free_bytes", lambda _path: needed)
    with pytest.raises(StoreError, match=rf"needs about [\d,]+ bytes .* {needed:,} are free"):
        harvest(tiny_lm, TEXTS, hook_name=HOOKS, out=tmp_path / "a.h5", ctx_len=64)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(plan, "free_bytes", lambda _path: int(needed * 1.06))
    harvest(tiny_lm, TEXTS, hook_name=HOOKS, out=tmp_path / "a.h5", ctx_len=64)
    # What is there already needs no room.
    monkeypatch.setattr(plan, "free_bytes", lambda _path: 0)
    assert harvest(tiny_lm, TEXTS, hook_name=HOOKS, out=tmp_path / "a.h5", ctx_len=64).complete


def test_free_bytes_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert plan.free_bytes(tmp_path / "new" / "folder" / "a.h5") > 0
