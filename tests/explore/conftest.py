"""A planted index of any size, planted run folders, and a real Chromium to look at pages with."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saetools.analysis import LatentIndex, Neighbours, UnitTable
from saetools.analysis.contexts import SPREAD, TOP, ContextTable
from saetools.analysis.postings import CodedLists, DocTokens
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.evaluate import EvaluationReport, Figure
from saetools.naming import NamesTable
from saetools.naming.base import Name
from saetools.sae import build_sae
from saetools.train import HealthReport
from saetools.train.health import Spread
from saetools.train.sink import SinkContext, open_sinks

IndexMaker = Callable[..., LatentIndex]
PageReader = Callable[..., str]

N_DOCS, WINDOW, N_BINS = 40, 4, 20
FILLER = [f" filler{i}" for i in range(60)]


def planted_index(n_latents: int, *, n_top: int = 3, extra: str | None = None) -> LatentIndex:
    """Latent i fires on the word `planted<i>` alone; every 25th latent is dead.

    Activations of latent i at its peaks are 2 + i/100 times 1, 0.9, 0.8 ...; `extra` is a token
    that stands beside each peak of latent 0.
    """
    rng = np.random.default_rng(0)
    texts = [*FILLER, *(f" planted{i}" for i in range(n_latents)), extra or " beside"]
    dead = np.arange(n_latents) % 25 == 24
    largest = np.where(dead, 0, 2 + np.arange(n_latents) / 100).astype(np.float32)
    latent = np.repeat(np.flatnonzero(~dead), n_top + 1)
    place = np.tile(np.arange(n_top + 1), (~dead).sum())
    token = rng.integers(0, len(FILLER), (len(latent), 2 * WINDOW + 1)).astype(np.int32)
    token[:, WINDOW] = len(FILLER) + latent
    token[latent == 0, WINDOW + 1] = len(texts) - 1
    token[:, -1] = -1  # the document ends here
    act = np.zeros(token.shape, dtype=np.float32)
    act[:, WINDOW] = largest[latent] * (1 - place / 10)
    act[:, WINDOW + 2] = largest[latent] / 1000  # faint: less than half of the smallest step
    n_fired = np.where(dead, 0, 1 + 5000 // (1 + np.arange(n_latents)))
    return LatentIndex(
        hook_name="blocks.1.hook_resid_post",
        n_tokens=1_000_000,
        n_tokens_train=900_000,
        window=WINDOW,
        source={
            "sae": {"type": "topk", "d_in": 16, "n_latents": n_latents, "k": 4},
            "store": {"model": {"name": "planted model"}, "corpus": {"name": "planted corpus"}},
        },
        stats=LatentStats(
            n_fired=n_fired,
            n_fired_train=n_fired,
            mass_train=n_fired * largest.astype(np.float64),
            mass_held_out=np.zeros(n_latents),
            max_act=largest,
            histogram=np.tile(np.arange(N_BINS), (n_latents, 1)) * ~dead[:, None],
        ),
        label_table=_labels(n_latents, dead),
        contexts=ContextTable(
            latent=latent,
            kind=np.where(place < n_top, TOP, SPREAD).astype(np.uint8),
            doc=(latent % N_DOCS).astype(np.int32),
            peak=np.full(len(latent), WINDOW, dtype=np.int32),
            token=token,
            act=act,
        ),
        docs=DocTable(
            label=[("animals", "places")[i % 2] for i in range(N_DOCS)],
            title=[f"Document {i}" for i in range(N_DOCS)],
            held_out=np.arange(N_DOCS) % 10 == 0,
        ),
        token_texts=texts,
        units={"word": _words(n_latents, n_fired, largest)},
        decoder_neighbours=_ring(dead),
        coactivation=Neighbours.none(n_latents),
        level=np.zeros(n_latents, dtype=np.int8),
        lists=CodedLists(
            np.zeros(n_latents + 1, dtype=np.int64),
            np.zeros(0, dtype=np.uint32),
            np.zeros(0, dtype=np.float16),
        ),
        doc_tokens=DocTokens(np.zeros(N_DOCS + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)),
    )


def _ring(dead: np.ndarray) -> Neighbours:
    """The latents before and after a live one are its neighbours, at cosines 0.9 and 0.8."""
    ring, (live,) = Neighbours.none(len(dead)), np.nonzero(~dead)
    ring.ids[live, :2] = np.stack([np.roll(live, 1), np.roll(live, -1)], axis=1)
    ring.scores[live, :2] = 0.9, 0.8
    return ring


def _labels(n_latents: int, dead: np.ndarray) -> LabelTable:
    """Latent 1 tells animals and latent 2 places; all others are near chance."""
    train = np.full((n_latents, 2), 0.52, dtype=np.float32)
    train[1, 0], train[2, 1] = 0.97, 0.88
    train[dead] = 0.5
    counts = np.array([18, 18])
    q = np.where(train > 0.8, 1e-4, 1.0).astype(np.float32)
    return LabelTable(["animals", "places"], counts, counts // 9 * 4, train, train - 0.03, q)


def _words(n_latents: int, n_fired: np.ndarray, largest: np.ndarray) -> UnitTable:
    return UnitTable(
        strings=[f"planted{i}" for i in range(n_latents)],
        background=n_fired,
        bounds=np.arange(n_latents + 1),
        unit=np.arange(n_latents),
        count_train=n_fired,
        mass_train=n_fired * largest.astype(np.float64),
        mass_held_out=np.zeros(n_latents),
    )


@pytest.fixture(scope="session")
def make_index() -> IndexMaker:
    """Builds planted indexes."""
    return planted_index


@pytest.fixture(scope="session")
def names() -> NamesTable:
    """Names of the first two latents."""
    return NamesTable(
        [
            Name(0, "the first planted word", 0.9, "It fires on planted0 alone.", "top_tokens"),
            Name(1, "animals & <b>beasts</b>", 0.4, "", "manual"),
        ]
    )


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that starts here."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    if found is None:
        pytest.skip("needs Chromium on the path to open the page")
    return found


@pytest.fixture(scope="session")
def read_page(chromium: str) -> Iterator[PageReader]:
    """Open a page in headless Chromium and return its document once its script has run."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        @cache
        def read(path: Path, *, hash: str = "", size: tuple[int, int] = (1280, 900)) -> str:
            command = [
                chromium, "--headless", "--no-sandbox", "--disable-gpu",
                "--disable-background-networking", "--no-first-run",
                f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=8000", "--dump-dom", path.resolve().as_uri() + hash,
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
            return done.stdout

        yield read


_NORMS = Spread(10, 1.0, 1.0, 1.0, 0.9, 1.1, 0.0)


def write_run(
    folder: Path,
    *,
    fvu: float,
    l0: float,
    arch: str = "topk",
    n_latents: int = 32,
    k: int = 4,
    seed: int = 0,
    store: str = "one",
    health: bool = True,
    loss_recovered: float | None = None,
    n_rows: int = 20,
) -> Path:
    """Write a run whose health report says `fvu` and `l0`, its last training rows twice the fvu."""
    l0 = float(l0)  # 8 is as good as 8.0 in a test, and not in a report
    train = {"seed": seed, "n_tokens": 1000 * n_rows}
    meta: dict[str, Any] = {
        "hook_name": "blocks.0.hook_resid_post",
        "model": {"name": "planted"},
        "corpus": {"name": "planted texts"},
        "trained_tokens": 1000 * n_rows,
        "identity": {"train": train, "store": store},
    }
    folder.mkdir(parents=True)
    build_sae(arch, d_in=8, n_latents=n_latents, k=k, meta=meta).save(folder / "sae")
    (sink, *others) = open_sinks(SinkContext(folder, [], 0, {}))
    for i in range(1, n_rows + 1):
        figures = {"fvu": 2 * fvu * n_rows / i, "loss": 1.0 / i, "l0": l0, "dead_fraction": 0.25}
        row = {"step": i, "n_tokens": 1000 * i, **figures, "tokens_per_second": 100.0 * (i % 2 + 1)}
        for one in (sink, *others):
            one.write(row)
    if health:
        HealthReport(
            n_tokens=1000, n_latents=n_latents, fvu=fvu, l0=l0, l0_quantiles=(l0,) * 5,
            dead_fraction=0.125, dense_fraction=0.0, n_compared=n_latents, duplicate_fraction=0.0,
            n_duplicate_pairs=0, duplicates=(), encoder_norms=_NORMS, decoder_norms=_NORMS,
            activation_norms=_NORMS, massive_fraction=0.0, about={"split": "held_out"},
        ).save(folder / "health.json")  # fmt: skip
    if loss_recovered is not None:
        write_evaluation(folder, fvu=fvu, l0=l0, loss_recovered=loss_recovered)
    return folder


def write_evaluation(folder: Path, **values: float) -> None:
    """Write evaluation.json with these figures; `loss_recovered` is the one from zero ablation."""
    names = {"loss_recovered": "loss_recovered_zero"}
    rows = [
        Figure(names.get(name, name), "", "none", (0.0, 1.0)).measured(value)
        for name, value in {"dead_fraction": 0.0, **values}.items()
    ]
    about = {"split": "held_out", "n_docs": 3, "hook_name": "h", "sae": {}}
    EvaluationReport(tuple(rows), about=about).save(folder / "evaluation.json")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Writes run folders of given figures."""
    return write_run
