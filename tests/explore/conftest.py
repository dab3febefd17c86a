"""A planted index of any size, planted run folders, and a real Chromium to look at pages with."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saetools.analysis import LatentIndex, LogitTable, Neighbours, UnitTable, index_latents
from saetools.analysis.contexts import SPREAD, TOP, ContextTable
from saetools.analysis.postings import CodedLists, DocTokens
from saetools.analysis.tables import DocTable, LabelTable, LatentStats
from saetools.evaluate import EvaluationReport, Figure
from saetools.harvest import harvest
from saetools.models.base import SubjectModel
from saetools.naming import NamesTable
from saetools.naming.base import Name
from saetools.sae import SAE, build_sae
from saetools.train import HealthReport
from saetools.train.health import Spread
from saetools.train.sink import SinkContext, open_sinks

IndexMaker = Callable[..., LatentIndex]
PageReader = Callable[..., str]
PageOpener = Callable[..., Any]

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


def rich_index(n_latents: int, *, extra: str | None = None) -> LatentIndex:
    """A planted index in whose document d latents d and d + N_DOCS fire on the second token.

    Latent i + 1 is the child of latent i for even i; three latents in a row fire together, and
    each makes its own word likelier. There are two width levels, the first of n_latents // 2.
    """
    index = planted_index(n_latents, extra=extra)
    live = index.live
    first = live - live % 3
    together, parents, children = (Neighbours.none(n_latents) for _ in range(3))
    for slot, step in enumerate((1, 2)):
        other = first + (live - first + step) % 3
        fits = (other < n_latents) & np.isin(other, live)
        together.ids[live[fits], slot] = other[fits]
        together.scores[live[fits], slot] = 0.8 / step
    even = live[(live % 2 == 0) & np.isin(live + 1, live)]
    parents.ids[even + 1, 0], parents.scores[even + 1, 0] = even, 0.75
    children.ids[even, 0], children.scores[even, 0] = even + 1, 0.75
    tokens = [f" likely{i}" for i in range(n_latents)]
    every = np.arange(n_latents, dtype=np.int32)[:, None]
    z = np.full((n_latents, 1), 7.5, dtype=np.float32)
    logits = LogitTable(tokens, every, every[::-1].copy(), z, -z)
    doc_token = np.zeros((N_DOCS, 5), dtype=np.int32)
    doc_token[:] = np.arange(5)
    doc_token[:, 1] = len(FILLER) + np.arange(N_DOCS) % n_latents
    firing = live[live < 2 * N_DOCS]
    row = (firing % N_DOCS) * 5 + 1
    share = np.where(firing < N_DOCS, 1.0, 0.5).astype(np.float16)
    bounds = np.searchsorted(firing, np.arange(n_latents + 1)).astype(np.int64)
    return replace(
        index,
        coactivation=together,
        parents=parents,
        children=children,
        widths=[n_latents // 2, n_latents],
        level=(np.arange(n_latents) >= n_latents // 2).astype(np.int8),
        logits=logits,
        lists=CodedLists(bounds, row.astype(np.uint32), share),
        doc_tokens=DocTokens(np.arange(N_DOCS + 1) * 5, doc_token.ravel()),
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
def make_rich_index() -> IndexMaker:
    """Builds planted indexes that have everything: families, logit lens, tokens of documents."""
    return rich_index


TEXTS = [
    f"the {place} and the {i} of {animal}"
    for i in range(12)
    for place in ("sea", "hill", "town")
    for animal in ("cats", "birds")
]


def _indexed(model: SubjectModel, folder: Path) -> tuple[LatentIndex, SAE, SubjectModel]:
    store = harvest(model, TEXTS, hook_name="resid_post.0", out=folder / "acts.h5")
    with store:
        meta = {"hook_name": store.hook_name, "model": dict(store.manifest["model"])}
        sae = build_sae("topk", d_in=store.d_in, n_latents=48, k=4, meta=meta)
        return index_latents(sae, store, model=model), sae, model


Indexed = tuple[LatentIndex, SAE, SubjectModel]


@pytest.fixture(scope="session")
def indexed_lm(tiny_lm: SubjectModel, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """An index of a language model with random weights, its SAE, the model."""
    return _indexed(tiny_lm, tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="session")
def indexed_encoder(
    tiny_encoder: SubjectModel, tmp_path_factory: pytest.TempPathFactory
) -> Indexed:
    """The same of a text encoder."""
    return _indexed(tiny_encoder, tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium of the system's, driven by Playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright (extra `dev`) to drive a browser"
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    if found is None:
        pytest.skip("needs Chromium on the path to open the page")
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[PageOpener]:
    """Open pages; at the end of the test, none of them had an error or broke its own policy."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_(
        path: Path, *, hash: str = "", size: tuple[int, int] = (1280, 900), **how: Any
    ) -> Any:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, accept_downloads=True, **how
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if r.url.startswith("http") else None)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error(e.blockedURI));"
        )
        page.goto(path.resolve().as_uri() + hash)
        page.wait_for_selector("html[data-ready], html[data-error]", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def read_page(browser: Any) -> PageReader:
    """Open a page and return its document, the shadow root in it, once its script has run."""

    @cache
    def read(path: Path, *, hash: str = "", size: tuple[int, int] = (1280, 900)) -> str:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        page = context.new_page()
        page.goto(path.resolve().as_uri() + hash)
        page.wait_for_selector("html[data-ready], html[data-error]", timeout=60_000)
        page.wait_for_timeout(150)  # charts and rows are drawn in the frame that follows
        whole: str = page.evaluate(
            """() => {
              const mount = document.querySelector("#saetools > div");
              const inner = mount?.shadowRoot?.innerHTML ?? "";
              return document.documentElement.outerHTML + inner;
            }"""
        )
        context.close()
        return whole

    return read


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
