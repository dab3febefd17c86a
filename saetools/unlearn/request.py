"""What was asked of an unlearning, as plain data: what to forget, what to keep, through which SAEs.

Hashes of both sets let someone who holds the texts check that these were the ones.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from saetools.models.weights import fingerprint_weights
from saetools.repro import fingerprint
from saetools.sae import SAE
from saetools.unlearn.rows import Item, text_of

__all__ = ["describe_request"]

_N_NAMES = 60
_N_SAMPLES = 6


def describe_request(
    forget: Sequence[Item],
    retain: Sequence[Item],
    *,
    saes: Sequence[SAE],
    seed: int,
    max_perplexity_ratio: float | None,
) -> dict[str, Any]:
    """Both sets by number, entities, forms, samples and hash; SAEs, seed and guard."""
    return {
        "seed": seed,
        "max_perplexity_ratio": max_perplexity_ratio,
        "forget": _side(forget),
        "retain": _side(retain),
        "saes": [
            {
                "hook_name": sae.meta.get("hook_name"),
                "n_latents": sae.config.n_latents,
                "fingerprint": fingerprint_weights(sae),
            }
            for sae in saes
        ],
    }


def _side(items: Sequence[Item]) -> dict[str, Any]:
    questions = [item for item in items if not isinstance(item, str)]
    entities = list(dict.fromkeys(q.entity for q in questions if q.entity))
    texts = [text_of(item) for item in items]
    return {
        "n_questions": len(questions),
        "n_texts": len(items) - len(questions),
        "n_entities": len(entities),
        "entities": entities[:_N_NAMES],
        "forms": dict(Counter(q.form for q in questions if q.form)),
        "samples": texts[:: max(1, -(-len(texts) // _N_SAMPLES))],
        "fingerprint": fingerprint(texts),
    }
