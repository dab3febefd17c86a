"""What dictionary_learning's classes hold, from an SAE of ours: the way that writes."""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats.base import Note, fold_centre
from saetools.sae import SAE, Normed

__all__ = ["TRAINERS", "theirs"]

TRAINERS = {
    "AutoEncoder": "StandardTrainer",
    "GatedAutoEncoder": "GatedSAETrainer",
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "MatryoshkaBatchTopKSAE": "MatryoshkaBatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
}
"""The trainer that makes each class there."""


def theirs(sae: SAE, *, known: Iterable[str]) -> tuple[str, dict[str, Tensor], list[Note]]:
    """Their class and state dict of an SAE of ours, and what was changed.

    Raises:
        FormatError: they have no class for it, or it has no threshold yet.
    """
    if isinstance(sae, Normed) or sae.config.type not in known:
        what = "over normalised inputs" if isinstance(sae, Normed) else sae.config.type
        raise FormatError(
            f"dictionary_learning has no class for an SAE {what}; it has those for "
            f"{', '.join(known)}"
        )
    own = {name: tensor.detach().cpu().float() for name, tensor in sae.state_dict().items()}
    notes = [Note("lost", "settings of training")]
    kind, threshold = sae.config.type, own.get("threshold")
    if threshold is not None and bool(threshold.isnan().any()):
        raise FormatError(
            f"this {kind} SAE has no threshold yet, so other tools cannot read it; train it, or "
            "call saetools.train.calibrate(sae, store)"
        )
    linear = {
        "encoder.weight": own["W_enc_rows"].contiguous(),
        "encoder.bias": own["b_enc"],
        "decoder.weight": own["W_dec"].T.contiguous(),
    }
    plain = {"W_enc": own["W_enc_rows"].T.contiguous(), "W_dec": own["W_dec"].contiguous()}
    if kind == "standard":
        return "AutoEncoder", linear | {"bias": own["b_dec"]}, [*notes, *_lost_widths(sae)]
    if kind == "gated":
        linear["gate_bias"] = linear.pop("encoder.bias")
        more = {"decoder_bias": own["b_dec"], "r_mag": own["r_mag"], "mag_bias": own["b_mag"]}
        return "GatedAutoEncoder", linear | more, notes
    if kind == "jumprelu":
        assert threshold is not None
        b_enc = (own["b_enc"].double() - fold_centre(plain["W_enc"], own["b_dec"])).float()
        notes.append(Note("b_dec", "not taken off the input there, so b_enc loses b_dec @ W_enc"))
        more = {"b_enc": b_enc, "b_dec": own["b_dec"], "threshold": threshold}
        return "JumpReluAutoEncoder", plain | more, notes
    shared = {"b_dec": own["b_dec"], "k": torch.tensor(sae.config.model_dump()["k"]).int()}
    if threshold is None:
        unset = {"threshold": torch.tensor(-1.0)}
        return "AutoEncoderTopK", linear | shared | unset, [*notes, *_lost_widths(sae)]
    shared["threshold"] = threshold
    if kind == "batch_topk":
        return "BatchTopKSAE", linear | shared, notes
    sizes = torch.tensor([stop - start for start, stop in pairwise((0, *sae.widths))])
    more = {"b_enc": own["b_enc"], "group_sizes": sizes}
    return "MatryoshkaBatchTopKSAE", plain | shared | more, notes


def _lost_widths(sae: SAE) -> list[Note]:
    return [Note("lost", f"widths {list(sae.widths)}")] if len(sae.widths) > 1 else []
