"""The map's places: planted directions fall into their groups, dead latents are not on it."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from saetools.analysis.neighbours import nearest_latents
from saetools.errors import ConfigError
from saetools.explore.bundle import NONE_16
from saetools.explore.layout import lay_out


def planted(n_each: int, *, d: int = 12, n_groups: int = 3) -> tuple[torch.Tensor, np.ndarray]:
    """Rows near one of a few orthogonal directions, and the group of each."""
    rng = torch.Generator().manual_seed(0)
    group = np.repeat(np.arange(n_groups), n_each)
    rows = torch.eye(d)[torch.as_tensor(group)]
    return rows + 0.05 * torch.randn(len(group), d, generator=rng), group


def separated(layout_x: np.ndarray, layout_y: np.ndarray, group: np.ndarray) -> bool:
    """Whether every point is nearer to its own group's middle than to any other."""
    places = np.stack([layout_x, layout_y], 1).astype(float)
    middles = np.stack([places[group == g].mean(0) for g in np.unique(group)])
    far = ((places[:, None] - middles) ** 2).sum(-1)
    return bool((far.argmin(1) == group).all())


def test_principal_components_separate_planted_groups() -> None:
    rows, group = planted(20)
    live = np.arange(60)
    layout = lay_out(rows, neighbours=nearest_latents(rows, live=live), live=live, kind="pca")
    assert separated(layout.x, layout.y, group)
    assert "principal components" in layout.note


@pytest.mark.skipif(find_spec("umap") is None, reason="needs umap-learn (extra `map`)")
def test_umap_separates_planted_groups_and_a_seed_repeats_it() -> None:
    rows, group = planted(30, d=16, n_groups=4)
    live = np.arange(120)
    near = nearest_latents(rows, live=live)
    one = lay_out(rows, neighbours=near, live=live, kind="umap")
    assert separated(one.x, one.y, group)
    assert "UMAP" in one.note
    again = lay_out(rows, neighbours=near, live=live, kind="umap")
    assert np.array_equal(one.x, again.x)


def test_dead_latents_are_not_on_the_map() -> None:
    rows, _ = planted(10)
    live = np.arange(1, 30, 2)
    layout = lay_out(rows, neighbours=nearest_latents(rows, live=live), live=live)
    assert (layout.x[::2] == NONE_16).all()
    assert (layout.x[live] < NONE_16).all()
    assert (layout.y[live] < NONE_16).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_map_of_next_to_nothing_is_no_error(n: int) -> None:
    rows, live = torch.eye(4), np.arange(n)
    layout = lay_out(rows, neighbours=nearest_latents(rows, live=live), live=live)
    assert int((layout.x < NONE_16).sum()) == n


def test_umap_asked_for_by_name_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saetools.explore.layout.find_spec", lambda name: None)
    rows, live = torch.eye(4), np.arange(4)
    near = nearest_latents(rows, live=live)
    with pytest.raises(ConfigError, match=r"saetools\[map\]"):
        lay_out(rows, neighbours=near, live=live, kind="umap")
    rows, _ = planted(200)
    live = np.arange(600)
    note = lay_out(rows, neighbours=nearest_latents(rows, live=live), live=live).note
    assert "umap-learn is not installed" in note
