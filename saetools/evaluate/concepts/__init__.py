"""What metrics of concepts share: labelled texts, their pooled latents, probes and scores."""

from saetools.evaluate.concepts.choose import Chosen, choose_texts
from saetools.evaluate.concepts.pooled import PooledTexts, pool_batches, pool_texts

__all__ = ["Chosen", "PooledTexts", "choose_texts", "pool_batches", "pool_texts"]
