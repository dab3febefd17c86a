"""What other libraries' own code says of one SAE; run by metric_parity.py with another Python.

    python peer_metrics.py MODEL_DIR LAYER FOLDER

FOLDER holds weights.npz (W_enc, b_enc, W_dec, b_dec, k), rows.npy, x_hat.npy and sequences.json
(token ids of one length, BOS first). Prints a JSON object of figures by library; what cannot run is
a sentence in the place of a figure. Nothing here computes a figure by itself.
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BATCH_ROWS = 1024
_BATCH_SEQUENCES = 16


def main() -> None:
    """Run every library and print what it says."""
    model_dir, layer, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    held = {
        name: torch.from_numpy(np.asarray(a)) for name, a in np.load(folder / "weights.npz").items()
    }
    x = torch.from_numpy(np.load(folder / "rows.npy"))
    x_hat = torch.from_numpy(np.load(folder / "x_hat.npy"))
    ids = torch.tensor(json.loads((folder / "sequences.json").read_text()))
    found = {
        "sae_lens": _tried(lambda: _sae_lens(held, x, x_hat, ids, model_dir, layer)),
        "dictionary_learning": _tried(lambda: _dictionary(held, x, x_hat)),
        "dictionary_learning loss": _tried(lambda: _dictionary_loss(held, ids, model_dir, layer)),
    }
    print(json.dumps(found))


def _tried(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return run()
    except Exception as error:  # a library that cannot run is a finding, with its reason
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


def _check(found: Tensor, wanted: Tensor) -> None:
    off = float((found - wanted).norm() / wanted.norm())
    assert off < 1e-5, f"the SAE reconstructs something else here: {off:.2g}"


class _Sequences:
    """As much of SAELens' ActivationsStore as its evaluation asks for: tokens, in order."""

    def __init__(self, ids: Tensor) -> None:
        self._batches = iter(ids.split(_BATCH_SEQUENCES))
        self.store_batch_size_prompts = _BATCH_SEQUENCES

    def get_batch_tokens(self, _n: int) -> Tensor:
        """The next sequences."""
        return next(self._batches)


def _sae_lens(
    held: dict[str, Tensor], x: Tensor, x_hat: Tensor, ids: Tensor, model_dir: str, layer: int
) -> dict[str, Any]:
    from sae_lens import evals
    from sae_lens.load_model import load_model
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
    from sae_lens.training.activation_scaler import ActivationScaler

    n_latents, d_in = held["W_dec"].shape
    sae = TopKSAE(
        TopKSAEConfig(
            d_in=d_in,
            d_sae=n_latents,
            k=int(held["k"]),
            metadata=SAEMetadata(hook_name=f"model.layers.{layer}", hook_head_index=None),
        )
    )
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(sae, name).copy_(held[name])
        _check(sae(x), x_hat)
        on_rows = evals.ExplainedVarianceCalculator()
        for part in x.split(_BATCH_ROWS):
            on_rows.add_batch(sae(part), part)
    model = load_model("AutoModelForCausalLM", model_dir, device="cpu")
    specials = [int(i) for i in model.tokenizer.all_special_ids]
    n_batches = -(-len(ids) // _BATCH_SEQUENCES)
    shared: dict[str, Any] = {"n_batches": n_batches, "eval_batch_size_prompts": _BATCH_SEQUENCES}
    found: dict[str, Any] = {
        "version": version("sae-lens"),
        "explained_variance on the rows": on_rows.compute(),
    }
    for how, ignored in (("specials excluded", specials), ("specials included", None)):
        with torch.no_grad():
            quality, _ = evals.get_sparsity_and_variance_metrics(
                sae, model, _Sequences(ids), ActivationScaler(),
                compute_l2_norms=True, compute_sparsity_metrics=True, compute_variance_metrics=True,
                compute_featurewise_density_statistics=True, model_kwargs={}, ignore_tokens=ignored,
                **shared,
            )  # fmt: skip
        behaviour = evals.get_downstream_reconstruction_metrics(
            sae, model, _Sequences(ids), ActivationScaler(),
            compute_kl=True, compute_ce_loss=True, ignore_tokens=ignored, **shared,
        )  # fmt: skip
        found[how] = {**quality, **behaviour}
    return found


def _dictionary_of(held: dict[str, Tensor]) -> Any:
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    n_latents, d_in = held["W_dec"].shape
    dictionary = AutoEncoderTopK(d_in, n_latents, int(held["k"]))
    with torch.no_grad():
        dictionary.encoder.weight.copy_(held["W_enc"].T)
        dictionary.encoder.bias.copy_(held["b_enc"])
        dictionary.decoder.weight.copy_(held["W_dec"].T)
        dictionary.b_dec.copy_(held["b_dec"])
    return dictionary


def _dictionary(held: dict[str, Tensor], x: Tensor, x_hat: Tensor) -> dict[str, Any]:
    from dictionary_learning.evaluation import evaluate

    dictionary = _dictionary_of(held)
    with torch.no_grad():
        _check(dictionary(x), x_hat)

    def batches(n: int) -> Iterator[Tensor]:
        yield from x.split(n)

    found: dict[str, Any] = {"version": version("dictionary-learning")}
    for n in (len(x), 64):
        n_batches = len(x) // n
        found[f"batches of {n}"] = evaluate(dictionary, batches(n), n_batches=n_batches)
    return found


def _dictionary_loss(
    held: dict[str, Tensor], ids: Tensor, model_dir: str, layer: int
) -> dict[str, Any]:
    from dictionary_learning.evaluation import loss_recovered
    from nnsight import LanguageModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Given as a module: nnsight's own loading does not read every config of transformers 5.
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = LanguageModel(AutoModelForCausalLM.from_pretrained(model_dir), tokenizer=tokenizer)
    submodule = model.model.layers[layer]
    dictionary = _dictionary_of(held)
    with torch.no_grad():
        losses = [
            [float(loss) for loss in loss_recovered(part, model, submodule, dictionary)]
            for part in ids.split(_BATCH_SEQUENCES)
        ]
    clean, spliced, zero = np.array(losses).T
    return {
        "loss_original": float(clean.mean()),
        "loss_reconstructed": float(spliced.mean()),
        "loss_zero": float(zero.mean()),
        "frac_recovered": float(((spliced - zero) / (clean - zero)).mean()),
        "nnsight": version("nnsight"),
    }


if __name__ == "__main__":
    main()
