"""Files that are damaged or lie about themselves: one clear error, whatever is wrong with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saetools.errors import FormatError
from saetools.formats.shapes import fitting
from saetools.sae import SAE

Trained = Callable[..., SAE]
SAFETENSORS = {"saelens": "sae_weights.safetensors", "sparsify": "sae.safetensors"}
SETTINGS = {"saelens": "cfg.json", "sparsify": "cfg.json", "dictionary_learning": "config.json"}


def _tensors(folder: Path, format: str) -> dict[str, torch.Tensor]:
    if format in SAFETENSORS:
        return load_file(folder / SAFETENSORS[format])
    return torch.load(folder / "ae.pt", weights_only=True)


def _put(folder: Path, format: str, tensors: dict[str, torch.Tensor]) -> None:
    if format in SAFETENSORS:
        save_file(tensors, folder / SAFETENSORS[format])
    else:
        torch.save(tensors, folder / "ae.pt")


@pytest.mark.parametrize("format", sorted(SETTINGS))
def test_every_tensor_that_is_missing_or_of_another_shape_is_named(
    format: str, tmp_path: Path, trained: Trained
) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format=format)
    whole = _tensors(tmp_path / "sae", format)
    for name, tensor in whole.items():
        if format == "dictionary_learning" and name == "threshold":
            continue  # TopK has one and does not use it
        _put(tmp_path / "sae", format, {k: v for k, v in whole.items() if k != name})
        with pytest.raises(FormatError, match=name.replace(".", r"\.") + r".* missing"):
            SAE.load(tmp_path / "sae")
        for wrong in (tensor.new_ones(5), tensor.new_ones(3, 4, 5), tensor.new_ones(7, 7)):
            _put(tmp_path / "sae", format, whole | {name: wrong})
            with pytest.raises(FormatError, match="should have the shape"):
                SAE.load(tmp_path / "sae")


@pytest.mark.parametrize("format", sorted(SETTINGS))
def test_numbers_that_are_none_are_refused(format: str, tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format=format)
    whole = _tensors(tmp_path / "sae", format)
    name = next(key for key, value in whole.items() if value.ndim == 2)
    broken = whole[name].clone()
    broken[0, 0] = torch.nan
    _put(tmp_path / "sae", format, whole | {name: broken})
    with pytest.raises(FormatError, match="NaN or infinite"):
        SAE.load(tmp_path / "sae")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00", '{"trainer": 3}', "{}"])
@pytest.mark.parametrize("format", ["saelens", "dictionary_learning"])
def test_settings_that_are_none_are_refused(
    format: str, text: str, tmp_path: Path, trained: Trained
) -> None:
    trained("batch_topk", k=4).save(tmp_path / "sae", format=format)
    (tmp_path / "sae" / SETTINGS[format]).write_text(text)
    if format == "saelens" and text in ("{}", '{"trainer": 3}'):
        # Of before version 6, and so a standard SAE by default: read as SAELens reads it.
        assert SAE.load(tmp_path / "sae").config.type == "standard"
        return
    with pytest.raises(FormatError):
        SAE.load(tmp_path / "sae")


@pytest.mark.parametrize("k", [0, -3, 65, 10**9, "many", None, 2.5, [4]])
@pytest.mark.parametrize("format", ["saelens", "sparsify"])
def test_a_k_that_cannot_be_is_refused(
    format: str, k: Any, tmp_path: Path, trained: Trained
) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format=format)
    path = tmp_path / "sae" / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"k": k}))
    with pytest.raises(FormatError, match="k"):
        SAE.load(tmp_path / "sae")


@pytest.mark.parametrize("sizes", [[1], [0, 64], [-64, 128], [32, 33], [10**18]])
def test_groups_of_a_matryoshka_that_do_not_add_up_are_refused(
    sizes: list[int], tmp_path: Path, trained: Trained
) -> None:
    trained("matryoshka", k=4).save(tmp_path / "sae", format="dictionary_learning")
    whole = _tensors(tmp_path / "sae", "dictionary_learning")
    _put(tmp_path / "sae", "dictionary_learning", whole | {"group_sizes": torch.tensor(sizes)})
    with pytest.raises(FormatError, match="widths"):
        SAE.load(tmp_path / "sae")


def test_metadata_that_is_no_table_is_left_out(tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae", format="saelens")
    path = tmp_path / "sae" / "cfg.json"
    config = json.loads(path.read_text())
    for metadata in ("text", [1], None, {"l0": "many", "sae_lens_version": "x"}):
        path.write_text(json.dumps(config | {"metadata": metadata}))
        assert SAE.load(tmp_path / "sae").config.type == "topk"


def test_sizes_have_one_value_each(tmp_path: Path) -> None:
    held = {"a": torch.ones(3, 4), "b": torch.ones(4), "c": "no tensor"}
    shapes = {"a": ("n", "d"), "b": ("d",)}
    assert set(fitting(held, shapes, where=tmp_path)) == {"a", "b"}
    with pytest.raises(FormatError, match=r"b should have the shape \(n = 3\)"):
        fitting(held, {"a": ("n", "d"), "b": ("n",)}, where=tmp_path)
    with pytest.raises(FormatError, match="c missing"):
        fitting(held, {"c": ("n",)}, where=tmp_path)
