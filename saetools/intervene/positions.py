"""At which tokens an intervention acts.

The same tokens are chosen with and without KV cache, with padding on either side, alone and in a
batch: what is prompt and what is generated, and each token's place, come from `ForwardPass`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from jaxtyping import Bool
from torch import Tensor

from saetools.errors import ConfigError
from saetools.intervene.token_classes import TokenClass, check_token_class, vocabulary_mask
from saetools.models.base import SubjectModel
from saetools.models.forward_pass import ForwardPass

__all__ = ["Chooser", "Positions", "Span", "as_positions"]

Where = Literal["all", "prompt", "generated", "last"]
Span = tuple[int | None, int | None]
Chooser = Callable[[ForwardPass], Tensor]
"""Maps a pass to the mask (batch, pos) of the tokens that are chosen."""


@dataclass(frozen=True)
class Positions:
    """Tokens, chosen by all that is given at once.

    Args:
        where: "all"; "prompt": what `generate` was given, and outside of it all; "generated": what
            `generate` made; "last": the last token of the prompt, or of the text.
        tokens: only tokens of this class: a name of `TOKEN_CLASSES`, "re:" and a regular expression
            on the readable token, or token ids.
        spans: only tokens whose place in their text lies in one of these, from start (included) to
            stop (not included). BOS or CLS is place 0; negative places count back from the end of
            the prompt, so (-3, None) is its last three tokens and all that follows.
        specials: count BOS, EOS, CLS and SEP in, and padding that the model is not told of (the
            rest of a diffusion model's 77 tokens). By default only the text's own tokens.
    """

    where: Where = "all"
    tokens: TokenClass | None = None
    spans: Sequence[Span] = ()
    specials: bool = False

    def __post_init__(self) -> None:
        if self.where not in get_args(Where):
            raise ConfigError(
                f"positions: unknown place {self.where!r}; choose one of "
                f"{', '.join(get_args(Where))}, or 'every' (all and the special tokens too)"
            )
        if self.tokens is not None:
            object.__setattr__(self, "tokens", check_token_class(self.tokens))
        object.__setattr__(self, "spans", tuple(map(_checked_span, self.spans)))

    def chooser(self, model: SubjectModel) -> Chooser:
        """What chooses these tokens in a model's passes.

        Raises:
            ConfigError: the model has no token of the class.
        """
        vocabulary = None if self.tokens is None else vocabulary_mask(model, self.tokens)

        def choose(running: ForwardPass) -> Bool[Tensor, "batch pos"]:
            mask = self._base(running)
            if vocabulary is not None:
                mask = mask & _of_class(running, vocabulary)
            if self.spans:
                mask = mask & _in_spans(running, self.spans)
            return mask

        return choose

    def overlap(self, other: "Positions") -> bool:
        """Whether a token may be among both; True where that depends on the text."""
        ends = {self.where, other.where}
        if "generated" in ends and ends & {"prompt", "last"}:
            return False
        ids = [set(p.tokens) for p in (self, other) if p.tokens and not isinstance(p.tokens, str)]
        return len(ids) < 2 or bool(ids[0] & ids[1])

    def as_fields(self) -> dict[str, Any]:
        """The positions as plain data."""
        return asdict(self)

    def _base(self, running: ForwardPass) -> Bool[Tensor, "batch pos"]:
        mask = running.real if self.specials else running.content
        if self.where == "prompt":
            return mask & ~running.generated
        if self.where == "generated":
            return mask & running.generated
        if self.where == "last":
            end = running.prompt_length - 1 if self.specials else running.prompt_content_end
            return mask & ~running.generated & (running.place == end.unsqueeze(1))
        return mask


def as_positions(asked: "Positions | str | None") -> Positions:
    """Positions by a word: "all", "prompt", "generated", "last", or "every" (specials too)."""
    if isinstance(asked, Positions):
        return asked
    if asked == "every":
        return Positions(specials=True)
    return Positions() if asked is None else Positions(asked)  # type: ignore[arg-type]  # checked


def _checked_span(span: Any) -> Span:
    try:
        start, stop = (None if end is None else int(end) for end in span)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"a span is (start, stop), whole numbers or None; got {span!r}; write e.g. (2, 5)"
        ) from error
    same_side = start is not None and stop is not None and (start < 0) == (stop < 0)
    if same_side and start >= stop:  # type: ignore[operator]  # neither is None
        raise ConfigError(f"the span ({start}, {stop}) is empty; start must be below stop")
    return start, stop


def _of_class(running: ForwardPass, vocabulary: Tensor) -> Bool[Tensor, "batch pos"]:
    if running.ids is None:
        raise ConfigError(
            "positions ask for a class of tokens, but the model was called with embeddings, so "
            "its token ids are not known; call it with input_ids, or choose tokens by place"
        )
    table = vocabulary.to(running.ids.device)
    inside = running.ids < len(table)
    chosen: Tensor = table[running.ids.clamp(max=len(table) - 1)] & inside
    return chosen


def _in_spans(running: ForwardPass, spans: Sequence[Span]) -> Bool[Tensor, "batch pos"]:
    place, n_prompt = running.place, running.prompt_length.unsqueeze(1)
    inside = place < 0  # none yet
    for start, stop in spans:
        fits = place >= 0
        if start is not None:
            fits = fits & (place >= (n_prompt + start if start < 0 else start))
        if stop is not None:
            fits = fits & (place < (n_prompt + stop if stop < 0 else stop))
        inside = inside | fits
    return inside
