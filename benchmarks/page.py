"""How large the explorer's page is and how long it takes to open, at 2,000 and 20,000 latents.

    python benchmarks/page.py                        # a synthetic index, from 2,000 to 20,000
    python benchmarks/page.py --run runs/demo        # a run's own page

The synthetic index has what a real one has: 12 top and 6 weaker contexts of 25 tokens a latent from
a Zipf vocabulary of 30,000, names, 8 words, three labels, 16 neighbours of each kind. Opening is
measured in headless Chromium from a file, as medians over fresh pages:

    parsed_ms   the document is parsed (`domInteractive`)
    script_ms   the page's own script: unpacking, the first table
    ready_ms    from the request to the first table
    search_ms   from a letter typed to the count of hits, 120 ms of waiting for more included
    map_ms      from a click on the map's tab to the third frame
    heap_mb     JavaScript memory
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from saetools.analysis import LatentIndex, Neighbours, UnitTable
from saetools.analysis.contexts import SPREAD, TOP, ContextTable
from saetools.analysis.postings import CodedLists, DocTokens
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.explore import explore
from saetools.naming import NamesTable
from saetools.naming.base import Name
from saetools.sae import build_sae

N_DOCS, WINDOW, N_BINS, N_VOCAB, N_CONTEXTS = 4000, 12, 20, 30_000, 18


def synthetic(n_latents: int) -> tuple[LatentIndex, NamesTable]:
    """An index of the size that a real one has, and names of four latents in five."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 7)) for _ in range(N_VOCAB)]
    token = np.minimum(rng.zipf(1.2, (n_latents * N_CONTEXTS, 2 * WINDOW + 1)), N_VOCAB) - 1
    act = np.where(rng.random(token.shape) < 0.12, rng.random(token.shape), 0).astype(np.float32)
    act[:, WINDOW] = 1.0
    kind = np.tile(np.where(np.arange(N_CONTEXTS) < 12, TOP, SPREAD), n_latents).astype(np.uint8)
    n_fired = np.maximum(10 ** rng.normal(3, 0.8, n_latents), 1).astype(np.int64)
    ones = np.ones(n_latents, dtype=np.float32)
    index = LatentIndex(
        hook_name="blocks.6.hook_resid_post",
        n_tokens=2_000_000,
        n_tokens_train=1_800_000,
        window=WINDOW,
        source={"sae": {"type": "topk", "d_in": 768, "n_latents": n_latents, "k": 32}},
        stats=LatentStats(
            n_fired, n_fired, n_fired.astype(float), np.zeros(n_latents), ones,
            rng.poisson(30, (n_latents, N_BINS)),
        ),
        label_table=_labels(n_latents, rng),
        contexts=ContextTable(
            latent=np.repeat(np.arange(n_latents), N_CONTEXTS),
            kind=kind,
            doc=rng.integers(0, N_DOCS, len(kind)).astype(np.int32),
            peak=np.full(len(kind), WINDOW, dtype=np.int32),
            token=token.astype(np.int32),
            act=act,
        ),
        docs=DocTable(
            [f"label {i % 40}" for i in range(N_DOCS)],
            [f"Document {i}" for i in range(N_DOCS)],
            np.arange(N_DOCS) % 10 == 0,
        ),
        token_texts=[f" {word}" for word in words],
        units={"word": _words(n_latents, words, rng)},
        decoder_neighbours=_neighbours(n_latents, rng),
        coactivation=_neighbours(n_latents, rng),
        level=(np.arange(n_latents) >= n_latents // 2).astype(np.int8),
        lists=CodedLists(
            np.zeros(n_latents + 1, dtype=np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float16)
        ),
        doc_tokens=DocTokens(np.arange(N_DOCS + 1) * 50, np.zeros(N_DOCS * 50, dtype=np.int32)),
        widths=[n_latents // 2, n_latents],
        parents=_neighbours(n_latents, rng),
        children=_neighbours(n_latents, rng),
    )  # fmt: skip
    named = [
        Name(i, " ".join(rng.choice(words, 3)), 0.5, "words hold most of it", "top_tokens")
        for i in range(n_latents)
        if i % 5
    ]
    return index, NamesTable(named)


def _labels(n_latents: int, rng: np.random.Generator) -> LabelTable:
    auroc = rng.beta(8, 6, (n_latents, 40)).astype(np.float32)
    counts = np.full(40, 90)
    names = [f"label {i}" for i in range(40)]
    return LabelTable(names, counts, counts // 9, auroc, auroc - 0.02, np.ones_like(auroc))


def _words(n_latents: int, words: list[str], rng: np.random.Generator) -> UnitTable:
    n = 8 * n_latents
    mass = rng.random(n)
    return UnitTable(
        words, np.ones(len(words), dtype=np.int64), np.arange(0, n + 1, 8),
        rng.integers(0, len(words), n), np.ones(n, dtype=np.int64), mass, np.zeros(n),
    )  # fmt: skip


def _neighbours(n_latents: int, rng: np.random.Generator) -> Neighbours:
    ids = rng.integers(0, n_latents, (n_latents, 16)).astype(np.int32)
    return Neighbours(ids, np.sort(rng.random((n_latents, 16)).astype(np.float32))[:, ::-1].copy())


def opening(path: Path, *, repeats: int) -> dict[str, float]:
    """Medians over fresh browser contexts, in milliseconds."""
    from playwright.sync_api import sync_playwright

    rows: list[dict[str, float]] = []
    with sync_playwright() as play:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.resolve().as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-ready]", timeout=120_000)
            rows.append(_timings(page))
            page.close()
        browser.close()
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


_SEARCH = """() => new Promise((done) => {
  const root = document.querySelector("#saetools > div").shadowRoot;
  const [count, box] = [root.getElementById("count"), root.getElementById("q")];
  const [before, began] = [count.textContent, performance.now()];
  const over = () => performance.now() - began;
  const wait = () => count.textContent === before ? setTimeout(wait, 1) : done(over());
  box.value = "abc";
  box.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
  wait();
})"""
_MAP = """() => new Promise((done) => {
  const began = performance.now();
  document.querySelector("#saetools > div").shadowRoot.getElementById("tab-map").click();
  const over = () => performance.now() - began;
  const next = (n) => requestAnimationFrame(() => n ? next(n - 1) : done(over()));
  next(2);
})"""


def _timings(page: Any) -> dict[str, float]:
    ready = page.evaluate("performance.now()")
    navigation = "performance.getEntriesByType('navigation')[0].domInteractive"
    return {
        "parsed_ms": page.evaluate(navigation),
        "script_ms": float(page.evaluate("document.documentElement.dataset.ready")),
        "ready_ms": ready,
        "search_ms": page.evaluate(_SEARCH),
        "map_ms": page.evaluate(_MAP),
        "heap_mb": page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
    }


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a run folder with a report.html, instead")
    asked = parser.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    print(f"{platform.machine()}, {os.cpu_count()} cores, commit {commit}")
    if asked.run is not None:
        path = asked.run / "report.html"
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {_spelled(path, asked.repeats)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        for n_latents in asked.latents:
            index, names = synthetic(n_latents)
            sae = build_sae("topk", d_in=256, n_latents=n_latents, k=16)
            began = time.perf_counter()
            page = explore(index, names=names, sae=sae, map="pca", out=Path(folder) / "page.html")
            built = time.perf_counter() - began
            assert page.path is not None
            about = f"{page.n_bytes / 1e6:.2f} MB, built in {built:.1f} s"
            print(f"{n_latents:>6} latents: {about}, {_spelled(page.path, asked.repeats)}")


def _spelled(path: Path, repeats: int) -> str:
    found = opening(path, repeats=repeats)
    return ", ".join(f"{name} {value:.0f}" for name, value in found.items())


if __name__ == "__main__":
    main()
