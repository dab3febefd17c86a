"""The map and what colours it, as a part of a page: places, clusters, width levels."""

import numpy as np

from saetools.analysis import LatentIndex
from saetools.explore.bundle import NONE_16
from saetools.explore.clusters import cluster_latents
from saetools.explore.contexts import Packed
from saetools.explore.layout import MapKind, lay_out
from saetools.sae import SAE

__all__ = ["pack_groups"]


def pack_groups(index: LatentIndex, sae: SAE | None, *, map: MapKind | None) -> Packed:
    """Places, clusters and levels of latents.

    Arrays (n_latents,): level, cluster (NONE_16 where it is in none), map_x and map_y (NONE_16
    where it is not on the map). Without an SAE, or with map=None, there is no map.
    """
    clusters = cluster_latents(index.coactivation)
    of_latent = np.where(clusters.of_latent < 0, NONE_16, clusters.of_latent)
    texts = {
        "clusters": [
            {"n": n, "latent": latent}
            for n, latent in zip(clusters.sizes, clusters.centres, strict=True)
        ],
        "widths": list(index.widths) if len(index.widths) > 1 else [],
        "map": None,
    }
    arrays = {"level": index.level.astype("u1"), "cluster": of_latent.astype("u2")}
    if sae is None or map is None:
        return Packed(texts, arrays)
    layout = lay_out(sae.W_dec, neighbours=index.decoder_neighbours, live=index.live, kind=map)
    grouping = ""
    if clusters.sizes:
        grouping = (
            f" Clusters are groups of latents that fire together (modularity "
            f"{clusters.modularity:.2f} of the co-activation graph); the ten largest have a colour."
        )
    texts["map"] = {"note": f"{layout.note}{grouping}"}
    return Packed(texts, {**arrays, "map_x": layout.x, "map_y": layout.y})
