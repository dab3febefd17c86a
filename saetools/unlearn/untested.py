"""What nobody tried on an edit: part of any honest report of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saetools.evaluate.unlearning import UnlearningReport

__all__ = ["Untested", "untested"]


@dataclass(frozen=True)
class Untested:
    """A way to what was forgotten that no figure of the report speaks of.

    Args:
        what: the way.
        why: why it was not tried, or what the reader should know of it.
    """

    what: str
    why: str


_NEVER = (
    Untested(
        "Quantisation and other precisions",
        "all figures are of the weights as they were edited; lower precision may bring things back",
    ),
    Untested(
        "Sampling",
        "answers were read off probabilities and greedy continuations; many samples at a high "
        "temperature may hold the answer once",
    ),
    Untested(
        "Few-shot, role-play and adversarially searched prompts",
        "questions were asked in the forms listed, and in no others",
    ),
    Untested("Other languages and spellings", "questions were asked in the wording that was given"),
    Untested(
        "Fine-tuning on unrelated texts",
        "relearning teaches some of the forgotten facts again; training on something else may "
        "bring back the rest, too",
    ),
    Untested(
        "Steering and patching of activations",
        "activations were read by probes, and not changed",
    ),
    Untested(
        "Stronger probes",
        "probes are a logistic one and a small MLP, on the residual stream at one token",
    ),
)
_MEASURES = {
    "efficacy": "Whether the questions are still answered",
    "form_robustness": "Whether all forms are forgotten alike",
    "neighbours_kept": "Neighbours",
    "utility": "Other texts",
    "relearn_resistance": "Relearning",
    "residue": "Fresh probes",
    "privacy_leak": "Membership: whether forget texts still stand out as read",
    "forget_quality": "Truth ratios beside those of a model that never knew",
    "kl_to_oracle": "Distance of all predictions to those of a model that never knew",
    "accuracy": "Plain accuracy by group of questions",
    "truth_ratio": "Truth ratios",
    "extraction_strength": "Extraction by a beginning of the text",
    "verbatim": "Verbatim continuation of forget texts",
    "knowledge": "Answers that are generated freely",
    "in_context": "The fact put before the question",
    "edit_norm": "Size of the edit",
    "score": "The combined score S",
}


def untested(report: UnlearningReport, request: Mapping[str, Any]) -> tuple[Untested, ...]:
    """What this report does not speak of: measures left out, forms not asked, and what none tries.

    Args:
        report: of the evaluation.
        request: from `describe_request`; {} if it is unknown.
    """
    left_out = [
        Untested(_MEASURES.get(name, name), f"{why} (`{name}`)")
        for name, why in report.missing.items()
    ]
    asked = {row.detail for row in report.rows if row.name == "forgetting"}
    fitted = request.get("forget", {}).get("forms", {})
    forms = [form for form in fitted if asked and form not in asked]
    if forms:
        left_out.append(
            Untested(
                f"The forms {', '.join(forms)}",
                "the edit was fitted on them, and they were not asked afterwards",
            )
        )
    n, who = report.about.get("n_forget_questions"), report.about.get("n_forget_entities")
    return (
        *left_out,
        Untested(
            "What nobody asked",
            f"{n} questions about {who} entities were asked; intervals are over these, and say "
            "nothing of facts beside them",
        ),
        Untested("Other fits", "one fit with one seed was judged; another may come out otherwise"),
        *_NEVER,
    )
