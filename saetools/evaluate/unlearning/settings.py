"""Settings of an evaluation of unlearning."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GenerateSettings", "ProbeSettings", "RelearnSettings", "UnlearningSettings"]


class RelearnSettings(BaseModel):
    """How the relearning attack is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(
        default=0.2, gt=0, lt=1, description="share of the forget entities that are taught again"
    )
    n_steps: int = Field(default=100, ge=1, le=200, description="steps of AdamW; at most 200")
    lr: float = Field(
        default=5e-5,
        gt=0,
        description="learning rate; 1e-5 to 5e-5 for billions of weights, "
        "1e-4 to 1e-3 for a few millions",
    )
    batch_size: int = Field(default=16, ge=1, description="questions in a step")
    every: int = Field(default=10, ge=1, description="steps between two points of the curve")


class ProbeSettings(BaseModel):
    """How the residue is probed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[int, ...] | None = Field(
        default=None, description="layers to probe, from 0; all by default"
    )
    n_hidden: int = Field(default=64, ge=1, description="hidden units of the MLP")
    penalty: float = Field(default=1e-3, ge=0, description="weight of the squared norm of weights")
    max_rows: int = Field(default=1000, ge=2, description="retain questions to learn from at most")


class GenerateSettings(BaseModel):
    """How texts and questions are continued."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix_fraction: float = Field(
        default=0.5, gt=0, lt=1, description="share of a text that is shown before it is continued"
    )
    continuation_tokens: int = Field(default=128, ge=1, description="tokens to continue a text by")
    answer_tokens: int = Field(default=32, ge=1, description="tokens of a generated answer")
    n_texts: int = Field(
        default=100, ge=1, description="texts and questions that are continued at most"
    )


class UnlearningSettings(BaseModel):
    """Settings of all measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measures: tuple[str, ...] | None = Field(
        default=None, description="names of the measures to make; all by default"
    )
    batch_tokens: int = Field(
        default=2048, ge=1, description="tokens in one forward pass; their logits are in memory"
    )
    min_k: float = Field(
        default=0.4, gt=0, le=1, description="share of the least probable tokens in Min-k (MUSE)"
    )
    n_questions: int = Field(
        default=1000, ge=1, description="retain and neighbour questions asked at most, each"
    )
    n_facts: int = Field(
        default=200, ge=2, description="facts in the KS test at most; its p depends on them"
    )
    generate: GenerateSettings = Field(
        default=GenerateSettings(), description="verbatim and knowledge memorisation"
    )
    relearn: RelearnSettings = Field(default=RelearnSettings(), description="relearning attack")
    probe: ProbeSettings = Field(default=ProbeSettings(), description="residue")
    n_draws: int = Field(default=500, ge=20, description="resamples behind the intervals")
    seed: int = Field(default=0, ge=0, description="of resamples, splits, probes and relearning")
