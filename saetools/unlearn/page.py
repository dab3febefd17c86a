"""A judgement as one HTML page: the verdict first, then every figure, curves, latents, settings.

The page holds no script and loads nothing: its policy allows its own style and nothing else. All
text of a user is escaped.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from saetools.evaluate.base import Curve
from saetools.evaluate.unlearning import UnlearningReport

__all__ = ["judgement_page"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { border-left: .4rem solid #888; padding: .6rem 1rem; font-size: 1.1rem; }
.removed { border-color: #2a8f4d; } .suppressed { border-color: #c98a00; }
.not-removed { border-color: #c0392b; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
pre { overflow-x: auto; } figure { margin: 1rem 0; } figcaption { opacity: .75; }
"""
_COLOURS = ("#3b6fd4", "#c0392b", "#2a8f4d", "#8e5bb5")
_WIDTH, _HEIGHT, _PAD = 560, 200, 34
_N_LATENTS = 60


def judgement_page(
    report: UnlearningReport,
    *,
    verdict: Mapping[str, Any],
    edit: Mapping[str, Any],
    latents: Sequence[Mapping[str, Any]],
) -> str:
    """The page; `verdict`, `edit` and `latents` are plain data."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    title = f"{edit['model']['name']} unlearned by {edit['method']}"
    kind = str(verdict["word"]).replace(" ", "-")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {escape(kind)}">{escape(str(verdict["sentence"]))}</p>',
        "<h2>What was measured</h2>",
        f'<div class="wide">{report._repr_html_()}</div>',
        *_curves(report.curves),
        "<h2>What was done</h2>",
        _done(edit),
        _latents(latents),
        "<h2>Settings</h2>",
        f"<pre>{escape(json.dumps(edit['config'], indent=2, default=str))}</pre>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _done(edit: Mapping[str, Any]) -> str:
    plan, guard = edit["plan"], edit["guard"]
    facts = [*plan["steps"], *(f"{name}: {value}" for name, value in plan["facts"].items())]
    facts += [f"rejected {n} latents: {why}" for why, n in plan["rejected"].items() if n]
    facts += [f"{name}: {value}" for name, value in edit["facts"].items()]
    facts.append(
        f"{len(edit['changes'])} weight tensors changed, norm {edit['edit_norm']:.4g}, "
        f"{edit['seconds']:.1f} s"
    )
    if guard is not None:
        facts.append(
            f"perplexity on {guard['n_texts']} retain texts: "
            f"{guard['perplexity_ratio']:.4g} times the original's"
        )
    items = "".join(f"<li>{escape(str(fact))}</li>" for fact in facts)
    losses = edit["losses"]
    if len(losses) < 2:
        return f"<ul>{items}</ul>"
    curves = [
        Curve(name, "", tuple(map(float, range(len(losses)))), tuple(s[name] for s in losses))
        for name in losses[0]
        if name != "total"
    ]
    return f"<ul>{items}</ul>{_chart('losses by step', curves)}"


def _latents(latents: Sequence[Mapping[str, Any]]) -> str:
    if not latents:
        return ""
    names = ("before", "after", "retain_before", "retain_after")
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("hook", "latent", *names))
    body = "".join(
        f"<tr><td>{escape(one['hook_name'])}</td><td>{one['latent']}</td>"
        + "".join(f"<td>{one[name]:.3g}</td>" for name in names)
        + "</tr>"
        for one in latents[:_N_LATENTS]
    )
    more = f"<p>and {len(latents) - _N_LATENTS} more</p>" if len(latents) > _N_LATENTS else ""
    return (
        "<h2>Latents that were acted on</h2><p>Mean activation on the tokens of forget questions, "
        f'and of retain questions.</p><div class="wide"><table><tr>{head}</tr>{body}</table></div>'
        f"{more}"
    )


def _curves(curves: Sequence[Curve]) -> list[str]:
    kinds = dict.fromkeys(curve.name.rsplit(" ", 1)[0] for curve in curves)
    return [
        _chart(
            f"{kind}: {next(c for c in curves if c.name.startswith(kind)).meaning}",
            [c for c in curves if c.name.rsplit(" ", 1)[0] == kind],
        )
        for kind in kinds
    ]


def _chart(caption: str, curves: Sequence[Curve]) -> str:
    points = [(x, y) for c in curves for x, y in zip(c.x, c.y, strict=True) if y == y]
    if len(points) < 2:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, low, high = min(xs), max(xs), min(0.0, *ys), max(*ys)
    dx, dy = (right - left) or 1.0, (high - low) or 1.0

    def at(x: float, y: float) -> str:
        across = _PAD + (x - left) / dx * (_WIDTH - 2 * _PAD)
        return f"{across:.1f},{_HEIGHT - _PAD - (y - low) / dy * (_HEIGHT - 2 * _PAD):.1f}"

    lines = []
    for i, curve in enumerate(curves):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(at(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y == y)
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>'
            f'<text x="{_PAD + 120 * i}" y="14" fill="{colour}" font-size="12">'
            f"{escape(curve.name.rsplit(' ', 1)[-1])}</text>"
        )
    ends = (
        f'<text x="2" y="{_PAD}" font-size="11" fill="currentColor">{high:.3g}</text>'
        f'<text x="2" y="{_HEIGHT - _PAD}" font-size="11" fill="currentColor">{low:.3g}</text>'
        f'<text x="{_WIDTH - _PAD}" y="{_HEIGHT - 8}" font-size="11" fill="currentColor">'
        f"{right:.4g}</text>"
    )
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">'
        f"{''.join(lines)}{ends}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )
