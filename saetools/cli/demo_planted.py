"""The demo's second half: a language model whose world is known, and what it forgets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetools.cli.demo_half import Half
from saetools.cli.evaluate import run_evaluate
from saetools.cli.explore import run_explore
from saetools.cli.forget import run_forget
from saetools.cli.harvest import run_harvest
from saetools.cli.index import run_index
from saetools.cli.name import run_name
from saetools.cli.recover import run_recover
from saetools.cli.run import RunFolder
from saetools.cli.train import run_train

if TYPE_CHECKING:  # a type only: `--help` must not pay for scipy
    from saetools.evaluate.unlearning import UnlearningReport

__all__ = ["PLANTED"]

_SHOWN = {
    ("accuracy", "forget"): "right answers about it (chance 0.11)",
    ("accuracy", "neighbours"): "about others of its kind",
    ("accuracy", "retain"): "about everything else asked",
    ("ce", ""): "loss on other texts, nats a token",
    ("kl_to_oracle", "concept"): "KL(oracle || model) on its tokens",
}
_MODELS = ("original", "edited", "oracle-0")
_GOOD, _LEFT = 0.9, 0.1


def _nothing_to_do(run: RunFolder, stage: str) -> str | None:
    del run, stage
    return None


def _summary(run: RunFolder) -> str:
    return "\n".join([_recovered(run), _forgotten(run)])


def _recovered(run: RunFolder) -> str:
    """How many planted concepts have a latent, and how many of their names are right."""
    found: dict[str, Any] = json.loads(run.product("recover").read_text(encoding="utf-8"))
    lines = ["Planted concepts that one latent tells (AUROC 0.9 on held-out documents):"]
    lines += [
        f"  {row['concepts']:<12}{row['recovered']:>4} of {row['of']:>3}   median AUROC "
        f"{row['median AUROC']:.3f}, F1 {row['median F1']:.2f}"
        for row in found["layers"]
    ]
    names = found["names"]
    lines.append(
        f"Names that say the concept's word: {names['right_fraction']:.0%} of "
        f"{names['n_concepts']}; those of other latents: {names['swapped_fraction']:.0%}."
    )
    return "\n".join(lines)


def _forgotten(run: RunFolder) -> str:
    """What switching one entity's latent off did, beside a model that never read about it."""
    from saetools.evaluate.unlearning import UnlearningReport  # heavy: torch, scipy

    report = UnlearningReport.load(run.product("forget"))
    about = report.about
    lines = [f"{len(about['latents'])} latents of '{about['entity']}' switched off:"]
    lines.append(f"  {'':<38}" + "".join(f"{model:>10}" for model in _MODELS))
    rows = {(row.name, row.detail, row.model): row.value for row in report.rows}
    for (name, detail), label in _SHOWN.items():
        cells = [rows.get((name, detail, model)) for model in _MODELS]
        shown = "".join(f"{'-' if v is None else f'{v:.3f}':>10}" for v in cells)
        lines.append(f"  {label:<38}{shown}")
    return "\n".join([*lines, _verdict(report)])


def _verdict(report: "UnlearningReport") -> str:
    """What the parts of the score say, by rule."""
    e, f, n, u, left = (
        report.row(name).value
        for name in ("efficacy", "form_robustness", "neighbours_kept", "utility", "residue")
    )
    parts = (
        f"E {e:.2f}, F {f:.2f}, N {n:.2f}, U {u:.2f}; a fresh probe reads {left:+.2f} more of it"
    )
    if e >= _GOOD and f >= _GOOD and left <= _LEFT:
        return f"Gone as far as this can tell ({parts} than of an oracle)."
    word = "Suppressed, not removed" if e >= 1 - _GOOD else "Not forgotten"
    return f"{word}: {parts} than of an oracle. Latents that are switched off leave other ways."


PLANTED = Half(
    recipe=Path(__file__).with_name("demo_planted.yaml"),
    stages={
        "harvest": run_harvest,
        "train": run_train,
        "evaluate": run_evaluate,
        "index": run_index,
        "name": run_name,
        "recover": run_recover,
        "forget": run_forget,
        "explore": run_explore,
    },
    nothing_to_do=_nothing_to_do,
    summary=_summary,
)
