"""An edited model as files: a folder for plain transformers, with a card; or an adapter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from saetools.folders import whole_folder
from saetools.models.base import SubjectModel
from saetools.models.pooling import default_pooling
from saetools.models.quiet import quiet
from saetools.models.text_encoder import HFTextEncoder
from saetools.repro import write_json

__all__ = ["EDIT_FORMAT", "save_adapter", "save_model"]

EDIT_FORMAT = "saetools-edit/1"
_SENTENCE = "sentence_transformers.models"
_MODES = {"mean": "mean_tokens", "cls": "cls_token", "eot": "lasttoken"}


def save_model(model: SubjectModel, folder: str | Path, *, report: Mapping[str, Any]) -> Path:
    """Write weights, config and tokenizer as transformers does, README.md and unlearning.json."""
    folder = Path(folder)
    hf: Any = model.hf
    with whole_folder(folder, mark="unlearning.json", what="an edited model") as scratch:
        with quiet():
            hf.save_pretrained(scratch)
            model.tokenizer.save_pretrained(scratch)
        if isinstance(model, HFTextEncoder):
            _save_pooling(model, scratch)
        (scratch / "README.md").write_text(_card(report), encoding="utf-8")
        write_json(scratch / "unlearning.json", {"format": EDIT_FORMAT, **report})
    return folder


def save_adapter(config: Any, tensors: Mapping[str, Tensor], folder: str | Path) -> Path:
    """Write adapter_config.json and adapter_model.safetensors, as peft reads them."""
    folder = Path(folder)
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_folder(folder, mark="adapter_config.json", what="an adapter") as scratch:
        config.save_pretrained(scratch)
        save_file(held, scratch / "adapter_model.safetensors")
    return folder


def _save_pooling(model: HFTextEncoder, folder: Path) -> None:
    """How the encoder pools, as sentence-transformers writes it; nothing where it is the usual."""
    if not model.normalize and model.pooling == default_pooling(model.hf).mode:
        return
    kinds = ["Transformer", "Pooling", *(["Normalize"] if model.normalize else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"{_SENTENCE}.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {f"pooling_mode_{name}": mode == model.pooling for mode, name in _MODES.items()}
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": model.d_model, **pooling},
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": model.ctx_len})
    _write(folder / "modules.json", modules)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _card(report: Mapping[str, Any]) -> str:
    plan, guard = report["plan"], report["guard"]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [unlearning, saetools]",
        "---",
        "",
        f"# {report['model']['name']}, edited by `{report['method']}`",
        "",
        "An ordinary model folder: nothing of saetools is needed to load it. The weights were "
        "edited so that a part of what the model knew is no longer told. **An edit is no proof of "
        "removal**: read the evaluation, if one stands beside this file, and the limits of such "
        "edits in the documentation of saetools.",
        "",
        "## What was done",
        "",
        *(f"- {step}" for step in plan["steps"]),
        f"- original: `{report['model']['name']}`, fingerprint "
        f"`{report['model']['fingerprint']}`; edited: `{report['model']['edited']}`",
        f"- {len(report['changes'])} weight tensors changed, norm {report['edit_norm']:.4g}, in "
        f"{report['seconds']:.1f} s",
    ]
    if guard is not None:
        lines.append(
            f"- perplexity on {guard['n_texts']} retain texts: {guard['perplexity_ratio']:.4g} "
            "times the original's"
        )
    if plan["latents"]:
        chosen = ", ".join(f"{one['hook_name']} #{one['latent']}" for one in plan["latents"][:20])
        lines.append(f"- {len(plan['latents'])} latents were acted on: {chosen}")
    settings = json.dumps(report["config"], indent=2, default=str)
    return "\n".join([*lines, "", "## Settings", "", "```json", settings, "```", ""])
