"""Statistics of latents by row and by text are those of the dense codes."""

import torch

from saetools.erase import LabelledRows, Place, SelectConfig, select_latents
from saetools.erase.latent_stats import (
    active_quantile,
    latent_rows,
    latent_stats,
    text_peaks,
    text_stats,
)
from saetools.testing.concept import PlantedConcept, planted_concept


def test_rows_are_counted_as_in_the_dense_codes(planted: PlantedConcept) -> None:
    z = planted.sae.encode(planted.rows.x).dense()
    found = latent_stats(planted.sae, planted.rows.x)
    assert found.n == len(z)
    assert torch.allclose(found.rate, (z != 0).float().mean(0), atol=1e-6)
    assert torch.allclose(found.mean, z.mean(0), atol=1e-6)
    assert torch.allclose(found.mean_square, (z**2).mean(0), atol=1e-6)
    some = torch.tensor([5, 2])
    assert torch.equal(latent_rows(planted.sae, planted.rows.x, some), z[:, some])


def test_texts_are_counted_by_their_largest_activation() -> None:
    planted = planted_concept(n_texts=150, n_rows=3)  # more than are worked on at once
    z = planted.sae.encode(planted.rows.x).dense()
    largest = z.view(150, 3, -1).amax(1)
    assert torch.equal(torch.cat(list(text_peaks(planted.sae, planted.rows))), largest)
    side = planted.rows.text_labels == 0
    found = text_stats(planted.sae, planted.rows, forget=False)
    assert found.n == int(side.sum())
    assert torch.allclose(found.rate, (largest[side] != 0).float().mean(0), atol=1e-6)
    assert torch.allclose(found.mean, largest[side].mean(0), atol=1e-6)


def test_a_quantile_is_over_the_rows_on_which_a_latent_fires() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert torch.equal(active_quantile(z, 0.5), torch.tensor([2.0, 0.0]))


def test_rejections_add_up_to_the_dictionary(planted: PlantedConcept) -> None:
    found = select_latents(planted.sae, planted.rows, SelectConfig(n_latents=2))
    assert len(found.latents) + sum(found.rejected.values()) == 24
    assert found.rejected["ranked below n_latents"] >= 1
    scores = [row["score"] for row in found.evidence]
    assert scores == sorted(scores, reverse=True)
    gap = latent_stats(planted.sae, planted.rows.x[planted.rows.forget]).mean
    gap = gap - latent_stats(planted.sae, planted.rows.x[~planted.rows.forget]).mean
    assert found.latents.tolist() == gap.topk(2).indices.tolist()


def test_places_are_counted_within_texts() -> None:
    place = Place.of_texts(torch.tensor([7, 7, 7, 9, 2, 2]))
    assert place.text.tolist() == [0, 0, 0, 1, 2, 2]
    assert place.pos.tolist() == [0, 1, 2, 0, 0, 1]
    assert place.n_texts == 3
    text = torch.tensor([7, 7, 7, 9, 2, 2])
    rows = LabelledRows(torch.zeros(6, 2), torch.tensor([1, 1, 1, 0, 2, 2]), text)
    assert rows.text_labels.tolist() == [1, 0, 2]
