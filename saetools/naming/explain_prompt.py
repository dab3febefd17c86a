"""The question that is put to a language model about a latent, and the name in its answer.

The form is that of Paulo et al. 2024 (arXiv:2410.13928): contexts with the tokens that matter
between << and >>, if wanted their activations from 1 to 10, if wanted contexts in which the latent
is silent; three worked examples; the answer's last line is `[EXPLANATION]: ...`.
"""

import re
from collections.abc import Sequence

from saetools.analysis import Context
from saetools.naming.chat import Message

__all__ = ["explanation_in", "messages_for", "shown"]

_HIGHLIGHT = 0.3  # of the strongest activation in the context
_LONGEST = 200  # characters of a name

_TASK = """You study what single latents of a neural network stand for. You are given texts in \
which one latent fires; the tokens on which it fires most stand between << and >>.

Say what these tokens, or the texts around them, have in common that other texts lack.
- Be brief and exact: a phrase of at most fifteen words, no sentence, no list.
- If it is a single word or spelling, say which one.
- If it is what comes before or after, say so.
- Say nothing of the marks, of latents, or of examples."""
_ACTIVATIONS = """
Below each text stand the marked tokens with the strength of the activation, 1 to 10."""
_SILENT = """
Last come texts in which the latent is silent. What you say must not hold for them."""
_END = """
You may think first. The last line of your answer is
[EXPLANATION]: what you found"""

# Texts, strengths, answer.
_WORKED = (
    (
        ("and he <<waited>> for the tide", "they had <<hoped>> for rain", "she <<looked>> for it"),
        ((10,), (7,), (6,)),
        'Verbs in the past, each with "for" after it.\n[EXPLANATION]: past-tense verb before "for"',
    ),
    (
        ("add a pinch of <<salt>>, then", "the <<salt>> had gone hard", "<<Salt>> and vinegar"),
        ((9,), (10,), (8,)),
        'The same word each time.\n[EXPLANATION]: the word "salt"',
    ),
    (
        ("the <<bow>> of the <<ferry>>", "out past the <<harbour>> wall", "her <<sails>> were wet"),
        ((6, 9), (8,), (7,)),
        "Ships, their parts, where they lie.\n[EXPLANATION]: ships and seafaring",
    ),
)


def messages_for(
    examples: Sequence[Context],
    *,
    activations: bool = False,
    silent: Sequence[Context] = (),
) -> list[Message]:
    """The whole question about one latent.

    Args:
        examples: training contexts in which it fires.
        activations: whether their strengths are told.
        silent: contexts in which it does not fire; none leaves that part out.
    """
    system = _TASK + (_ACTIVATIONS if activations else "") + (_SILENT if silent else "") + _END
    found: list[Message] = [{"role": "system", "content": system}]
    for texts, strengths, answer in _WORKED:
        lines = [
            _numbered(i, text, list(zip(re.findall("<<(.+?)>>", text), values, strict=True)))
            if activations
            else _numbered(i, text)
            for i, (text, values) in enumerate(zip(texts, strengths, strict=True), 1)
        ]
        found.append({"role": "user", "content": "\n".join(lines)})
        found.append({"role": "assistant", "content": answer})
    strongest = max((max(context.acts) for context in examples), default=1.0)
    lines = [
        _numbered(i, shown(context), _strengths(context, strongest) if activations else ())
        for i, context in enumerate(examples, 1)
    ]
    if silent:
        lines.append("\nThe latent is silent in these:")
        lines += [_numbered(i, shown(c, marked=False)) for i, c in enumerate(silent, 1)]
    found.append({"role": "user", "content": "\n".join(lines)})
    return found


def shown(context: Context, *, marked: bool = True) -> str:
    """A context on one line, with << >> around the runs of tokens that matter.

    Marks that the text itself has are taken apart, so that they say nothing.
    """
    parts: list[str] = []
    inside = False
    for token, on in zip(context.tokens, _matters(context, marked), strict=True):
        text = _harmless(token)
        if on and not inside:
            body = text.lstrip()
            parts += [text[: len(text) - len(body)], "<<", body]
        else:
            parts += [">>", text] if inside and not on else [text]
        inside = on
    return "".join([*parts, ">>" if inside else ""]).strip()


def explanation_in(answer: str) -> str | None:
    """What stands behind the last [EXPLANATION]: of an answer; None if there is nothing."""
    found = re.findall(r"\[EXPLANATION\]:[^\S\n]*([^\n]*)", answer, flags=re.IGNORECASE)
    text = " ".join(found[-1].split()) if found else ""
    return text[:_LONGEST] or None


def _matters(context: Context, marked: bool) -> list[bool]:
    least = _HIGHLIGHT * max(context.acts, default=0.0)
    return [marked and act > 0 and act >= least for act in context.acts]


def _harmless(text: str) -> str:
    flat = " ".join(text.split("\n"))
    return flat.replace("<<", "< <").replace(">>", "> >")


def _strengths(context: Context, strongest: float) -> list[tuple[str, int]]:
    return [
        (_harmless(token).strip(), max(1, round(10 * act / strongest)))
        for token, act, on in zip(
            context.tokens, context.acts, _matters(context, True), strict=True
        )
        if on
    ]


def _numbered(i: int, text: str, strengths: Sequence[tuple[str, int]] = ()) -> str:
    told = ", ".join(f'("{token}", {strength})' for token, strength in strengths)
    return f"Text {i}: {text}" + (f"\nActivations: {told}" if strengths else "")
