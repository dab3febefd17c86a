"""The judgement of an unlearning as one page: verdict, attacks, costs, what was touched, examples.

Every number on the page is one of the judgement's JSON, which the page carries along; nothing is
computed here but text.
"""

import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saetools.errors import FormatError
from saetools.explore.bundle import Bundle, plain
from saetools.explore.figures import label_of
from saetools.explore.page import JUDGEMENT, HtmlPage, assemble
from saetools.repro import read_json
from saetools.unlearn import Judgement

__all__ = ["JudgementPage", "show_judgement"]

logger = logging.getLogger(__name__)

_FORMAT = "saetools-judgement/1"
_HEADLINE = {
    "efficacy": ("Forgotten (E)", "share of what was known that is no longer answered"),
    "form_gap": ("Form gap", "most that one form of the question gives away above another"),
    "residue": ("Probes", "what fresh probes read beyond a model that never knew"),
    "relearn_resistance": ("Resists relearning (L)", "1 less what comes back beyond such a model"),
    "neighbours_kept": ("Neighbours kept (N)", "share of their knowledge that is still answered"),
    "utility": ("Utility (U)", "perplexity of other texts before, by that after"),
}
_GROUPS = {
    "forget": "To be forgotten",
    "neighbours": "Neighbours",
    "retain": "Everything else",
}
_CURVES = {
    "relearning": "Taught a part again",
    "probe logistic": "A logistic probe, by layer",
    "probe mlp": "An MLP probe, by layer",
}
_SHARES = {
    "efficacy": "Forgotten (E)",
    "neighbours_kept": "Neighbours kept (N)",
}
_COLUMNS = ("name", "model", "detail", "value", "low", "high", "direction", "meaning")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WIDEST = 40

Json = Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class JudgementPage(HtmlPage):
    """One self-contained HTML page of a judgement, to be handed to a third party.

    Args:
        html: the whole page.
        judgement: all that it shows, as plain data.
        path: where it was written, None if it was not.
    """

    html: str
    judgement: Json
    path: Path | None = None

    def save(self, path: str | Path) -> "JudgementPage":
        """Write the page, which carries its figures as JSON and CSV; returns it with its `path`."""
        return replace(self, path=self._write(path))

    def _about(self) -> str:
        return str(self.judgement["verdict"]["word"])


def show_judgement(
    judgement: Judgement | Json | str | Path,
    *,
    title: str | None = None,
    out: str | Path | None = None,
) -> JudgementPage:
    """A judgement on one self-contained page that loads nothing from the network.

    Args:
        judgement: from `judge`, or its JSON, or the path of that file.
        title: heading of the page; by default the names of model and method.
        out: where to write it; None builds it in memory.

    Raises:
        FormatError: the file is no judgement, or damaged.

    >>> show_judgement("runs/forgotten/judgement.json", out="report.html")    # doctest: +SKIP
    """
    content = plain(_content(judgement))
    try:
        head = _head(content, title)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"this judgement lacks a part ({error!r}); judge the edit again with this version"
        ) from error
    html = assemble(Bundle(head, {}), title=head["title"], assets=JUDGEMENT)
    page = JudgementPage(html, content)
    if out is None:
        return page
    page = page.save(out)
    logger.info("wrote %s; open it in a browser", page.path)
    return page


def _content(judgement: Judgement | Json | str | Path) -> Json:
    if isinstance(judgement, Judgement):
        return judgement.as_json()
    if isinstance(judgement, str | Path):
        return read_json(judgement, _FORMAT)
    return judgement


def _head(content: Json, title: str | None) -> dict[str, Any]:
    edit, evaluation = content["edit"], content["evaluation"]
    models = _models(content)
    return {
        "title": title or f"{edit['model']['name']}, unlearned by {edit['method']}",
        "word": content["verdict"]["word"],
        "sentence": content["verdict"]["sentence"],
        "cautions": _cautions(content),
        "facts": _facts(content),
        "headline": _headline(content),
        "models": [{"name": name, "architecture": name} for name in models.values()],
        "chart": [*_compared(content, models)],
        "utility": [*_utility(content, models)],
        "checks": content["checks"],
        "has_oracle": any(name.startswith("oracle") for name in models),
        "request": _request(edit),
        "touched": _touched(edit),
        "changes": edit["changes"],
        "grid": _grid(edit["changes"]),
        "latents": _latents(content),
        "curves": [*_curves(evaluation["curves"], [*models])],
        "losses": _losses(edit["losses"]),
        "examples": content["examples"],
        "untested": content["untested"],
        "settings": _settings(content),
        "rows": [*_rows(content)],
        "csv": _csv(content),
        "json": json.dumps(content, indent=2, ensure_ascii=False, default=str),
    }


def _models(content: Json) -> dict[str, str]:
    """Names of the models on the page by their names in the rows, the original first."""
    about, rows = content["evaluation"]["about"], content["evaluation"]["rows"]
    oracles = sorted({row["model"] for row in rows if row["model"].startswith("oracle")})
    return {
        "original": "Before",
        "edited": "After",
        **{name: f"Never knew ({about.get(name, name)})" for name in oracles},
        **{f"control {name}": f"Control: {name}" for name in content["controls"]},
    }


def _rows(content: Json) -> Iterator[dict[str, Any]]:
    """All figures, those of controls after the others."""
    yield from content["evaluation"]["rows"]
    for name, report in content["controls"].items():
        for row in report["rows"]:
            if row["model"] == "edited":
                yield {**row, "model": f"control {name}"}


def _cautions(content: Json) -> list[str]:
    """What a hasty reader must not miss."""
    near = [
        f"{c['name'].lower()} ({'passed' if c['passed'] else 'failed'})"
        for c in content["checks"]
        if c["clear"] is False
    ]
    unmeasured = [c["name"].lower() for c in content["checks"] if c["figure"] and c["missing"]]
    found = []
    if near:
        found.append(
            "So near the limit that the 95 % interval reaches across it: "
            f"{', '.join(near)}. Another sample of questions may turn these."
        )
    if unmeasured:
        found.append(f"Not measured, and so counted as not shown: {', '.join(unmeasured)}.")
    return found


def _facts(content: Json) -> list[tuple[str, str]]:
    edit, made = content["edit"], content["made"]
    packages = made.get("packages", {})
    versions = [f"{name} {version}" for name, version in packages.items() if version]
    if made.get("python"):
        versions.append(f"Python {made['python']}")
    pairs = [
        ("Model", edit["model"]["name"]),
        ("Fingerprint before", edit["model"].get("fingerprint")),
        ("Fingerprint after", edit["model"].get("edited")),
        ("Method", edit["method"]),
        ("Seed", edit["request"].get("seed")),
        ("Date", (made.get("date") or "").replace("T", " ").replace("+00:00", " UTC") or None),
        ("Commit", (made.get("git_commit") or "")[:12] or None),
        ("Settings", ", ".join(f"{k} {v}" for k, v in edit["config"].items()) or None),
        ("Versions", ", ".join(versions) or None),
    ]
    return [(heading, str(value)) for heading, value in pairs if value is not None]


def _headline(content: Json) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "meaning": meaning,
            "passed": check["passed"],
            "missing": check["missing"],
            "direction": check["better"],
            "limit": check["limit"],
            **(check["decides"] or {"value": None, "low": None, "high": None}),
        }
        for figure, (label, meaning) in _HEADLINE.items()
        for check in content["checks"]
        if check["figure"] == figure
    ]


def _compared(content: Json, models: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Questions answered right, by group and model; shares where accuracy was not measured."""
    rows = [*_rows(content)]
    plain_accuracy = [
        _compare(label, rows, models, name="accuracy", detail=group)
        for group, label in _GROUPS.items()
    ]
    shares = [
        _compare(label, rows, models, name=name, detail="") for name, label in _SHARES.items()
    ]
    found = [row for row in plain_accuracy if row] or [row for row in shares if row]
    chance = content["evaluation"]["about"].get("chance")
    for row in found:
        yield {**row, "chance": chance if row["label"] == _GROUPS["forget"] else None}


def _utility(content: Json, models: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Cross-entropy on other texts: a scale of its own."""
    rows = [*_rows(content)]
    found = _compare("Cross-entropy", rows, models, name="ce", detail="")
    if found:
        yield found


def _compare(
    label: str,
    rows: Sequence[Json],
    models: Mapping[str, str],
    *,
    name: str,
    detail: str,
) -> dict[str, Any] | None:
    by_model = {
        row["model"]: row
        for row in rows
        if (row["name"], row["detail"]) == (name, detail) and row["value"] is not None
    }
    if not by_model:
        return None
    found = [by_model.get(model) for model in models]
    return {
        "label": label,
        "direction": next(row for row in found if row is not None)["direction"],
        "values": [None if row is None else row["value"] for row in found],
        "ends": [
            None if row is None or row["low"] is None else [row["low"], row["high"]]
            for row in found
        ],
    }


def _request(edit: Json) -> list[dict[str, Any]]:
    sides = (("forget", "To be forgotten"), ("retain", "To be kept"))
    return [
        {"title": title, **edit["request"][side]}
        for side, title in sides
        if side in edit["request"]
    ]


def _touched(edit: Json) -> list[str]:
    plan, guard, limit = edit["plan"], edit["guard"], edit["request"].get("max_perplexity_ratio")
    facts = [*plan["steps"]]
    facts += [
        f"{name.replace('_', ' ')}: {_spelled(value)}" for name, value in edit["facts"].items()
    ]
    facts += [f"threshold {name}: {_spelled(value)}" for name, value in plan["thresholds"].items()]
    facts += [f"rejected {n:,} latents: {why}" for why, n in plan["rejected"].items() if n]
    facts += [
        f"SAE at {sae['hook_name']}: {sae['n_latents']:,} latents, fingerprint {sae['fingerprint']}"
        for sae in edit["request"].get("saes", ())
    ]
    facts.append(
        f"{len(edit['changes'])} weight tensors changed, by a norm of "
        f"{_spelled(edit['edit_norm'])} in all, in {edit['seconds']:.1f} s"
    )
    if guard is not None:
        allowed = "no limit was set" if limit is None else f"{limit:g} was allowed"
        facts.append(
            f"the guard read {guard['n_texts']} retain texts: "
            f"{_spelled(guard['perplexity_ratio'])} times as perplexing as before, where {allowed}"
        )
    return [fact[:1].upper() + fact[1:] for fact in facts]


def _spelled(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _grid(changes: Sequence[Json]) -> dict[str, Any] | None:
    """Relative changes as a table of layers and matrices; None where names tell no layer."""
    cells: dict[int, dict[str, float]] = {}
    for change in changes:
        parts = change["name"].split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is not None:
            matrix = ".".join(parts[at + 1 :]).removesuffix(".weight")
            cells.setdefault(int(parts[at]), {})[matrix] = change["relative"]
    columns = [*dict.fromkeys(name for row in cells.values() for name in row)]
    if not columns or len(columns) > _WIDEST:
        return None
    return {
        "columns": columns,
        "rows": [
            {"layer": layer, "values": [row.get(name) for name in columns]}
            for layer, row in sorted(cells.items())
        ],
    }


def _latents(content: Json) -> list[dict[str, Any]]:
    """Latents of the plan with what became of them, those that fired most on forget rows first."""
    after = {(one["hook_name"], one["latent"]): one for one in content["latents"]}
    unknown = dict.fromkeys(("before", "after", "retain_before", "retain_after"))
    found = [
        {**unknown, **one, **after.get((one["hook_name"], one["latent"]), {})}
        for one in content["edit"]["plan"]["latents"]
    ]
    return sorted(found, key=lambda one: -(one["before"] or 0.0))


def _curves(curves: Sequence[Json], models: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Curves of one kind over each other, one of each model."""
    kinds: dict[str, list[Json]] = {}
    for curve in curves:
        kinds.setdefault(curve["name"].rsplit(" ", 1)[0], []).append(curve)
    for kind, some in kinds.items():
        yield {
            "label": _CURVES.get(kind, label_of(kind.replace(" ", "_"))),
            "meaning": f"{some[0]['meaning'][:1].upper()}{some[0]['meaning'][1:]}.",
            "x_title": "layer" if "layer" in some[0]["meaning"] else "step",
            "steps": False,
            "series": [
                {
                    "sae": models.index(curve["name"].rsplit(" ", 1)[1]),
                    "x": curve["x"],
                    "y": curve["y"],
                }
                for curve in some
                if curve["name"].rsplit(" ", 1)[1] in models
            ],
        }


def _losses(losses: Sequence[Json]) -> dict[str, Any] | None:
    """The losses of the fit by step; None of a closed form."""
    if len(losses) < 2:
        return None
    names = [name for name in losses[0] if name != "total"]
    return {
        "names": [{"name": name, "architecture": name} for name in names],
        "curve": {
            "label": "Losses of the fit",
            "meaning": "By step, each before it is weighted.",
            "x_title": "step",
            "steps": False,
            "series": [
                {
                    "sae": i,
                    "x": [*range(len(losses))],
                    "y": [step.get(name) for step in losses],
                }
                for i, name in enumerate(names)
            ],
        },
    }


def _settings(content: Json) -> list[tuple[str, str]]:
    blocks = {
        f"Method {content['edit']['method']}": content["edit"]["config"],
        "Evaluation": content["evaluation"]["about"].get("settings", {}),
        "Limits of the verdict": content["rules"],
    }
    return [(name, json.dumps(block, indent=2, default=str)) for name, block in blocks.items()]


def _csv(content: Json) -> str:
    """All figures as CSV; no cell of it begins a formula."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in _rows(content):
        table.writerow([_cell(row[name]) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
