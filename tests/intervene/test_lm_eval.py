"""Steering files of lm-eval hold what our interventions do, in its own words; else they refuse."""

import csv
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene import (
    Add,
    AddDirection,
    Clamp,
    Condition,
    Direction,
    LatentTrigger,
    ProjectOut,
    Request,
    SetProjection,
    Zero,
    intervene,
)
from saetools.intervene.lm_eval import CSV_COLUMNS, lm_eval_csv, lm_eval_pt
from saetools.models.base import LanguageModel, TokenBatch
from saetools.sae import SAE, build_sae


def as_lm_eval_does(model: LanguageModel, table: Mapping[str, Any], run: Callable[[], Any]) -> Any:
    """Run with lm-eval's two formulas hooked onto the outputs of the modules it would hook."""

    def hook(entry: Mapping[str, Any], _module: Any, _args: Any, output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        v, c, bias = entry["steering_vector"], entry["steering_coefficient"], entry["bias"]
        if entry["action"] == "add":
            assert bias is None
            x = x + v * c
        else:
            unit = v / v.norm()
            x = x if bias is None else x - bias
            x = x + unit * (c - (x * unit).sum(-1, keepdim=True))
            x = x if bias is None else x + bias
        return (x, *output[1:]) if isinstance(output, tuple) else x

    hf: Any = model.hf
    modules = dict(hf.base_model.named_modules())
    with ExitStack() as stack:
        for name, entry in table.items():
            handle = modules[name].register_forward_hook(partial(hook, entry))
            stack.callback(handle.remove)
        return run()


def requests_of(sae: SAE) -> dict[str, list[Request]]:
    direction = Direction(torch.linspace(-1, 1, 64), hook_name="resid_post.2")
    later = build_sae(
        "topk", d_in=64, n_latents=32, k=4, meta={"hook_name": "resid_post.2"}, seed=3
    )
    every = {"positions": "every"}
    return {
        "one latent": [Request(Add({5: 30.0}), sae=sae, **every)],  # type: ignore[arg-type]
        "several latents, two layers": [
            Request(Add({5: 30.0, 9: -8.0}), sae=sae, positions="every"),
            Request(Add({7: 10.0}), sae=sae, positions="every"),
            Request(Add({3: 12.0}), sae=later, positions="every"),
        ],
        "a direction": [Request(AddDirection(20.0), direction=direction, positions="every")],
        "its own length": [
            Request(AddDirection(-2.0, "own_length"), direction=direction, positions="every")
        ],
        "a projection": [
            Request(SetProjection(15.0, [0.3] * 64), direction=direction, positions="every")
        ],
        "projected out": [Request(ProjectOut(), direction=direction, positions="every")],
    }


@pytest.mark.parametrize("name", list(requests_of(build_sae("topk", d_in=64, n_latents=32, k=4))))
def test_the_file_makes_lm_eval_do_what_the_requests_do(
    tiny_lm: LanguageModel, sae: SAE, tokens: TokenBatch, tmp_path: Path, name: str
) -> None:
    requests = requests_of(sae)[name]
    path = lm_eval_pt(tiny_lm, requests, tmp_path / "steer.pt")
    table = torch.load(path, weights_only=True)
    keys = {"steering_vector", "steering_coefficient", "action", "bias", "head_index"}
    assert all(set(entry) == keys for entry in table.values())
    assert set(table) <= {"layers.1", "layers.2"}
    with intervene(tiny_lm, requests):
        ours = tiny_lm.logits(tokens)
    theirs: Tensor = as_lm_eval_does(tiny_lm, table, lambda: tiny_lm.logits(tokens))
    assert torch.allclose(ours[tokens.mask], theirs[tokens.mask], atol=1e-4)
    assert not torch.allclose(ours[tokens.mask], tiny_lm.logits(tokens)[tokens.mask], atol=1e-2)


def test_a_csv_row_names_a_latent_of_an_sae_that_lm_eval_loads(
    tiny_lm: LanguageModel, sae: SAE, tmp_path: Path
) -> None:
    request = Request(Add({5: 3.5}), sae=sae, positions="every")
    path = lm_eval_csv(
        tiny_lm,
        [request],
        tmp_path / "steer.csv",
        loader="sparsify",
        sparse_model="dist/sparsify",
        description="dogs, more of them",
    )
    with path.open(newline="") as file:
        header, row = list(csv.reader(file))
    assert tuple(header) == CSV_COLUMNS
    wanted = ["sparsify", "add", "dist/sparsify", "layers.1", "5", "3.5"]
    assert row == [*wanted, "", "", "dogs, more of them"]


def test_what_lm_eval_cannot_express_is_refused_with_a_sentence(
    tiny_lm: LanguageModel, sae: SAE, tmp_path: Path
) -> None:
    direction = Direction(torch.ones(64), hook_name="resid_post.2")
    when = Condition(LatentTrigger(sae, [1]), 0.5)
    refused = [
        (r"special_tokens_too", [Request(Add({5: 1.0}), sae=sae)]),
        (r"BOS and padding", [Request(Add({5: 1.0}), sae=sae, positions="generated")]),
        (r"condition", [Request(Add({5: 1.0}), sae=sae, positions="every", when=when)]),
        (r"needs the encoder", [Request(Clamp({5: 1.0}), sae=sae, positions="every")]),
        (r"needs the encoder", [Request(Zero([5]), sae=sae, positions="every")]),
        (r"reconstruction", [Request(Add({5: 1.0}), sae=sae, positions="every", keep_error=False)]),
        (r"whole projection", [Request(ProjectOut(0.5), direction=direction, positions="every")]),
        (
            r"output of a module",
            [
                Request(
                    ProjectOut(), direction=direction, hook_name="resid_pre.2", positions="every"
                )
            ],
        ),
        (
            r"request 2 .* second one at layers\.2",
            [
                Request(AddDirection(1.0), direction=direction, positions="every"),
                Request(ProjectOut(), direction=direction, positions="every"),
            ],
        ),
    ]
    for message, requests in refused:
        with pytest.raises(ConfigError, match=message):
            lm_eval_pt(tiny_lm, requests, tmp_path / "steer.pt")
    assert not (tmp_path / "steer.pt").exists()
    fine = [Request(Add({5: 1.0}), sae=sae)]
    assert lm_eval_pt(tiny_lm, fine, tmp_path / "a.pt", special_tokens_too=True).exists()
    several = [Request(Add({5: 1.0, 6: 1.0}), sae=sae, positions="every")]
    with pytest.raises(ConfigError, match="2 latents"):
        lm_eval_csv(tiny_lm, several, tmp_path / "a.csv", loader="sae_lens", sparse_model="release")
