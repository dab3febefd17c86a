"""Every method of unlearning on the planted world: ten entities, one request and five in a row.

    python benchmarks/unlearning.py --out FOLDER [--only ROW ...] [--sequence ROW ...]
        [--time ROW ...] [--statements ROW ...] [--fits ROW ...] [--table]

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
machine that does nothing else. With the row's chosen setting, `--fits` fits with three other seeds,
`--sequence` asks five entities one after the other, and `--statements` fits on the form `statement`
alone and asks `reversed`, too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from unlearning_lab import TEST, VALIDATE, Lab, Setting

from saetools import progress
from saetools.errors import SaetoolsError
from saetools.evaluate.unlearning import UnlearningReport, UnlearningRow
from saetools.unlearn import Unlearned, give_verdict

OTHER = (*TEST, "reversed")
PARTS = ("efficacy", "form_robustness", "neighbours_kept", "utility")
SHOWN = (*PARTS, "relearn_resistance", "score", "form_gap", "residue", "relearning_gap")
_N_FITS = 3
STEP = {"lr": 5e-4, "n_steps": 100}
_TWO = ("resid_post.0", "resid_post.1")
_THREE = ("resid_post.0", "resid_post.1", "resid_post.2")
CRISP = {"lr": 1e-3, "n_steps": 120, "strength": 1.0, "beta": 0.98}

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
        for row in args.fits:
            chosen = json.loads((folder / f"{row}.json").read_text())
            fits = more_fits(lab, chosen["setting"], chosen["method"], _N_FITS)
            (folder / f"{row}.fits.json").write_text(json.dumps(fits, indent=1))
            print(row, [(fit["figures"]["score"][0], fit["verdict"]) for fit in fits], flush=True)
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
    report = judged(lab, edited)
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


def judged(lab: Lab, edited: Unlearned) -> UnlearningReport:
    """What the test split finds."""
    measures = (*PARTS, "relearn_resistance", "residue", "edit_norm")
    return lab.measure(edited.model, lab.data(TEST, lab.test_on), *measures)


def more_fits(lab: Lab, setting: Setting, method: str, n: int) -> list[dict[str, Any]]:
    """The same setting fitted with other seeds: how far one fit is from another."""
    found = []
    for seed in range(1, n + 1):
        report = judged(lab, lab.edit(method, {**setting, "seed": seed}))
        found.append(
            {"seed": seed, "figures": _figures(report), "verdict": give_verdict(report).word}
        )
    return found


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/unlearning"))
    parser.add_argument("--only", nargs="*", default=list(GRID), choices=list(GRID))
    parser.add_argument("--sequence", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--fits", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--statements", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--time", nargs="*", default=[], choices=list(GRID))
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
