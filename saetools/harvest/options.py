"""What a harvest can be asked for beyond model, texts and hooks: one frozen, strict record.

Values are checked here; whether they suit a model is checked by `Job.check`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from saetools.config import validate

__all__ = ["HarvestOptions", "Long", "Packing", "Pooling", "SpecialTokens", "options_of"]

Packing = Literal["none", "joined"]
Long = Literal["auto", "split", "truncate"]
Pooling = Literal["token", "cls", "mean", "eot", "auto"]
SpecialTokens = Literal["dropped", "kept"]


class HarvestOptions(BaseModel):
    """How documents become rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    packing: Packing = Field(
        default="none",
        description="none: a document (or a window of one) a row of the batch, so that no token "
        "sees another document; joined: documents end to end in sequences of ctx_len tokens, each "
        "after the model's BOS; attention crosses them, as the field does",
    )
    long: Long = Field(
        default="auto",
        description="a document longer than ctx_len is split over windows, each with a BOS of its "
        "own, or truncated; auto: split for a language model, truncated for a text encoder",
    )
    pooling: Pooling = Field(
        default="token",
        description="token: a row a token; cls, mean, eot: a row a document, of a text encoder; "
        "auto: the one of these that the encoder itself was made for",
    )
    max_norm_multiple: float | None = Field(
        default=None,
        gt=1,
        description="tokens whose norm at any hook is more than this many times the median are "
        "dropped (attention sinks); null: none is",
    )
    special_tokens: SpecialTokens = Field(
        default="dropped",
        description="rows of BOS, EOS, CLS and SEP: dropped, or kept; padding never has rows",
    )


def options_of(fields: dict[str, Any]) -> HarvestOptions:
    """Options from keyword arguments, the rest at their defaults.

    Raises:
        ConfigError: one is unknown or out of range.
    """
    return validate(HarvestOptions, fields, what="harvest options")
