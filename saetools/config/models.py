"""What a run is: one frozen model a block, unknown keys forbidden.

Blocks that pick a plug-in by `type` (`data`, `sae`, `naming`) and the settings of training are kept
as they are written: the floor that owns the plug-in checks them (see `load_config(schemas=...)`).
Validation here looks at values only, never at disk, clock, environment or device.
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "Block",
    "ConceptConfig",
    "EvaluateConfig",
    "HarvestConfig",
    "IndexConfig",
    "RunConfig",
    "SubjectConfig",
]


class _Strict(BaseModel):
    # strict: a run that says `seed: true` or `n_tokens: "many"` is a mistake, not a number.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Block(BaseModel):
    """A block whose `type` names a plug-in; the plug-in's own Config knows the other keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str = Field(min_length=1, description="plug-in: the name of its file")

    @property
    def fields(self) -> dict[str, Any]:
        """The plug-in's own settings, `type` left out."""
        return dict(self.model_extra or {})


class SubjectConfig(_Strict):
    """The subject model: the model whose activations are read."""

    model: str = Field(
        min_length=1, description="planted, tiny, tiny-encoder, minilm, a directory, or a hub name"
    )
    kind: Literal["auto", "language_model", "text_encoder"] = Field(
        default="auto", description="auto: read from the model's own config.json"
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="cpu, mps, cuda, cuda:1 or auto: the GPU if there is one, else the CPU",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the subject's weights; float32 is right on every device"
    )


class HarvestConfig(_Strict):
    """Which activations are stored, and how."""

    hook_name: str | list[str] = Field(
        description="site to read, e.g. blocks.8.hook_resid_post or resid_post.8; or a list of "
        "sites, read in one pass: an SAE reads the first, a transcoder writes one of the others"
    )
    n_tokens: int | None = Field(
        default=None, gt=0, description="tokens to store at most; null: all the corpus has"
    )
    dtype: Literal["float16", "bfloat16", "float32", "int8"] = Field(
        default="float16",
        description="of the stored activations; half the disk, error far below the SAE's",
    )
    ctx_len: int | None = Field(
        default=None,
        ge=2,
        description="tokens of one sequence; null: all the model takes, but at most 1024 of a "
        "language model",
    )
    batch_tokens: int | Literal["auto"] = Field(
        default=8192,
        description="tokens in one forward pass; 8192 fits a laptop with small models; auto: tried "
        "out on this machine",
    )
    held_out_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="documents kept from training, for honest numbers"
    )
    filter: Literal["gzip", "blosc2-zstd", "zstd", "bitshuffle-lz4"] | None = Field(
        default=None,
        description="compression of the store; null reads fastest; all but gzip need the extra "
        "saetools[filters]",
    )
    packing: Literal["none", "joined"] = Field(
        default="none",
        description="none: a document a sequence; joined: documents end to end in sequences of "
        "ctx_len, where attention crosses them",
    )
    long: Literal["auto", "split", "truncate"] = Field(
        default="auto",
        description="documents longer than ctx_len; auto: a language model splits them into "
        "several sequences, a text encoder truncates",
    )
    pooling: Literal["token", "cls", "mean", "eot", "auto"] = Field(
        default="token",
        description="token: a row a token; the others: a row a document, of a text encoder; auto: "
        "as the encoder itself pools",
    )
    max_norm_multiple: float | None = Field(
        default=None,
        gt=1,
        description="drop tokens whose norm is above so many medians (attention sinks); null: none",
    )
    special_tokens: Literal["dropped", "kept"] = Field(
        default="dropped",
        description="BOS, EOS, CLS and SEP; their huge norms would spoil the dictionary",
    )

    @field_validator("hook_name", mode="plain")
    @classmethod
    def _is_a_site(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        named = isinstance(names, list | tuple) and len(names) > 0
        if named and all(isinstance(name, str) and name for name in names):
            return value if isinstance(value, str) else list(names)
        raise ValueError(f"{value!r} is neither the name of a site nor a list of such names")

    @property
    def hook_names(self) -> tuple[str, ...]:
        """All sites that are read; the first is the one that an SAE reads."""
        return (self.hook_name,) if isinstance(self.hook_name, str) else tuple(self.hook_name)

    @field_validator("batch_tokens", mode="plain")
    @classmethod
    def _is_a_size(cls, value: Any) -> Any:
        # One sentence, where a union would complain twice.
        if value == "auto" or (type(value) is int and value > 0):
            return value
        raise ValueError(f"{value!r} is neither a number of tokens above 0 nor auto")


class EvaluateConfig(_Strict):
    """Which numbers are measured on the trained SAE."""

    metrics: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        strict=False,  # YAML has lists, not tuples
        description="metric plug-ins, in the order of the report; null: all that apply",
    )
    split: Literal["held_out", "train", "all"] = Field(
        default="held_out",
        description="documents to measure on; held_out: none of them was trained on",
    )
    n_docs: int | None = Field(
        default=None,
        gt=0,
        description="documents for metrics that run the model; null: all of the split",
    )
    labelled: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="files of labelled texts for the metrics of concepts; none: the labels of the "
        "run's own corpus",
    )
    label_field: str | None = Field(
        default=None,
        description="field of those files with the concepts; null: concepts, labels or label",
    )
    concept_pairs: tuple[Annotated[tuple[str, str], Field(strict=False)], ...] = Field(
        default=(),
        strict=False,
        description="pairs of concepts for scr, [[kept, removed], ...]; none: the pair of which "
        "every combination is frequent",
    )
    questions: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="files of questions for ravel: one .jsonl of prompts and answers each, or the "
        "two .json of RAVEL, entities then prompts; none: those of a planted world, if it is one",
    )
    twins: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="run or SAE folders of other seeds on the same store, for stability",
    )


class IndexConfig(_Strict):
    """What is remembered of each latent."""

    n_examples: int = Field(
        default=12, gt=0, description="strongest examples kept a latent; fits a screen"
    )
    window: int = Field(
        default=12, ge=0, description="tokens shown on each side of the strongest one"
    )


class ConceptConfig(_Strict):
    """The concept that `saetools ablate` removes."""

    label: str | None = Field(
        default=None,
        description="label of the corpus to remove; null: the one best told by one latent",
    )
    n_latents: int = Field(default=16, gt=0, description="latents to ablate at most")
    n_docs: int = Field(
        default=600, ge=20, description="documents without the concept; a minute with MiniLM"
    )


class RunConfig(_Strict):
    """A whole run, from the subject model to the last number."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="short name; the run folder's too"
    )
    out: str = Field(default="", description="run folder; empty: runs/<name> in the current folder")
    seed: int = Field(default=0, ge=0, description="of every random act in the run")
    subject: SubjectConfig = Field(description="the model whose activations are read")
    data: Block = Field(description="the corpus: type and the source's own keys")
    harvest: HarvestConfig = Field(description="which activations are stored")
    sae: Block = Field(description="the dictionary: type (architecture) and its own keys")
    train: dict[str, Any] = Field(default_factory=dict, description="settings of training")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="what is measured")
    index: IndexConfig = Field(
        default=IndexConfig(), description="what is remembered of each latent"
    )
    naming: Block = Field(
        default=Block(type="top_tokens"), description="the namer: type and its own keys"
    )
    concept: ConceptConfig = Field(
        default=ConceptConfig(), description="the concept that is ablated"
    )

    def dump(self) -> str:
        """Return the run as YAML text that `load_config` reads back to an equal config."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return str(text)
