"""Interventions as steering files of lm-eval, so that its tasks measure them (`--model steered`).

lm-eval knows two actions, each at every position of a module's output, BOS and padding included:
"add" a vector, and "clamp" the projection on a vector to a value (not a latent: no encoder is in
it). A file holds one action a module. What goes beyond that is refused here with a sentence.
Checked against `lm_eval/models/hf_steered.py` of lm-eval 0.4.13.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.directions._base import Direction
from saetools.intervene.operations import Add, AddDirection, ProjectOut, SetProjection
from saetools.intervene.positions import Positions
from saetools.intervene.request import Request
from saetools.models.base import LanguageModel

__all__ = ["CSV_COLUMNS", "lm_eval_csv", "lm_eval_pt"]

CSV_COLUMNS = (
    "loader",
    "action",
    "sparse_model",
    "hookpoint",
    "feature_index",
    "steering_coefficient",
    "head_index",
    "sae_id",
    "description",
)

Entry = dict[str, Any]


def lm_eval_pt(
    model: LanguageModel,
    requests: Sequence[Request],
    path: str | Path,
    *,
    special_tokens_too: bool = False,
) -> Path:
    """Write a `.pt` file: a vector, a coefficient, an action and a bias for each module.

    Several additions at one module become their sum.

    Args:
        special_tokens_too: accept that lm-eval also edits BOS and padding, where the requests do
            not; without it their positions must be "every".

    Raises:
        ConfigError: a request cannot be expressed there; the message says which and why.
    """
    table: dict[str, Entry] = {}
    for number, request in enumerate(requests, start=1):
        _check_plain(request, number, special_tokens_too=special_tokens_too)
        module = _module(model, request, number)
        entry = _entry(request, number)
        held = table.get(module)
        if held is not None:
            if held["action"] != "add" or entry["action"] != "add":
                raise _refused(
                    number,
                    f"is a second one at {module}, where lm-eval takes one action; only "
                    "additions can be joined",
                )
            entry["steering_vector"] = held["steering_vector"] + entry["steering_vector"]
        table[module] = entry
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(table, path)
    return path


def lm_eval_csv(
    model: LanguageModel,
    requests: Sequence[Request],
    path: str | Path,
    *,
    loader: Literal["sparsify", "sae_lens"],
    sparse_model: str,
    sae_id: str = "",
    special_tokens_too: bool = False,
    description: str = "",
) -> Path:
    """Write a `.csv` file: one latent a row, which lm-eval takes from an SAE that it can load.

    lm-eval keeps one row a module, the last one. Its 0.4.13 reads `add` rows and then refuses them
    ("Bias is not supported for the `add` action"); a `.pt` file of the same works there.

    Args:
        loader: the library that loads the SAE, whose latents must be these; see `saetools.formats`.
        sparse_model: folder or name of it there.
        sae_id: its id in a release of sae_lens.
        special_tokens_too: see `lm_eval_pt`.
        description: for a reader.

    Raises:
        ConfigError: a request cannot be expressed there; the message says which and why.
    """
    if loader not in ("sparsify", "sae_lens"):
        raise ConfigError(f"lm-eval loads SAEs with 'sparsify' or 'sae_lens', not {loader!r}")
    rows: dict[str, list[Any]] = {}
    for number, request in enumerate(requests, start=1):
        _check_plain(request, number, special_tokens_too=special_tokens_too)
        operation = request.operation
        if not isinstance(operation, Add) or operation.unit != "absolute":
            raise _refused(
                number, f"is '{request.operation.type}', and a row can only add a latent"
            )
        if len(operation.latents) != 1:
            raise _refused(number, f"adds {len(operation.latents)} latents, and a module takes one")
        module = _module(model, request, number)
        if module in rows:
            raise _refused(number, f"is a second one at {module}, which takes one row")
        ((latent, amount),) = operation.latents.items()
        rows[module] = [
            loader, "add", sparse_model, module, latent, amount, "", sae_id, description
        ]  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(rows.values())
    return path


def _check_plain(request: Request, number: int, *, special_tokens_too: bool) -> None:
    if request.when is not None:
        raise _refused(number, "has a condition, and lm-eval steers always")
    if not request.keep_error:
        raise _refused(
            number, "replaces the activation by a reconstruction, which takes an encoder"
        )
    wanted = Positions(specials=True)
    if request.at == wanted or (special_tokens_too and request.at == Positions()):
        return
    hint = "; pass special_tokens_too=True to accept that" if request.at == Positions() else ""
    raise _refused(
        number,
        "acts at some tokens only, and lm-eval steers every position, BOS and padding included "
        f"(positions='every'){hint}",
    )


def _entry(request: Request, number: int) -> Entry:
    operation, direction = request.operation, request.direction
    if isinstance(operation, Add) and operation.unit == "absolute" and request.sae is not None:
        rows = request.sae.W_dec.detach().float().cpu()
        parts = [amount * rows[latent] for latent, amount in operation.latents.items()]
        return _made("add", torch.stack(parts).sum(0), 1.0)
    if direction is not None:
        return _along(request, direction, number)
    raise _refused(
        number,
        f"is '{operation.type}', which needs the encoder or the length of the activation; lm-eval "
        "only adds a vector or sets a projection",
    )


def _along(request: Request, direction: Direction, number: int) -> Entry:
    operation = request.operation
    if isinstance(operation, AddDirection) and operation.unit != "residual_norm":
        own = operation.unit == "own_length"
        return _made("add", operation.strength * (direction.tensor if own else direction.unit), 1.0)
    if isinstance(operation, SetProjection):
        center = None if operation.center is None else torch.tensor(operation.center)
        return _made("clamp", direction.unit, operation.value, bias=center)
    if isinstance(operation, ProjectOut) and operation.fraction == 1:
        return _made("clamp", direction.unit, 0.0)
    raise _refused(
        number, f"is '{operation.type}', and lm-eval only adds a vector or sets a whole projection"
    )


def _made(action: str, vector: Tensor, coefficient: float, *, bias: Tensor | None = None) -> Entry:
    return {
        "steering_vector": vector,
        "steering_coefficient": coefficient,
        "action": action,
        "bias": bias,
        "head_index": None,
    }


def _module(model: LanguageModel, request: Request, number: int) -> str:
    """The module whose output is edited, by its path inside the base model."""
    asked = request.hook_name
    if asked is None and request.sae is not None:
        asked = request.sae.meta.get("hook_name")
    if asked is None and request.direction is not None:
        asked = request.direction.hook_name
    if asked is None:
        raise _refused(number, "does not say at which hook it acts")
    hf: Any = model.hf
    inside = {id(module): path for path, module in hf.base_model.named_modules()}
    for spelling in model.aliases(asked):
        try:
            path: str | None = inside.get(id(hf.get_submodule(spelling)))
        except AttributeError:
            continue
        if path:
            return path
    raise _refused(
        number,
        f"acts at {model.resolve(asked)}, which is not the output of a module; lm-eval edits those "
        "only, e.g. hook_resid_post",
    )


def _refused(number: int, why: str) -> ConfigError:
    return ConfigError(f"request {number} cannot become a steering file of lm-eval: it {why}")
