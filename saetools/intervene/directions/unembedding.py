"""Directions that the unembedding defines: what raises one word over another.

Observable Propagation (Dunefsky and Cohan 2023, arXiv:2312.16291): an observable is a weight for
each token, logits · n; with the final norm's gain folded in and its division left out, its
direction in the last residual stream is W_U n. The causal form measures it by the covariance of the
unembedding (Park, Choe and Veitch 2024, arXiv:2311.03658): C⁻¹ W_U n moves the observable with
least change of other, causally separable concepts. No data is needed.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.directions._base import Direction
from saetools.models.base import LanguageModel

__all__ = ["unembedding", "unembedding_matrix"]

# Where families keep the norm before the unembedding.
_FINAL_NORMS = ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.final_norm")


def unembedding(
    model: LanguageModel,
    observable: Mapping[str, float],
    *,
    inner: Literal["euclidean", "causal"] = "euclidean",
    ridge: float = 1e-3,
) -> Direction:
    """The direction of an observable at the last residual stream.

        unembedding(model, {" she": 1.0, " he": -1.0})

    Args:
        observable: a weight for each token, as the text that is exactly that token.
        inner: "euclidean": the gradient of the observable; "causal": the same measured by the
            covariance of the unembedding.
        ridge: added to that covariance, as a fraction of its mean variance.

    Raises:
        ConfigError: a text is not one token, or the weights cancel.
    """
    if inner not in ("euclidean", "causal"):
        raise ConfigError(f"unknown inner product {inner!r}; choose 'euclidean' or 'causal'")
    if not observable:
        raise ConfigError("an observable needs at least one token; got none")
    rows = unembedding_matrix(model).double()  # (vocab, d_model)
    ids = {text: _only_token(model.tokenizer, text) for text in observable}
    vector = sum((weight * rows[ids[text]] for text, weight in observable.items()), rows[0] * 0)
    if inner == "causal":
        centred = rows - rows.mean(0)
        covariance = centred.T @ centred / len(rows)
        covariance += ridge * covariance.diagonal().mean() * torch.eye(len(covariance))
        vector = torch.linalg.solve(covariance, vector)
    hook_name = model.resolve(f"resid_post.{model.n_layers - 1}")
    info = {"observable": dict(observable), "inner": inner}
    return Direction(vector, "unembedding", hook_name, info)


def unembedding_matrix(model: LanguageModel) -> Float[Tensor, "vocab d_model"]:
    """The unembedding with the gain of the final norm folded in, a row a token, on the CPU.

    Raises:
        ConfigError: the model has no output embeddings, or its final norm is not where it is known.
    """
    hf: Any = model.hf
    head = hf.get_output_embeddings()
    norm = next((found for path in _FINAL_NORMS if (found := _at(hf, path)) is not None), None)
    if head is None or norm is None:
        raise ConfigError(
            f"no unembedding to read a direction off: {type(hf).__name__} lacks "
            f"{'output embeddings' if head is None else 'a final norm where one is known'}; use "
            "difference_of_means"
        )
    gain = norm.weight.detach().float().cpu()
    # Gemma keeps its gain as the difference to 1.
    if "gemma" in str(getattr(hf.config, "model_type", "")):
        gain = gain + 1
    weight: Tensor = head.weight.detach().float().cpu() * gain
    # A LayerNorm takes out the mean of the residual stream first, so no direction has one.
    return weight - weight.mean(1, keepdim=True) if hasattr(norm, "bias") else weight


def _only_token(tokenizer: Any, text: str) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise ConfigError(
            f"{text!r} is {len(ids)} tokens ({', '.join(map(str, pieces))}), and an observable is "
            "about single ones; take a word that is one token, often one with a space before it"
        )
    return int(ids[0])


def _at(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module
