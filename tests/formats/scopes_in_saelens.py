"""Run by the python of an environment with SAELens: its own loaders on files that ours wrote.

    python scopes_in_saelens.py read FOLDER

FOLDER has x.pt and a folder for each of the releases below. Their loaders ask the hub; here the two
functions that fetch are given FOLDER instead, everything else is theirs. The outputs are written to
FOLDER/<name>.out.pt. Nothing here imports saetools.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.registry import get_sae_class
from safetensors import safe_open


def main(folder: Path) -> None:
    """Load every release that is there and write what it computes."""
    x = torch.load(folder / "x.pt", weights_only=True)

    def download(repo_id: str, filename: str, subfolder: str = "", **_: Any) -> str:
        return str(folder / subfolder / filename)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safe_open(folder / filename, "pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    loaders.hf_hub_download = download
    loaders.get_safetensors_tensor_shapes = shapes
    float32 = {"dtype": "float32"}
    gemma_2 = {"d_in": x.shape[1], "d_sae": 48}
    releases = {
        "layer_3_gemma_scope": lambda name: loaders.gemma_2_sae_huggingface_loader(
            "google/gemma-scope-2b-pt-res", name, "cpu", False, gemma_2
        ),
        "layer_3_resid_post": lambda name: loaders.gemma_3_sae_huggingface_loader(
            "google/gemma-scope-2-1b-pt", name, "cpu"
        ),
        "layer_3_transcoder": lambda name: loaders.gemma_3_sae_huggingface_loader(
            "google/gemma-scope-2-1b-pt", name, "cpu"
        ),
        "layer_3_transcoder_affine": lambda name: loaders.gemma_3_sae_huggingface_loader(
            "google/gemma-scope-2-1b-pt", name, "cpu"
        ),
        "llama_scope": lambda name: loaders.llama_scope_sae_huggingface_loader(
            "fnlp/Llama3_1-8B-Base-LXR-8x", name, "cpu", False, float32
        ),
    }
    for name, load in releases.items():
        config, state, _ = load(name)
        config = loaders.handle_config_defaulting(config)
        # Ours are written unscaled, so there is nothing that they would fold in by release.
        config |= {"normalize_activations": "none", "device": "cpu"}
        kind, config_class = get_sae_class(config["architecture"])
        sae = kind(config_class.from_dict(config))
        sae.load_state_dict({key: tensor.float() for key, tensor in state.items()})
        with torch.no_grad():
            torch.save({"latents": sae.encode(x), "x_hat": sae(x)}, folder / f"{name}.out.pt")


if __name__ == "__main__":
    main(Path(sys.argv[2]))
