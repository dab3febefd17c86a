"""Which next tokens a latent's decoder direction speaks for and against (the logit lens).

    l = unit(W_U · γ − its mean row) · w,    z = (l − mean over the vocabulary) / deviation

W_U is the unembedding, γ the gain of the final norm, w the decoder row (its mean taken away where
the norm does so). Rows of the unembedding are scaled to unit length: rare tokens with long rows
would win for every latent otherwise. It passes over all later layers, so it tells most near the
last one. Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from saetools.analysis.token_text import readable, style_of
from saetools.models.base import SubjectModel
from saetools.models.tokens import special_ids
from saetools.models.unembedding import unembedding_of, writes_to_residual

__all__ = ["LatentLogits", "LogitTable", "logit_table"]

_KEPT = 10
_BLOCK = 16_000_000  # scores held at once


@dataclass(frozen=True)
class LatentLogits:
    """Tokens that one latent promotes and suppresses, strongest first, each with its z."""

    promoted: list[tuple[str, float]]
    suppressed: list[tuple[str, float]]


@dataclass(frozen=True)
class LogitTable:
    """The logit lens of all latents.

    Args:
        tokens: readable tokens, those that stand in the table only.
        top, bottom: the tokens promoted and suppressed most, indices into `tokens`.
        top_z, bottom_z: how many deviations they lie from the mean over the vocabulary.
    """

    tokens: list[str]
    top: Int32[np.ndarray, "n_latents m"]
    bottom: Int32[np.ndarray, "n_latents m"]
    top_z: Float32[np.ndarray, "n_latents m"]
    bottom_z: Float32[np.ndarray, "n_latents m"]

    def of(self, latent: int) -> LatentLogits:
        """The tokens of one latent."""
        return LatentLogits(
            [(self.tokens[t], float(z)) for t, z in self._pairs(self.top, self.top_z, latent)],
            [
                (self.tokens[t], float(z))
                for t, z in self._pairs(self.bottom, self.bottom_z, latent)
            ],
        )

    @staticmethod
    def _pairs(tokens: np.ndarray, z: np.ndarray, latent: int) -> "zip[tuple[int, float]]":
        return zip(tokens[latent].tolist(), z[latent].tolist(), strict=True)


def logit_table(
    model: SubjectModel, W_dec: Float[Tensor, "n_latents d_out"], *, hook_name: str
) -> LogitTable | None:
    """The logit lens of every decoder row.

    Args:
        model: the subject model.
        W_dec: decoder rows.
        hook_name: where they are added.

    Returns:
        None where there is no such thing: an encoder, or a hook that is not the residual stream.
    """
    if not writes_to_residual(hook_name):
        return None
    unembedding = unembedding_of(model)
    if unembedding is None or unembedding.rows.shape[1] != W_dec.shape[1]:
        return None
    pieces = model.tokenizer.get_vocab()
    by_id = {i: piece for piece, i in pieces.items()}
    special = set(special_ids(model.tokenizer))
    # Rows past the vocabulary are padding of the matrix, and no text holds a special token.
    ids = [i for i in range(len(unembedding.rows)) if i in by_id and i not in special]
    rows = torch.nn.functional.normalize(unembedding.centred()[ids], dim=1)
    return _table(rows, W_dec, readable([by_id[i] for i in ids], style_of(pieces)))


def _table(
    rows: Float[Tensor, "vocab d_model"],
    W_dec: Float[Tensor, "n_latents d_model"],
    texts: list[str],
) -> LogitTable:
    m, block = min(_KEPT, len(rows)), max(_BLOCK // max(len(rows), 1), 1)
    found: list[list[Tensor]] = [[], [], [], []]
    for start in range(0, len(W_dec), block):
        part = W_dec[start : start + block].detach().float().to(rows.device)
        logits = part @ rows.T  # (block, vocab)
        mean, deviation = logits.mean(1, keepdim=True), logits.std(1, keepdim=True)
        z = (logits - mean) / deviation.clamp_min(1e-12)
        top, bottom = z.topk(m, dim=1), z.topk(m, dim=1, largest=False)
        columns = (top.indices, bottom.indices, top.values, bottom.values)
        for column, values in zip(found, columns, strict=True):
            column.append(values.cpu())
    top_ids, bottom_ids, top_z, bottom_z = (torch.cat(column).numpy() for column in found)
    kept, place = np.unique(np.stack([top_ids, bottom_ids]), return_inverse=True)
    numbers = place.reshape(2, *top_ids.shape).astype(np.int32)
    return LogitTable([texts[t] for t in kept.tolist()], numbers[0], numbers[1], top_z, bottom_z)
