"""Rows of activations with the class and the text of each: what an eraser is fitted on.

Class 0 is what is to be kept (retain); every other class is something to be erased (forget). Rows
of one text stand together, in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.models.base import SubjectModel, TokenBatch

__all__ = ["LabelledRows", "Place", "Tokens", "collect_rows", "text_means", "token_mask"]

_BATCH_TEXTS = 32

Tokens = Literal["content", "all"]
"""Which tokens are read and edited: those of the text itself, or the special ones too."""


@dataclass(frozen=True)
class Place:
    """Where rows stand: which text each belongs to, and at which place in it.

    Args:
        text: text of each row, counted from 0, (n,).
        pos: place of each row among those of its text, counted from 0, (n,).
        before: of each text the sum of its row scores and the number of its rows that an earlier
            call has seen (generation with a KV cache), (n_texts, 2); None for none.
    """

    text: Int[Tensor, " n"]
    pos: Int[Tensor, " n"]
    before: Float[Tensor, "n_texts 2"] | None = None

    @staticmethod
    def alone(n: int, device: torch.device | str = "cpu") -> "Place":
        """Every row is a text of its own."""
        return Place(torch.arange(n, device=device), torch.zeros(n, dtype=torch.int64).to(device))

    @staticmethod
    def of_texts(text: Int[Tensor, " n"]) -> "Place":
        """The places of rows whose texts stand together, e.g. [0, 0, 0, 1, 1]."""
        if len(text) == 0:
            return Place(text, text)
        number = torch.unique_consecutive(text, return_inverse=True, return_counts=True)
        _, which, counts = number
        starts = counts.cumsum(0) - counts
        return Place(which, torch.arange(len(text), device=text.device) - starts[which])

    def to(self, device: torch.device | str) -> "Place":
        """The same places on another device."""
        before = None if self.before is None else self.before.to(device)
        return Place(self.text.to(device), self.pos.to(device), before)

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        if self.before is not None:
            return len(self.before)
        return int(self.text.max()) + 1 if len(self.text) else 0


@dataclass(frozen=True)
class LabelledRows:
    """Activations, the class and the text of each row.

    Args:
        x: activations, float32, (n, d_in).
        labels: class of each row; 0 is kept, all others are erased, (n,).
        text: text of each row; rows of one text stand together, (n,).
        hook_name: where they were read, if known.
        model: fingerprint of the model they were read in, if known.

    Raises:
        ShapeError: the three do not fit each other.
        ConfigError: a class is missing, or x holds NaN or infinite numbers.
    """

    x: Float[Tensor, "n d_in"]
    labels: Int[Tensor, " n"]
    text: Int[Tensor, " n"]
    hook_name: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        n = len(self.x)
        if self.x.ndim != 2 or self.labels.shape != (n,) or self.text.shape != (n,):
            raise ShapeError(
                "an eraser is fitted on activations (n, d_in) with one label and one text a row; "
                f"got {tuple(self.x.shape)}, {tuple(self.labels.shape)}, {tuple(self.text.shape)}"
            )
        n_forget, n_retain = int((self.labels > 0).sum()), int((self.labels == 0).sum())
        if not n_forget or not n_retain:
            raise ConfigError(
                "an eraser needs rows to forget (label 1 or more) and rows to retain (label 0); "
                f"got {n_forget:,} and {n_retain:,}; give texts or labels of both sorts"
            )
        if n_forget + n_retain != n:
            raise ConfigError("a label is below 0; classes are counted from 0, which is retain")
        if not bool(self.x.isfinite().all()):
            raise ConfigError("the rows to fit on hold NaN or infinite numbers; look at the model")

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self.x.shape[1]

    @property
    def forget(self) -> Bool[Tensor, " n"]:
        """Rows to be erased."""
        return self.labels > 0

    @cached_property
    def place(self) -> Place:
        """Text and place of each row."""
        return Place.of_texts(self.text)

    @cached_property
    def text_labels(self) -> Int[Tensor, " n_texts"]:
        """Class of each text: that of its first row."""
        return self.labels[self.place.pos == 0]


def collect_rows(
    model: SubjectModel,
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    hook_name: str,
    tokens: Tokens = "content",
    ctx_len: int | None = None,
) -> LabelledRows:
    """Run the model on both sorts of texts and keep the activations at a hook, a row a token.

    Raises:
        ConfigError: a side is empty, or a text stands on both.
    """
    shared = sorted(set(forget) & set(retain))
    if shared:
        raise ConfigError(
            f"{len(shared)} of {len(set(forget))} forget texts are retain texts too, e.g. "
            f"{shared[0][:60]!r}; no eraser can do both, so take them out of one of the lists"
        )
    if not forget or not retain:
        raise ConfigError(
            f"an eraser needs texts of both sorts; got {len(forget)} to forget and {len(retain)} "
            "to retain"
        )
    hook = model.resolve(hook_name)
    texts = [*forget, *retain]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts: dict[int, Tensor] = {}
    for start in range(0, len(order), _BATCH_TEXTS):
        chosen = order[start : start + _BATCH_TEXTS]
        batch = model.tokenize([texts[i] for i in chosen], ctx_len=ctx_len)
        x = model.activations(batch, [hook])[hook]
        mask = token_mask(batch, tokens)
        for i, rows, kept in zip(chosen, x, mask, strict=True):
            parts[i] = rows[kept].float().cpu()
    lengths = torch.tensor([len(parts[i]) for i in range(len(texts))])
    text = torch.arange(len(texts)).repeat_interleave(lengths)
    return LabelledRows(
        torch.cat([parts[i] for i in range(len(texts))]),
        (text < len(forget)).long(),
        text,
        hook,
        model.fingerprint,
    )


def token_mask(batch: TokenBatch, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """The tokens of a batch that are read."""
    return batch.content if tokens == "content" else batch.mask


def text_means(rows: LabelledRows) -> LabelledRows:
    """One row a text: the mean of its rows, with the class of its first."""
    place = rows.place
    total = torch.zeros(place.n_texts, rows.d_in, dtype=torch.float64)
    total.index_add_(0, place.text, rows.x.double())
    counts = torch.bincount(place.text, minlength=place.n_texts).unsqueeze(1)
    number = torch.arange(place.n_texts)
    return LabelledRows(
        (total / counts).float(), rows.text_labels, number, rows.hook_name, rows.model
    )
