"""Run by the python of an environment with the other libraries: they train, save, load and compute.

    python libraries.py train FOLDER   SAEs of every kind, trained for a few steps and saved in
                                       FOLDER/<library>/<name>, their outputs on x beside them
    python libraries.py read FOLDER    load FOLDER/<library>/<name> and put the outputs beside it

FOLDER has x.pt. A library that is not installed is left out. Nothing here imports saetools.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import torch
from torch import Tensor

D_IN, N_LATENTS, STEPS, BATCH = 16, 64, 60, 128
Outputs = tuple[Tensor, Tensor]


def batches() -> Iterator[Tensor]:
    """Sparse sums of planted directions around a mean that is not zero."""
    random = torch.Generator().manual_seed(0)
    directions = torch.randn(40, D_IN, generator=random)
    mean = torch.randn(D_IN, generator=random)
    while True:
        on = torch.rand(BATCH, 40, generator=random) < 0.1
        sizes = torch.rand(BATCH, 40, generator=random) * on
        yield sizes @ directions + mean


# --- SAELens ---------------------------------------------------------------------------------


def train_sae_lens(folder: Path) -> None:
    from sae_lens import (
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        GatedTrainingSAE,
        GatedTrainingSAEConfig,
        JumpReLUTrainingSAE,
        JumpReLUTrainingSAEConfig,
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
        StandardTrainingSAE,
        StandardTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    shared = {"d_in": D_IN, "d_sae": N_LATENTS}
    kinds = {
        "standard": (StandardTrainingSAE, StandardTrainingSAEConfig, {"l1_coefficient": 0.1}),
        "not_centred": (
            StandardTrainingSAE,
            StandardTrainingSAEConfig,
            {"l1_coefficient": 0.1, "apply_b_dec_to_input": False},
        ),
        "scaled": (
            StandardTrainingSAE,
            StandardTrainingSAEConfig,
            {"l1_coefficient": 0.1, "normalize_activations": "expected_average_only_in"},
        ),
        "layer_norm": (
            TopKTrainingSAE,
            TopKTrainingSAEConfig,
            {"k": 4, "normalize_activations": "layer_norm"},
        ),
        "gated": (GatedTrainingSAE, GatedTrainingSAEConfig, {"l1_coefficient": 0.1}),
        "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, {"k": 4}),
        "topk_rescaled": (
            TopKTrainingSAE,
            TopKTrainingSAEConfig,
            {"k": 4, "rescale_acts_by_decoder_norm": True, "decoder_init_norm": None},
        ),
        "jumprelu": (
            JumpReLUTrainingSAE,
            JumpReLUTrainingSAEConfig,
            {"l0_coefficient": 0.1, "jumprelu_init_threshold": 0.05},
        ),
        "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": 4.0}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": 4.0, "matryoshka_widths": [16, 32, 64]},
        ),
    }
    for name, (sae_class, config_class, fields) in kinds.items():
        torch.manual_seed(1)
        config = config_class(**shared, **fields)
        config.metadata = SAEMetadata(hook_name="blocks.2.hook_resid_post", model_name="gpt2")
        trainer = SAETrainer(
            cfg=SAETrainerConfig(
                total_training_samples=STEPS * BATCH,
                train_batch_size_samples=BATCH,
                lr=3e-3,
                lr_end=3e-4,
                n_batches_for_norm_estimate=4,
            ),
            sae=sae_class(config),
            data_provider=batches(),
        )
        trainer.fit().save_inference_model(folder / name)


def read_sae_lens(path: Path, x: Tensor) -> Outputs:
    from sae_lens import SAE

    sae = SAE.load_from_disk(path)
    latents = sae.encode(x)
    return latents, sae(x)


# --- dictionary_learning ---------------------------------------------------------------------


def train_dictionary_learning(folder: Path) -> None:
    from dictionary_learning.dictionary import AutoEncoderNew
    from dictionary_learning.trainers import (
        BatchTopKTrainer,
        GatedSAETrainer,
        JumpReluTrainer,
        StandardTrainer,
        TopKTrainer,
    )
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
    from dictionary_learning.training import trainSAE

    shared = {
        "steps": STEPS,
        "activation_dim": D_IN,
        "dict_size": N_LATENTS,
        "layer": 2,
        "lm_name": "gpt2",
        "submodule_name": "resid_post_layer_2",
        "warmup_steps": 2,
        "device": "cpu",
        "seed": 1,
        "lr": 3e-3,
    }
    by_threshold = {"k": 4, "threshold_start_step": 10, "threshold_beta": 0.9}
    by_penalty = {"sparsity_warmup_steps": 4}
    kinds = {
        "standard": {"trainer": StandardTrainer, "l1_penalty": 0.01, **by_penalty},
        "april": {"trainer": StandardTrainerAprilUpdate, "l1_penalty": 0.01, **by_penalty},
        "gated": {"trainer": GatedSAETrainer, "l1_penalty": 0.01, **by_penalty},
        "topk": {"trainer": TopKTrainer, **by_threshold},
        "batchtopk": {"trainer": BatchTopKTrainer, **by_threshold},
        "batchtopk_without_threshold": {"trainer": BatchTopKTrainer, "k": 4},
        "matryoshka": {
            "trainer": MatryoshkaBatchTopKTrainer,
            "group_fractions": [0.25, 0.25, 0.5],
            **by_threshold,
        },
        "jumprelu": {"trainer": JumpReluTrainer, "target_l0": 4.0, **by_penalty},
    }
    for name, fields in kinds.items():
        trainSAE(
            batches(),
            [{**shared, **fields}],
            steps=STEPS,
            save_dir=str(folder / name),
            device="cpu",
        )
        (folder / name / "trainer_0").rename(folder / f"{name}_")
        (folder / name).rmdir()
        (folder / f"{name}_").rename(folder / name)
    torch.manual_seed(1)
    new = AutoEncoderNew(D_IN, N_LATENTS)
    new.encoder.bias.data.normal_().mul_(0.1)
    new.decoder.bias.data.normal_()
    (folder / "april_class").mkdir()
    torch.save(new.state_dict(), folder / "april_class" / "ae.pt")
    config = {"trainer": {"dict_class": "AutoEncoderNew", "layer": 2, "lm_name": "gpt2"}}
    (folder / "april_class" / "config.json").write_text(json.dumps(config))


def read_dictionary_learning(path: Path, x: Tensor) -> Outputs:
    from dictionary_learning.dictionary import AutoEncoder
    from dictionary_learning.utils import load_dictionary

    sae, config = load_dictionary(str(path), device="cpu")
    if config["trainer"]["dict_class"] == "AutoEncoder":
        # As it is in the file, not with the norms of the decoder divided out.
        sae = AutoEncoder.from_pretrained(str(path / "ae.pt"), normalize_decoder=False)
    latents = sae.encode(x)
    return latents, sae.decode(latents)


# --- sparsify --------------------------------------------------------------------------------


def train_sparsify(folder: Path) -> None:
    from sparsify import SparseCoder, SparseCoderConfig

    kinds = {
        "layers.2": SparseCoderConfig(expansion_factor=4, k=4),
        "layers.3": SparseCoderConfig(num_latents=40, k=4, multi_topk=True),
        "layers.4": SparseCoderConfig(expansion_factor=4, k=4, skip_connection=True),
        "layers.2.mlp": SparseCoderConfig(expansion_factor=4, k=4, transcode=True),
        "h.3.mlp": SparseCoderConfig(expansion_factor=4, k=4, transcode=True, skip_connection=True),
    }
    for name, config in kinds.items():
        torch.manual_seed(1)
        sae = SparseCoder(D_IN, config)
        optimizer = torch.optim.Adam(sae.parameters(), lr=3e-3)
        for _, x in zip(range(STEPS), batches(), strict=False):
            y = x.roll(1, dims=1) if config.transcode else x
            sae(x, y).fvu.backward()
            optimizer.step()
            optimizer.zero_grad()
        sae.save_to_disk(folder / name)


def read_sparsify(path: Path, x: Tensor) -> Outputs:
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(path)
    # Not sae(x).sae_out: with multi_topk that is the reconstruction from 4k latents.
    found = sae.encode(x)
    latents = torch.zeros(len(x), sae.num_latents)
    latents.scatter_(1, found.top_indices, found.top_acts)
    x_hat = sae.decode(found.top_acts, found.top_indices)
    return latents, x_hat if sae.W_skip is None else x_hat + x @ sae.W_skip.mT


TRAIN: dict[str, Callable[[Path], None]] = {
    "sae_lens": train_sae_lens,
    "dictionary_learning": train_dictionary_learning,
    "sparsify": train_sparsify,
}
READ: dict[str, Callable[[Path, Tensor], Outputs]] = {
    "sae_lens": read_sae_lens,
    "dictionary_learning": read_dictionary_learning,
    "sparsify": read_sparsify,
}


def main(task: str, folder: Path) -> None:
    """Do one of the tasks for every library that is installed."""
    x = torch.load(folder / "x.pt", weights_only=True)
    for library in TRAIN:
        place = folder / library
        if find_spec(library) is None or (task == "read" and not place.is_dir()):
            continue
        if task == "train":
            place.mkdir()
            TRAIN[library](place)
        for path in sorted(path for path in place.iterdir() if path.is_dir()):
            with torch.no_grad():
                latents, x_hat = READ[library](path, x)
            torch.save({"latents": latents, "x_hat": x_hat}, place / f"{path.name}.out.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
