"""Every method of unlearning on the planted world: ten entities, one request and five in a row.

    python benchmarks/unlearning.py --out FOLDER [--only ROW ...] [--sequence ROW ...]
        [--time ROW ...] [--statements ROW ...] [--table]

Each row of the table is a method with a few settings. It is fitted on the forms `statement` and
`reversed` of the ten forget entities, with the same forms of a third of the retain entities and
everyday texts to keep. Its setting is the one with the best harmonic mean of efficacy, form
robustness, neighbours kept and utility on the forms `cloze` and `paraphrase_1`, with another third
of the retain entities as neighbours. Then it is judged, once, on the forms `question`,
`paraphrase_2` and `two_hop`, with the last third as neighbours, which no step before has seen.

The row `crisp_random` is a control: the second setting of `crisp` with other latents, which fire as
often on the forget rows. SAEs are trained first (2,048 latents, BatchTopK with k 8, a million
tokens each) and kept in FOLDER/saes. Every row leaves FOLDER/rows/<row>.json and is not made
again; `--table` prints what is there. `--time` fits rows once more for their seconds alone, on a
machine that does nothing else. `--sequence` asks five entities one after the other, with
the row's chosen setting; `--statements` fits on the form `statement` alone and asks `reversed`,
too.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import saetools as st
from saetools import progress
from saetools.corpus import Question
from saetools.corpus.planted import World
from saetools.errors import SaetoolsError
from saetools.evaluate.unlearning import (
    ProbeSettings,
    RelearnSettings,
    UnlearningData,
    UnlearningReport,
    UnlearningRow,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.models import LanguageModel
from saetools.sae import SAE
from saetools.unlearn import (
    Plan,
    PlannedLatent,
    Unlearned,
    give_verdict,
    plan_unlearning,
    unlearn,
)
from saetools.unlearn.rows import Item, rows_of
from saetools.unlearn.select import read_latents

FIT, VALIDATE, TEST = (
    ("statement", "reversed"),
    ("cloze", "paraphrase_1"),
    ("question", "paraphrase_2", "two_hop"),
)
OTHER = (*TEST, "reversed")
PARTS = ("efficacy", "form_robustness", "neighbours_kept", "utility")
SHOWN = (*PARTS, "relearn_resistance", "score", "form_gap", "residue", "relearning_gap")
STEP = {"lr": 5e-4, "n_steps": 100}
_TWO = ("resid_post.0", "resid_post.1")
_THREE = ("resid_post.0", "resid_post.1", "resid_post.2")
CRISP = {"lr": 1e-3, "n_steps": 120, "strength": 1.0, "beta": 0.98}

Setting = dict[str, Any]
# Row: the method, the hooks of its SAEs, and the settings to choose from.
GRID: dict[str, tuple[str, list[Setting]]] = {
    "gradient_ascent": (
        "gradient_ascent",
        [{"lr": 1e-4, "n_steps": n} for n in (12, 16, 20, 24)],
    ),
    "grad_diff": (
        "gradient_ascent",
        [
            {**STEP, "retain_weight": w, "retain_loss": loss}
            for w, loss in ((1.0, "nll"), (5.0, "nll"), (5.0, "kl"))
        ],
    ),
    "npo": (
        "npo",
        [{**STEP, "retain_weight": w, "beta": b} for w, b in ((1, 0.1), (5, 0.1), (5, 0.5))],
    ),
    "simnpo": ("npo", [{**STEP, "retain_weight": w, "reference": False} for w in (1.0, 5.0)]),
    "rmu": (
        "rmu",
        [
            {"lr": 1e-3, "n_steps": 80, "layer": layer, "retain_weight": w, "all_weights": True}
            for layer, w in ((1, 30.0), (1, 100.0), (2, 30.0))
        ]
        + [{"lr": 1e-3, "n_steps": 80, "layer": 1, "retain_weight": 30.0}],
    ),
    "rocr": (
        "rocr",
        [
            {"layers": (0,), "match": match, "strength": s}
            for match, s in (("output", 1.0), ("residual", 1.0), ("residual", 3.0))
        ],
    ),
    "task_vector": (
        "task_vector",
        [{"lr": 1e-4, "n_steps": n, "scale": s} for n, s in ((20, 1.0), (20, 3.0), (60, 3.0))],
    ),
    "uce": ("uce", [{"layers": layers} for layers in ((0,), (0, 1))]),
    "project": (
        "project",
        [{"hooks": ("mlp_out.0",), "max_rank": r} for r in (4, 10)]
        + [{"hooks": ("mlp_out.0", "attn_out.1", "mlp_out.1"), "max_rank": 4}],
    ),
    "pisces": (
        "pisces",
        [
            {"saes": saes, "k": k, "strength": s, "threshold": t, "min_ratio": r}
            for saes, k, s, t, r in (
                (("mlp_out.0",), 100, 2.0, 0.5, 8.0),
                (("mlp_out.0",), 100, 4.0, 0.5, 8.0),
                (("mlp_out.0",), 30, 1.0, 0.5, 3.0),
                (("mlp_out.0", "mlp_out.1"), 100, 2.0, 0.5, 8.0),
            )
        ],
    ),
    "crisp_random": (
        "crisp",
        [{**CRISP, "saes": _THREE, "k": 300, "min_ratio": 2.0, "n_steps": 240, "control": True}],
    ),
    "crisp": (
        "crisp",
        [
            {**CRISP, "saes": _TWO, "k": 200, "n_steps": 240},
            {**CRISP, "saes": _THREE, "k": 300, "min_ratio": 2.0, "n_steps": 240},
            {**CRISP, "saes": _THREE, "k": 300, "min_ratio": 2.0, "n_steps": 240, "beta": 0.95},
        ],
    ),
}


class Lab:
    """Models, data and SAEs of the benchmark.

    Args:
        out: folder of everything that it writes.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.world = World.build()
        self.model = _loaded("planted")
        self.oracle = _loaded("planted:oracle-0")
        retain = self.world.retain_entities
        self.fit_on, self.validate_on, self.test_on = (retain[i::3] for i in range(3))

    def asked(self, forms: Sequence[str], names: Sequence[str]) -> tuple[Question, ...]:
        """What was read about entities in some forms."""
        return tuple(q for f in forms for q in self.world.questions(f, names, trained=True))

    @cached_property
    def retain(self) -> tuple[Item, ...]:
        """Facts of a third of the entities, and sentences about none of the others."""
        unseen = [*self.world.forget_entities, *self.validate_on, *self.test_on]
        texts = self.world.documents(300, 55, without=unseen)
        sentences = [s.strip() for t in texts for s in re.split(r"(?<=[.!?]) ", t.text)]
        some = [s for s in dict.fromkeys(sentences) if len(s) > 15][:500]
        return (*self.asked(FIT, self.fit_on), *some)

    def data(
        self, forms: Sequence[str], near: Sequence[str], names: Sequence[str] | None = None
    ) -> UnlearningData:
        """What a split asks."""
        world = self.world
        texts = world.documents(60, 101 + len(forms), without=world.forget_entities)
        return UnlearningData(
            forget=self.asked(forms, names or world.forget_entities),
            retain=self.asked(forms, near),
            texts=tuple(text.text for text in texts),
        )

    def sae(self, hook: str) -> SAE:
        """The SAE of a hook, trained when first asked for."""
        folder = self.out / "saes" / hook
        if not (folder / "config.json").is_file():
            names = [entity.name for entity in self.world.entities]
            texts = [t.text for t in self.world.documents(2000, 3)]
            texts += [t.text for t in self.world.texts_about(names, n_each=4, seed=5)]
            with tempfile.TemporaryDirectory() as scratch:
                acts = st.harvest(
                    self.model, texts, hook_name=hook, out=Path(scratch) / "acts.h5", ctx_len=160
                )
                sae = st.build_sae("batch_topk", d_in=acts.d_in, n_latents=2048, k=8)
                config = st.TrainConfig(n_tokens=1_000_000, batch_tokens=2048)
                st.train(sae, acts, config).save(folder)
        return SAE.load(folder)

    def edit(
        self,
        method: str,
        setting: Setting,
        *,
        model: LanguageModel | None = None,
        names: Sequence[str] = (),
        forms: Sequence[str] = FIT,
    ) -> Unlearned:
        """Unlearn the forget entities, or some, with a setting."""
        shared: Setting = {
            "forget": self.asked(forms, names or self.world.forget_entities),
            "retain": self.retain,
            "saes": [self.sae(hook) for hook in setting.get("saes", ())],
            "strict": False,
            **{key: value for key, value in setting.items() if key not in ("saes", "control")},
        }
        model = model or self.model
        plan = None
        if setting.get("control"):
            plan = self.control(plan_unlearning(model, method, **shared), setting["saes"])
        return unlearn(model, method, plan=plan, max_perplexity_ratio=None, **shared)

    def control(self, plan: Plan, hooks: Sequence[str]) -> Plan:
        """The same plan with other latents that fire as often on the forget rows."""
        rows = rows_of(self.model, self.asked(FIT, self.world.forget_entities))
        latents: list[PlannedLatent] = []
        for short in hooks:
            hook = self.model.resolve(short)
            rate, _ = read_latents(self.model, self.sae(short), rows, hook_name=hook)
            taken = {one.latent for one in plan.of(hook)}
            for one in plan.of(hook):
                order = (rate - one.forget_rate).abs().argsort(stable=True).tolist()
                other = next(j for j in order if j not in taken and rate[j] > 0)
                taken.add(other)
                latents.append(PlannedLatent(hook, other, float(rate[other]), 0.0, 0.0))
        return plan.with_latents(tuple(latents))

    def measure(
        self, edited: LanguageModel, data: UnlearningData, *measures: str
    ) -> UnlearningReport:
        """Evaluate an edited model."""
        settings = UnlearningSettings(
            measures=measures,
            n_questions=250,
            n_draws=100,
            relearn=RelearnSettings(lr=1e-4, n_steps=60, every=20),
            probe=ProbeSettings(layers=(1, 2, 3), max_rows=500),
        )
        return evaluate_unlearning(
            edited, original=self.model, oracles=[self.oracle], data=data, settings=settings
        )


def main() -> None:
    """Tune, test, print."""
    args = _arguments()
    torch.set_num_threads(1)
    folder = args.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    if args.table:
        print(table(folder))
        return
    lab = Lab(args.out)
    with progress.use("silent"):
        for row in args.only:
            if not (folder / f"{row}.json").is_file():
                (folder / f"{row}.json").write_text(json.dumps(make_row(lab, row), indent=1))
        for row in args.time:
            path = folder / f"{row}.json"
            found = json.loads(path.read_text())
            found["seconds"] = lab.edit(found["method"], found["setting"]).report.seconds
            path.write_text(json.dumps(found, indent=1))
        for row in args.statements:
            found = json.loads((folder / f"{row}.json").read_text())
            edited = lab.edit(found["method"], found["setting"], forms=("statement",)).model
            report = lab.measure(edited, lab.data(OTHER, lab.test_on), *PARTS)
            gone = {one.detail: one.value for one in report.rows if _of_form(one)}
            print(row, "fitted on statements alone:", gone, flush=True)
        for row in args.sequence:
            chosen = json.loads((folder / f"{row}.json").read_text())
            path = folder / f"{row}.sequence.json"
            path.write_text(json.dumps(sequence(lab, row, chosen["setting"]), indent=1))


def make_row(lab: Lab, row: str) -> dict[str, Any]:
    """Choose a setting on the validation split and judge it on the test split."""
    method, settings = GRID[row]
    data = lab.data(VALIDATE, lab.validate_on)
    tried = []
    for setting in settings:
        try:
            edited = lab.edit(method, setting)
            report = lab.measure(edited.model, data, *PARTS)
        except SaetoolsError as error:
            tried.append({"setting": setting, "score": 0.0, "error": str(error)[:200]})
            continue
        parts = {name: report.row(name).value for name in PARTS}
        score = 0.0 if min(parts.values()) <= 0 else len(parts) / sum(1 / v for v in parts.values())
        tried.append({"setting": setting, "score": score, **parts})
        print(row, setting, {k: round(v, 3) for k, v in parts.items()}, round(score, 3), flush=True)
    setting = max(tried, key=lambda one: float(one["score"]))["setting"]
    edited = lab.edit(method, setting)
    report = lab.measure(
        edited.model,
        lab.data(TEST, lab.test_on),
        *PARTS,
        "relearn_resistance",
        "residue",
        "edit_norm",
    )
    report.save(lab.out / "rows" / f"{row}.report.full")
    verdict = give_verdict(report)
    figures = _figures(report)
    print(row, "TEST", figures, verdict.sentence, flush=True)
    return {
        "row": row,
        "method": method,
        "setting": setting,
        "tried": tried,
        "figures": figures,
        "seconds": edited.report.seconds,
        "edit_norm": edited.report.edit_norm,
        "verdict": verdict.word,
        "sentence": verdict.sentence,
    }


def sequence(lab: Lab, row: str, setting: Setting) -> list[dict[str, Any]]:
    """Five entities one after the other: what is forgotten so far, and what it has cost so far."""
    method, _ = GRID[row]
    names = lab.world.forget_entities[::2][:5]
    model, found = lab.model, []
    for i, name in enumerate(names):
        model = lab.edit(method, setting, model=model, names=[name]).model
        data = lab.data(TEST, lab.test_on, names[: i + 1])
        report = lab.measure(model, data, *PARTS)
        parts = {part: report.row(part).value for part in PARTS if part not in report.missing}
        found.append({"request": i + 1, "entity": name, **parts})
        print(row, found[-1], flush=True)
    at_once = lab.edit(method, setting, names=names).model
    report = lab.measure(at_once, lab.data(TEST, lab.test_on, names), *PARTS)
    found.append({"request": "at once", **{part: report.row(part).value for part in PARTS}})
    print(row, found[-1], flush=True)
    return found


def table(folder: Path) -> str:
    """All rows as markdown, best S first."""
    rows = [json.loads(p.read_text()) for p in folder.glob("*.json") if p.name.count(".") == 1]
    rows.sort(key=lambda row: -row["figures"].get("score", [0])[0])
    lines = [
        "| method | E | form gap | N | U | probe residue | relearning gap | L | S | s | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["figures"]
        cells = [
            _spell(found.get(name))
            for name in (
                "efficacy",
                "form_gap",
                "neighbours_kept",
                "utility",
                "residue",
                "relearning_gap",
                "relearn_resistance",
                "score",
            )
        ]
        lines.append(
            f"| `{row['row']}` | {' | '.join(cells)} | {row['seconds']:.1f} | {row['verdict']} |"
        )
    return "\n".join(lines)


def _of_form(row: UnlearningRow) -> bool:
    return row.name == "forgetting" and row.model == "edited" and row.detail in OTHER


def _figures(report: UnlearningReport) -> dict[str, list[float]]:
    found = {}
    for name in SHOWN:
        rows = [r for r in report.rows if (r.name, r.model) == (name, "edited") and not r.detail]
        if rows:
            found[name] = [rows[0].value, rows[0].low, rows[0].high]
    return found


def _spell(figure: list[float] | None) -> str:
    if figure is None:
        return "-"
    value, low, high = figure
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _loaded(spec: str) -> LanguageModel:
    model = st.load_model(spec)
    assert isinstance(model, LanguageModel)
    return model


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/unlearning"))
    parser.add_argument("--only", nargs="*", default=list(GRID), choices=list(GRID))
    parser.add_argument("--sequence", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--statements", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--time", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
