"""A trained planted model as a folder: fp16 weights, tokenizer, recipe, loss, recall, checksums.

The folder is a Hugging Face model directory, and appears as a whole or not at all. Its recall is
measured on the model as it is read back from it, so that rounding to fp16 is part of the figure.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from saetools.corpus.planted import World
from saetools.errors import ConfigError
from saetools.folders import whole_folder
from saetools.models import LanguageModel, load_model
from saetools.models.shipped import SUMS, verify_sums, write_sums
from saetools.repro import environment, read_json, write_json
from saetools.testbed.recall import recall_of
from saetools.testbed.recipe import Recipe, Variant
from saetools.testbed.train import Trained

__all__ = ["is_finished", "measure", "read_recall", "save_trained"]

_FORMAT = "saetools-planted-recall/1"
_RECALL = "recall.json"
_RECIPE = "recipe.yaml"
_CURVE = ("step", "n_tokens", "lr", "loss")

Measured = dict[str, dict[str, dict[str, Any]]]


def save_trained(trained: Trained, recipe: Recipe, variant: Variant, folder: Path) -> Measured:
    """Write a model folder and return the recall that was measured on it.

    Args:
        trained: what training gave.
        recipe: the settings of the run.
        variant: which model of the recipe it is.
        folder: where to write; an earlier folder of that name is replaced.
    """
    with whole_folder(folder, mark=_RECIPE, what="a model of the testbed") as scratch:
        _write_model(trained, scratch)
        written = {"recipe": recipe.model_dump(), "variant": variant.model_dump()}
        (scratch / _RECIPE).write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        with (scratch / "loss.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [_CURVE, *((s, n, f"{lr:.6g}", f"{loss:.5f}") for s, n, lr, loss in trained.curve)]
            )
        model = load_model(scratch)
        if not isinstance(model, LanguageModel):
            raise AssertionError("a Llama is a language model")
        recall = measure(model, World.build(recipe.world_seed, recipe.n_entities))
        about = environment(seed=variant.seed)
        write_json(
            scratch / _RECALL,
            {
                "format": _FORMAT,
                "recall": recall,
                "n_tokens": trained.n_tokens,
                "seconds": round(trained.seconds, 1),
                "loss": trained.curve[-1][-1],
                "packages": about["packages"],
                "n_threads": about["n_threads"],
            },
        )
        write_sums(scratch)
    return recall


def is_finished(folder: Path, recipe: Recipe, variant: Variant) -> bool:
    """True if the folder holds this very model, whole.

    Raises:
        ConfigError: it holds a model of other settings.
        FormatError: a file of it is damaged.
    """
    if not (folder / SUMS).is_file():
        return False
    verify_sums(folder)
    found = yaml.safe_load((folder / _RECIPE).read_text(encoding="utf-8"))
    if found != {"recipe": recipe.model_dump(), "variant": variant.model_dump()}:
        raise ConfigError(
            f"'{folder}' holds a model of other settings (see {_RECIPE} in it); give another "
            "--out, or --no-resume to train in its place"
        )
    return True


def read_recall(folder: Path) -> dict[str, Any]:
    """What was measured when the folder was written: `recall`, `n_tokens`, `seconds`, `loss`."""
    return read_json(folder / _RECALL, _FORMAT)


def measure(model: LanguageModel, world: World) -> Measured:
    """Recall by form of four groups of questions, each a form -> {n, choice, greedy, chance}.

    `forget` and `retain` are facts in forms that the base model has read; `held_back` are retain
    facts in a form that no model has read them in; `never` are facts of held-out entities.
    """
    held_out = [entity.name for entity in world.held_out_entities]
    groups: Mapping[str, Any] = {
        "forget": world.questions(entities=world.forget_entities),
        "retain": world.questions(entities=world.retain_entities, trained=True),
        "held_back": world.questions(entities=world.retain_entities, trained=False),
        "never": world.questions(entities=held_out),
    }
    return {
        group: {form: asdict(recall) for form, recall in recall_of(model, questions).items()}
        for group, questions in groups.items()
    }


def _write_model(trained: Trained, folder: Path) -> None:
    # The output embedding is the input embedding: it is written once.
    tensors = {
        name: tensor.detach().cpu().to(torch.float16).contiguous()
        for name, tensor in sorted(trained.model.state_dict().items())
        if name != "lm_head.weight"
    }
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes a file that its owner alone may read
    config = {**trained.model.config.to_diff_dict(), "dtype": "float32"}  # loaded as such
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    trained.tokenizer.save_pretrained(folder)
