"""The outlier filter: planted giants are dropped and counted, by one rule, resumed or not."""

from pathlib import Path

import pytest
import torch

from saetools.harvest import harvest
from saetools.harvest.batching import groups
from saetools.harvest.job import Job, as_corpus
from saetools.harvest.options import HarvestOptions
from saetools.harvest.outliers import n_dropped, norm_limits, unfiltered
from saetools.harvest.rows import read_group
from saetools.models.base import Edit, LanguageModel

HOOK = "blocks.1.hook_resid_post"
TEXTS = [f"the dog saw {word} things that day" for word in ("old", "little", "happy", "big") * 6]


def _giant_at(place: int) -> Edit:
    """Multiplies the activation at one place of each sequence by 1000."""

    def edit(x: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, place] *= 1000
        return x

    return edit


def _job(model: LanguageModel, multiple: float | None) -> Job:
    options = HarvestOptions(max_norm_multiple=multiple)
    return Job(model, as_corpus(TEXTS), (HOOK,), "float32", 64, 256, None, 0.1, 0, options)


def test_planted_giants_are_dropped_and_nothing_else(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    asked = {"hook_name": HOOK, "dtype": "float32"}
    clean = harvest(tiny_lm, TEXTS, out=tmp_path / "clean.h5", **asked)
    with tiny_lm.editing({HOOK: _giant_at(3)}):
        store = harvest(tiny_lm, TEXTS, out=tmp_path / "a.h5", max_norm_multiple=10.0, **asked)
    columns = clean.columns(0, clean.n_tokens)
    kept = columns.pos != 3
    assert store.columns(0, store.n_tokens).pos.tolist() == columns.pos[kept].tolist()
    assert torch.equal(
        store.rows(0, store.n_tokens), clean.rows(0, clean.n_tokens)[torch.from_numpy(kept)]
    )
    assert n_dropped(tmp_path / "a.h5") == len(TEXTS)
    assert n_dropped(tmp_path / "clean.h5") == 0


def test_the_limit_is_the_multiple_of_the_median_norm(tiny_lm: LanguageModel) -> None:
    job = _job(tiny_lm, 3.0)
    (group,) = groups(job.corpus.documents, group_tokens=10**6, ctx_len=job.doc_tokens)
    x = read_group(unfiltered(job), group).activations[HOOK]
    assert norm_limits(job) == (3 * float(x.norm(dim=1).median()),)
    assert norm_limits(_job(tiny_lm, None)) is None


def test_counts_follow_the_cut_at_n_tokens(tiny_lm: LanguageModel) -> None:
    with tiny_lm.editing({HOOK: _giant_at(3)}):
        job = _job(tiny_lm, 10.0)
        job = job._replace(norm_limits=norm_limits(job))
        (group,) = groups(job.corpus.documents, group_tokens=10**6, ctx_len=job.doc_tokens)
        rows = read_group(job, group)
    assert rows.n_dropped == len(TEXTS)
    first = rows.until(1)
    assert (len(first.counts), first.n_dropped) == (1, 1)
    assert len(first.columns.doc) == first.counts[0]


def test_a_resumed_harvest_judges_by_the_limit_it_began_with(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saetools.harvest.harvester._GROUP_TOKENS", 40)
    asked = {"hook_name": HOOK, "max_norm_multiple": 10.0}
    with tiny_lm.editing({HOOK: _giant_at(3)}):
        whole = harvest(tiny_lm, TEXTS, out=tmp_path / "whole.h5", **asked)
        real, calls = tiny_lm.activations, []

        def dying(tokens, names):  # type: ignore[no-untyped-def]
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(tokens, names)

        with monkeypatch.context() as patch:
            patch.setattr(tiny_lm, "activations", dying)
            with pytest.raises(KeyboardInterrupt):
                harvest(tiny_lm, TEXTS, out=tmp_path / "parts.h5", **asked)
        # A limit that is found anew would be found in vain: it is read from the store.
        monkeypatch.setattr("saetools.harvest.prepare.norm_limits", None)
        parts = harvest(tiny_lm, TEXTS, out=tmp_path / "parts.h5", **asked)
    n = whole.n_tokens
    assert torch.equal(whole.rows(0, n), parts.rows(0, n))
    assert n_dropped(tmp_path / "parts.h5") == n_dropped(tmp_path / "whole.h5") == len(TEXTS)


def test_a_broken_activation_is_reported_and_not_filtered_away(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tiny_lm.activations

    def broken(tokens, names):  # type: ignore[no-untyped-def]
        found = real(tokens, names)
        found[HOOK][0, 2, 0] = float("inf")
        return found

    monkeypatch.setattr(tiny_lm, "activations", broken)
    with pytest.raises(OSError, match="is inf in document"):
        harvest(tiny_lm, TEXTS, hook_name=HOOK, out=tmp_path / "a.h5", max_norm_multiple=10.0)
