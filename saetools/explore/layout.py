"""Where each latent stands on the map: decoder rows brought down to two dimensions.

UMAP where umap-learn is installed: near latents stay near, distances between far groups mean
little. Else the first two principal components, which are honest about distance and crowd the
middle. Source: McInnes, Healy & Melville 2018, "UMAP".
"""

import logging
import warnings
from importlib.util import find_spec
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.linalg import eigh
from torch import Tensor

from saetools.analysis import Neighbours
from saetools.errors import ConfigError
from saetools.explore.bundle import NONE_16

__all__ = ["Layout", "MapKind", "lay_out"]

logger = logging.getLogger(__name__)

MapKind = Literal["auto", "umap", "pca"]

_FEWEST_FOR_UMAP = 400  # below, 15 neighbours are no neighbourhood, and the import takes longer
_N_NEIGHBOURS = 15  # itself among them


class Layout(NamedTuple):
    """Places on the map.

    Args:
        x, y: (n_latents,) in 0 to 65534, NONE_16 for latents that are not on it.
        note: how the places came about, for the reader of the map.
    """

    x: npt.NDArray[np.uint16]
    y: npt.NDArray[np.uint16]
    note: str


def lay_out(
    W_dec: Float[Tensor, "n_latents d_out"],
    *,
    neighbours: Neighbours,
    live: npt.NDArray[np.int64],
    kind: MapKind = "auto",
    seed: int = 0,
) -> Layout:
    """Lay out the live latents by the direction of their decoder rows.

    Args:
        W_dec: decoder rows.
        neighbours: `index.decoder_neighbours`, which UMAP starts from.
        live: latents that go on the map.
        kind: "umap", "pca", or "auto": UMAP where it is installed and there are 400 latents.
        seed: of UMAP.

    Raises:
        ConfigError: UMAP was asked for by name, and umap-learn is not installed.
    """
    there = find_spec("umap") is not None
    if kind == "umap" and not there:
        raise ConfigError(
            "a UMAP map was asked for, and umap-learn is not installed; run "
            "`pip install saetools[map]`, or take map='pca'"
        )
    rows = torch.nn.functional.normalize(W_dec.detach().float().cpu()[torch.as_tensor(live)], dim=1)
    enough = len(live) >= _FEWEST_FOR_UMAP
    if kind == "umap" or (kind == "auto" and there and enough):
        places = _umap(rows.numpy(), neighbours, live, seed)
        nearest = float(np.median(neighbours.scores[live, 0]))
        note = (
            "Places by UMAP of decoder rows: near latents write alike, and far distances mean "
            f"little. The nearest other row has a cosine of {nearest:.2f} in the median."
        )
    else:
        places, share = _components(rows, 2)
        why = "" if there or not enough else " (umap-learn is not installed)"
        note = (
            f"Places by the first two principal components of decoder rows{why}, which hold "
            f"{share:.0%} of their variance."
        )
    x, y = np.full((2, len(W_dec)), NONE_16, dtype=np.uint16)
    if len(live):
        x[live], y[live] = _spread(places[:, 0]), _spread(-places[:, 1])
    return Layout(x, y, note)


def _components(rows: Float[Tensor, "n d"], n: int) -> tuple[npt.NDArray[np.float32], float]:
    """The first `n` principal components of the rows, and their share of the variance."""
    if len(rows) == 0:
        return np.zeros((0, n), dtype=np.float32), 0.0
    centred = rows - rows.mean(0)
    spread = (centred.T @ centred).double().numpy()
    first = max(len(spread) - n, 0)
    values, vectors = eigh(spread, subset_by_index=[first, len(spread) - 1])
    top = vectors[:, ::-1]
    # The sign of an eigenvector is chance; its largest entry is positive here.
    sign = np.sign(np.take_along_axis(top, np.abs(top).argmax(0, keepdims=True), 0))
    found = centred.numpy() @ (top * sign).astype(np.float32)
    if found.shape[1] < n:
        found = np.pad(found, ((0, 0), (0, n - found.shape[1])))
    share = float(np.maximum(values, 0).sum() / max(np.trace(spread), 1e-12))
    return found, share


def _umap(
    rows: npt.NDArray[np.float32], neighbours: Neighbours, live: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.float32]:
    """UMAP over the exact neighbours that the index has, so that none are searched for."""
    # heavy and optional: numba and some seconds of import
    from umap import UMAP

    logger.info("laying out %d latents with UMAP", len(rows))
    place = np.full(len(neighbours.ids), -1)
    place[live] = np.arange(len(live))
    near = min(_N_NEIGHBOURS, neighbours.ids.shape[1] + 1, len(live))
    others, itself = place[neighbours.ids[live, : near - 1]], np.arange(len(live))[:, None]
    far = np.clip(1 - neighbours.scores[live, : near - 1], 0, None)
    known = (np.hstack([itself, others]), np.hstack([np.zeros_like(far[:, :1]), far]))
    with warnings.catch_warnings():
        # It says that it will not place new points, and that a seed costs it its threads.
        warnings.filterwarnings("ignore", category=UserWarning, module="umap")
        mapper = UMAP(
            n_neighbors=near,
            min_dist=0.1,
            metric="cosine",
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=known,
            force_approximation_algorithm=True,  # else it takes all distances of small sets anew
        )
        found: npt.NDArray[np.float32] = mapper.fit_transform(rows)
    return found


def _spread(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Values as places in 0 to 65534; a few outliers do not press the rest together."""
    low, high = np.quantile(values, [0.002, 0.998])
    wide = max(float(high - low), 1e-12)
    kept = np.clip(values, low - 0.08 * wide, high + 0.08 * wide)
    bottom, top = float(kept.min()), float(kept.max())
    spread = (kept - bottom) / max(top - bottom, 1e-12)
    places: npt.NDArray[np.uint16] = np.rint(spread * (NONE_16 - 1)).astype(np.uint16)
    return places
