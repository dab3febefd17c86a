"""Unlearn for good: edits of weights whose result is an ordinary model folder, judged honestly.

    edited = unlearn(model, "crisp", forget=secrets, retain=others, saes=[sae])
    verdict = judge(edited, original=model, data=data, oracles=[retrained])

`METHODS` has the methods by name, one file each in `saetools/unlearn/methods`. What such edits do
and do not guarantee is in docs/unlearning-limits.md.
"""

from saetools.unlearn.base import METHODS, Method, MethodConfig
from saetools.unlearn.judge import Judgement, judge
from saetools.unlearn.plan import Plan, PlannedLatent
from saetools.unlearn.result import EditReport, Unlearned
from saetools.unlearn.run import plan_unlearning, unlearn
from saetools.unlearn.verdict import Verdict, VerdictRules, give_verdict

__all__ = [
    "METHODS",
    "EditReport",
    "Judgement",
    "Method",
    "MethodConfig",
    "Plan",
    "PlannedLatent",
    "Unlearned",
    "Verdict",
    "VerdictRules",
    "give_verdict",
    "judge",
    "plan_unlearning",
    "unlearn",
]
