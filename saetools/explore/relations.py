"""What stands near each latent, as columns for the page: neighbours, family, logit-lens tokens."""

import numpy as np
import numpy.typing as npt

from saetools.analysis import LatentIndex, Neighbours
from saetools.explore.bundle import NONE_16, NONE_32
from saetools.explore.contexts import Packed

__all__ = ["pack_logits", "pack_relations"]

_N_SHOWN = 8
_TOGETHER = (
    "Correlation of firing over the training tokens: 1 where both fire on the same tokens, 0 where "
    "they are independent."
)


def pack_relations(index: LatentIndex) -> Packed:
    """Neighbours by decoder and by co-activation, parents and children; absent ones are left out.

    Arrays: {kind}_ids (n_latents · n,) and {kind}_scores in hundredths, best first; `relations` of
    the head says n of each kind.
    """
    tables = {
        "near": index.decoder_neighbours,
        "together": index.coactivation,
        "parents": index.parents,
        "children": index.children,
    }
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    sizes = {}
    for kind, table in tables.items():
        if table is None or not (table.ids >= 0).any():
            continue
        sizes[kind] = min(_N_SHOWN, table.ids.shape[1])
        arrays |= _columns(kind, table, sizes[kind], index.n_latents)
    return Packed({"relations": sizes, "together_note": _TOGETHER}, arrays)


def pack_logits(index: LatentIndex) -> Packed:
    """Tokens that each latent promotes and suppresses, with z in tenths; none for encoders."""
    table = index.logits
    if table is None:
        return Packed({"n_logits": 0, "logit_tokens": []}, {})
    n = min(_N_SHOWN, table.top.shape[1])
    live = index.stats.n_fired[:, None] > 0
    ends = {"promoted": (table.top, table.top_z), "suppressed": (table.bottom, table.bottom_z)}
    used, places = np.unique(
        np.stack([ids[:, :n] for ids, _ in ends.values()]), return_inverse=True
    )
    places = places.reshape(2, -1, n)
    arrays = {}
    for place, (end, (_, z)) in zip(places, ends.items(), strict=True):
        arrays[f"{end}_ids"] = np.where(live, place, NONE_32).astype("u4").ravel()
        arrays[f"{end}_z"] = np.clip(np.rint(z[:, :n] * 10), -127, 127).astype("i1").ravel()
    head = {
        "n_logits": n,
        "logit_tokens": [table.tokens[t] for t in used.tolist()],
    }
    return Packed(head, arrays)


def _columns(
    kind: str, table: Neighbours, n: int, n_latents: int
) -> dict[str, npt.NDArray[np.generic]]:
    ids, scores = table.ids[:, :n], table.scores[:, :n]
    small = n_latents <= NONE_16
    return {
        f"{kind}_ids": np.where(ids < 0, NONE_16 if small else NONE_32, ids)
        .astype("u2" if small else "u4")
        .ravel(),
        f"{kind}_scores": np.clip(np.rint(scores * 100), -100, 100).astype("i1").ravel(),
    }
