"""A synthetic source keeps its promises: the asked frequencies, the same rows, a place to train."""

from pathlib import Path

import numpy as np
import pytest
import torch

import saetools as st
from saetools.errors import ConfigError, HookNotFoundError
from saetools.sae import build_sae
from saetools.store import ActivationSource
from saetools.testbed.planting import CHILD_CHANCE, SyntheticConfig
from saetools.testbed.synthetic import SyntheticSource


def truth(source: SyntheticSource, split: str = "all") -> torch.Tensor:
    return torch.cat([rows.on for rows in source.rows(split=split)]).double()


def test_it_stands_in_the_place_of_a_store() -> None:
    assert isinstance(SyntheticSource(SyntheticConfig(), n_tokens=100), ActivationSource)


def test_concepts_are_on_as_often_as_was_asked() -> None:
    config = SyntheticConfig(d_in=16, n_concepts=40, mean_active=4, frequency_exponent=1.0)
    source = SyntheticSource(config, n_tokens=40_000)
    assert float(source.chances.sum()) == pytest.approx(4, rel=1e-5)
    assert float(source.chances[5] / source.chances[11]) == pytest.approx(2.0, rel=1e-4)
    rate = truth(source).mean(0)
    error = (source.chances * (1 - source.chances) / 40_000).sqrt()
    assert float(((rate - source.chances).abs() / error).max()) < 4.5  # standard errors


def test_correlation_makes_groups_fire_together_and_leaves_frequencies() -> None:
    def found(correlation: float) -> tuple[float, float, float]:
        config = SyntheticConfig(
            n_concepts=16, mean_active=3.2, frequency_exponent=0, correlation=correlation
        )
        on = truth(SyntheticSource(config, n_tokens=40_000))
        table = np.corrcoef(on.T.numpy())
        inside = table[:8, :8][~np.eye(8, dtype=bool)].mean()
        return float(on.sum(1).mean()), float(inside), float(table[:8, 8:].mean())

    mean, inside, across = found(0.6)
    assert mean == pytest.approx(3.2, rel=0.02)
    assert inside > 0.3
    assert abs(across) < 0.01
    assert abs(found(0.0)[1]) < 0.01


def test_children_are_on_only_with_their_parent_and_one_at_a_time() -> None:
    config = SyntheticConfig(n_concepts=16, n_trees=4, n_children=3, tree_chance=0.3)
    source = SyntheticSource(config, n_tokens=20_000)
    on = truth(source)
    children = on[:, 4:].reshape(len(on), 4, 3).sum(2)
    assert bool((children <= on[:, :4]).all())
    share = float(children.sum() / on[:, :4].sum())
    assert share == pytest.approx(CHILD_CHANCE, abs=0.01)
    labels = source.labels()
    assert [len(family.children) for family in labels.families] == [3, 3, 3, 3]
    assert labels.names[labels.families[1].children[0]] == "parent1.child0"


def test_rows_are_the_directions_times_their_sizes() -> None:
    config = SyntheticConfig(d_in=32, n_concepts=24, noise=0.0, mean_norm=7.0, magnitude_spread=0.5)
    source = SyntheticSource(config, n_tokens=3000)
    gram = source.directions @ source.directions.T
    assert torch.allclose(gram, torch.eye(24), atol=1e-5), "they fit, so they are orthonormal"
    rows = next(source.rows())
    sizes = (rows.x - source._centre) @ source.directions.T
    assert torch.allclose(sizes, rows.sizes, atol=1e-4)
    medians = torch.stack([rows.sizes[:, j][rows.on[:, j]].median() for j in range(8)])
    assert float(medians.log().std()) > 0.2
    assert float(source._centre.norm()) == pytest.approx(7.0, rel=1e-5)


def test_more_concepts_than_dimensions_have_unit_directions() -> None:
    source = SyntheticSource(SyntheticConfig(d_in=8, n_concepts=30), n_tokens=10)
    assert torch.allclose(source.directions.norm(dim=1), torch.ones(30), atol=1e-5)


def test_a_row_depends_on_seed_and_number_alone() -> None:
    config = SyntheticConfig(d_in=8, n_concepts=16)
    few, many = (SyntheticSource(config, n_tokens=n, seed=3) for n in (2500, 2_000_000_000))
    one, two = (torch.cat([r.x for r in s.rows(n_rows=2500)])[:2500] for s in (few, many))
    assert torch.equal(one, two)
    other = SyntheticSource(config, n_tokens=2500, seed=4)
    assert not torch.equal(next(other.rows()).x, next(few.rows()).x)
    assert many.n_tokens == 2_000_000_000  # and nothing of that size was made


def test_a_source_of_any_length_is_read_in_little_memory() -> None:
    """The rows would be 26 GB; what is held is two pools of 32 chunks, 8 MB, and two batches."""
    source = SyntheticSource(SyntheticConfig(d_in=32, n_concepts=16), n_tokens=200_000_000)
    assert source.n_batches(1024) == source.n_rows("train") // 1024
    first = next(iter(source.batches(1024, seed=0)))
    assert first.shape == (1024, 32)
    made: list[int] = []
    inner = source._chunk
    source._chunk = lambda number: made.append(number) or inner(number)  # type: ignore[assignment,func-returns-value]
    reader = source.batches(1024, seed=0)
    for _ in range(3):
        next(reader)
    assert len(made) <= 2 * 32, "two pools at most"


def test_batches_are_the_rows_of_their_split_each_once_and_go_on_where_asked() -> None:
    source = SyntheticSource(
        SyntheticConfig(d_in=8, n_concepts=16), n_tokens=9216, held_out_fraction=0.3
    )
    assert source.n_rows("train") + source.n_rows("held_out") == 9216
    batches = list(source.batches(512, seed=1, split="train"))
    assert len(batches) == source.n_batches(512)
    wanted = torch.cat([rows.x for rows in source.rows(split="train")])
    got = torch.cat(batches)
    assert not torch.equal(got, wanted), "shuffled"
    assert torch.equal(got[got[:, 0].argsort()], wanted[wanted[:, 0].argsort()])
    later = list(source.batches(512, seed=1, start=3))
    assert all(torch.equal(a, b) for a, b in zip(later, batches[3:], strict=True))
    assert not torch.equal(next(iter(source.batches(512, seed=2))), batches[0])


def test_moments_are_those_of_the_training_rows() -> None:
    source = SyntheticSource(SyntheticConfig(d_in=8, n_concepts=16, mean_norm=3.0), n_tokens=8000)
    x = torch.cat([rows.x for rows in source.rows(split="train")]).double()
    moments = source.moments()
    assert np.allclose(moments.mean, x.mean(0).numpy())
    assert np.allclose(moments.variance, x.var(0, correction=0).numpy())


def test_a_store_of_it_has_the_same_rows_splits_and_labels(tmp_path: Path) -> None:
    config = SyntheticConfig(d_in=8, n_concepts=16, n_trees=2, mean_active=2)
    source = SyntheticSource(config, n_tokens=5000, held_out_fraction=0.4)
    with source.write(tmp_path / "acts.h5") as store:
        for split in ("train", "held_out"):
            streamed = torch.cat([batch.x for batch in store.stream(split=split)])
            assert torch.equal(streamed, torch.cat([r.x for r in source.rows(split=split)]))
        assert store.n_tokens == len(source.labels()) == 5000
    with source.write(tmp_path / "acts.h5") as again:  # a finished one is opened as it is
        assert again.n_tokens == 5000


def test_an_sae_trained_on_the_stream_is_the_one_trained_on_the_store(tmp_path: Path) -> None:
    source = SyntheticSource(SyntheticConfig(d_in=16, n_concepts=24), n_tokens=20_000)
    sae = build_sae("topk", d_in=16, n_latents=32, k=4)
    config = st.TrainConfig(n_tokens=60 * 512, batch_tokens=512, lr=3e-3)
    trained = st.train(sae, source, config)
    assert trained.meta["trained_tokens"] == 60 * 512
    again = st.train(sae, source, config)
    assert torch.equal(trained.W_dec, again.W_dec)
    x = torch.cat([rows.x for rows in source.rows(split="held_out")])
    fvu = float((trained(x) - x).square().sum() / (x - x.mean(0)).square().sum())
    with source.write(tmp_path / "acts.h5") as store:
        other = st.train(sae, store, config)
    other_fvu = float((other(x) - x).square().sum() / (x - x.mean(0)).square().sum())
    assert fvu == pytest.approx(other_fvu, abs=0.05)
    assert fvu < 0.6


def test_impossible_worlds_are_refused() -> None:
    with pytest.raises(ConfigError, match="take 16 concepts, but n_concepts is 10"):
        SyntheticConfig(n_concepts=10, n_trees=4, n_children=3)
    with pytest.raises(ConfigError, match="half of the 8"):
        SyntheticConfig(n_concepts=8, mean_active=6)
    with pytest.raises(ConfigError, match="correlation"):
        SyntheticConfig(correlation=1.0)
    with pytest.raises(ConfigError, match="n_tokens=0"):
        SyntheticSource(SyntheticConfig(), n_tokens=0)
    with pytest.raises(HookNotFoundError, match="one hook"):
        SyntheticSource(SyntheticConfig(), n_tokens=10).width("resid_post.3")
