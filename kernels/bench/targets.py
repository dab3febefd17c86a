"""What the training step is wanted to reach, and what measured rows say of it.

The targets are those of an NVIDIA H200; on a CPU only the ratios mean something. Lower is better,
except for the factor over the compiled dense step.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["FLOORS_MS", "TARGETS", "Finding", "Target", "findings", "table"]

CARD = "H200"
# Encoder product, selection, gathers, sort and Adam one after another at the bandwidth and rate of
# an H200 that were measured (4.3 TB/s, 790 TFLOP/s), counted by bytes and operations; no timing.
FLOORS_MS = {
    (8192, 768, 24576, 32): 0.95,
    (8192, 2304, 65536, 64): 6.7,
    (8192, 4096, 131072, 64): 20.8,
}
Sizes = tuple[int, int, int, int]
Row = Mapping[str, object]


class Target(NamedTuple):
    """A ratio and its bound: at most `wanted`, or at least where `at_least`."""

    name: str
    wanted: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a measured ratio is within the bound."""
        return value >= self.wanted if self.at_least else value <= self.wanted

    @property
    def title(self) -> str:
        """The ratio and its bound, for the head of a table."""
        return f"{self.name} (wanted {'>=' if self.at_least else '<='} {self.wanted:g})"


OF_FLOOR = Target("step / floor", 1.5)
OF_TOPK = Target("Matryoshka / TopK", 1.15)
OF_DENSE_BYTES = Target("peak / dense (n, n_latents) float32", 0.15)
OF_COMPILED = Target("compiled dense / ours", 3.0, at_least=True)
TARGETS = (OF_FLOOR, OF_TOPK, OF_DENSE_BYTES, OF_COMPILED)


class Finding(NamedTuple):
    """What a shape reached of a target; no value where it was not measured."""

    sizes: Sizes
    target: Target
    value: float | None

    @property
    def outcome(self) -> str:
        """One of "met", "missed" and "not measured"."""
        if self.value is None:
            return "not measured"
        return "met" if self.target.met(self.value) else "missed"


def findings(rows: Iterable[Row], shapes: Iterable[Sizes]) -> list[Finding]:
    """Compute every target at every shape from rows of the benchmark; the last of a kind counts."""
    latest = {(_sizes(row), str(row["op"]), str(row["provider"])): row for row in rows}
    found = []
    for sizes in shapes:
        topk = latest.get((sizes, "step_topk", "ours"))
        nested = latest.get((sizes, "step_matryoshka", "ours"))
        compiled = latest.get((sizes, "step_topk", "compile"))
        step, dense_mib = _number(topk, "median_ms"), sizes[0] * sizes[2] * 4 / 2**20
        found += [
            Finding(sizes, OF_FLOOR, _ratio(step, FLOORS_MS.get(sizes))),
            Finding(sizes, OF_TOPK, _ratio(_number(nested, "median_ms"), step)),
            Finding(sizes, OF_DENSE_BYTES, _ratio(_number(topk, "peak_mib"), dense_mib)),
            Finding(sizes, OF_COMPILED, _ratio(_number(compiled, "median_ms"), step)),
        ]
    return found


def table(rows: Sequence[Row], shapes: Sequence[Sizes], *, device: str, on_gpu: bool) -> str:
    """Return the targets as a table of Markdown; verdicts only where there is a GPU."""
    found = {(one.sizes, one.target): one for one in findings(rows, shapes)}
    if not on_gpu:
        head = f"Ratios on {device}; the targets are for an {CARD} and are not judged here."
    elif CARD in device:
        head = f"Targets, on {device}."
    else:
        head = f"Targets of an {CARD}, floors too, on another card: {device}."
    lines = [
        head,
        "",
        "| n, d, n_latents, k | step, ms | " + " | ".join(t.title for t in TARGETS) + " |",
        "|---" * (2 + len(TARGETS)) + "|",
    ]
    for sizes in shapes:
        step = next((r for r in reversed(rows) if _is_our_step(r, sizes)), None)
        cells = [_cell(found[sizes, target], judged=on_gpu) for target in TARGETS]
        milliseconds = "not measured" if step is None else str(step["median_ms"])
        lines.append(f"| {', '.join(map(str, sizes))} | {milliseconds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(finding: Finding, *, judged: bool) -> str:
    if finding.value is None:
        return finding.outcome
    return f"{finding.value:.2f} {finding.outcome if judged else ''}".strip()


def _is_our_step(row: Row, sizes: Sizes) -> bool:
    return (_sizes(row), row["op"], row["provider"]) == (sizes, "step_topk", "ours")


def _sizes(row: Row) -> Sizes:
    n, d, n_latents, k = (int(str(row[name])) for name in ("n", "d", "n_latents", "k"))
    return n, d, n_latents, k


def _number(row: Row | None, name: str) -> float | None:
    text = "" if row is None else str(row.get(name) or "")
    return float(text) if text else None


def _ratio(value: float | None, unit: float | None) -> float | None:
    return None if value is None or not unit else value / unit
