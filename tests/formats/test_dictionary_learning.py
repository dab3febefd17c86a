"""dictionary_learning: round trips, the classes by their tensors, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saetools.errors import FormatError
from saetools.formats import FORMATS, detect
from saetools.sae import INPUT_NORMS, SAE

Trained = Callable[..., SAE]

WRITTEN = [
    ("standard", {}, "AutoEncoder", "standard"),
    ("topk", {"k": 4}, "AutoEncoderTopK", "topk"),
    ("hierarchical_topk", {"k": 4}, "AutoEncoderTopK", "topk"),
    ("batch_topk", {"k": 4}, "BatchTopKSAE", "batch_topk"),
    ("matryoshka", {"k": 4, "widths": (8, 24, 64)}, "MatryoshkaBatchTopKSAE", "matryoshka"),
    ("matryoshka", {"k": 4, "selection": "topk"}, "AutoEncoderTopK", "topk"),
    ("jumprelu", {"target_l0": 4.0}, "JumpReluAutoEncoder", "jumprelu"),
    ("gated", {}, "GatedAutoEncoder", "gated"),
]


@pytest.mark.parametrize(
    ("kind", "fields", "theirs", "ours"), WRITTEN, ids=lambda value: str(value)
)
def test_what_is_written_comes_back_with_the_same_outputs(
    kind: str,
    fields: dict[str, Any],
    theirs: str,
    ours: str,
    tmp_path: Path,
    trained: Trained,
    tokens: torch.Tensor,
) -> None:
    sae = trained(kind, **fields)
    sae.save(tmp_path / "sae", format="dictionary_learning")
    trainer = json.loads((tmp_path / "sae" / "config.json").read_text())["trainer"]
    assert (trainer["dict_class"], trainer["layer"], trainer["lm_name"]) == (theirs, 3, "gpt2")
    back = SAE.load(tmp_path / "sae")
    assert back.config.type == ours
    assert torch.allclose(back(tokens), sae(tokens), atol=1e-5)
    assert torch.allclose(back.encode(tokens).dense(), sae.encode(tokens).dense(), atol=1e-5)
    assert back.meta["hook_name"] == "blocks.3.hook_resid_post"
    if ours == "matryoshka":
        assert back.widths == sae.widths


def test_a_class_is_known_by_its_tensors_where_it_can_be(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    for kind, fields in (("standard", {}), ("gated", {}), ("jumprelu", {"target_l0": 4.0})):
        sae = trained(kind, **fields)
        sae.save(tmp_path / kind, format="dictionary_learning")
        (tmp_path / kind / "config.json").unlink()
        back = SAE.load(tmp_path / kind)
        assert back.config.type == kind
        assert torch.allclose(back(tokens), sae(tokens), atol=1e-5)


def test_topk_and_batchtopk_are_not_guessed(tmp_path: Path, trained: Trained) -> None:
    trained("batch_topk", k=4).save(tmp_path / "sae", format="dictionary_learning")
    (tmp_path / "sae" / "config.json").unlink()
    with pytest.raises(FormatError, match="AutoEncoderTopK and of BatchTopKSAE"):
        SAE.load(tmp_path / "sae")


def test_a_checkpoint_finds_the_config_of_its_run(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae = trained("topk", k=4)
    sae.save(tmp_path / "run", format="dictionary_learning")
    (tmp_path / "run" / "checkpoints").mkdir()
    checkpoint = tmp_path / "run" / "checkpoints" / "ae_500.pt"
    (tmp_path / "run" / "ae.pt").rename(checkpoint)
    assert detect(checkpoint) == "dictionary_learning"
    assert torch.allclose(SAE.load(checkpoint)(tokens), sae(tokens), atol=1e-5)


def test_a_threshold_that_was_never_set_lets_every_positive_latent_through(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    trained("batch_topk", k=4).save(tmp_path / "sae", format="dictionary_learning")
    held = torch.load(tmp_path / "sae" / "ae.pt", weights_only=True)
    torch.save(held | {"threshold": torch.tensor(-1.0)}, tmp_path / "sae" / "ae.pt")
    back = SAE.load(tmp_path / "sae")
    pre_acts = (tokens - held["b_dec"]) @ held["encoder.weight"].T + held["encoder.bias"]
    assert torch.allclose(back.encode(tokens).dense(), pre_acts.relu(), atol=1e-5)
    assert any(note["what"] == "threshold" for note in back.meta["converted"]["notes"])


def test_what_it_has_no_class_for_is_refused_with_a_sentence(
    tmp_path: Path, trained: Trained
) -> None:
    normed = INPUT_NORMS.get("layer_norm")()(trained("topk", k=4))
    for sae in (trained("transcoder", k=4), normed):
        with pytest.raises(FormatError, match="has no class for an SAE"):
            sae.save(tmp_path / "sae", format="dictionary_learning")
    unset = trained("batch_topk", k=4).with_threshold(float("nan"))
    with pytest.raises(FormatError, match="has no threshold yet"):
        unset.save(tmp_path / "sae", format="dictionary_learning")
    assert list(tmp_path.iterdir()) == []


def test_another_class_and_other_tensors_are_refused(tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format="dictionary_learning")
    config = tmp_path / "sae" / "config.json"
    config.write_text('{"trainer": {"dict_class": "CrossCoder"}}')
    with pytest.raises(FormatError, match="CrossCoder, which is no class"):
        SAE.load(tmp_path / "sae")
    config.unlink()
    torch.save({"weight": torch.ones(3)}, tmp_path / "sae" / "ae.pt")
    with pytest.raises(FormatError, match="its tensors are weight"):
        SAE.load(tmp_path / "sae")


def test_it_is_in_the_registry() -> None:
    assert {"dictionary_learning", "saelens", "sparsify"} <= set(FORMATS.names())
