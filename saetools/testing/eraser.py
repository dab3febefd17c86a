"""The promises that every eraser keeps, as one call: `check_eraser("mine")`.

Raises AssertionError with a sentence about the first promise that is broken. What an eraser
promises beyond the common it says itself (`idempotent`, `keeps_rest`, `by_text`, `affine`), so the
suite knows none by name. Saved files go to the folder that is given and nowhere else.
"""

from pathlib import Path
from typing import Any

import torch

from saetools.erase import ERASERS, Eraser, EraserReport, SelectConfig, apply_rows, fit_labelled
from saetools.errors import ConfigError, ShapeError
from saetools.sae import SAE
from saetools.testing.concept import PlantedConcept, planted_concept

__all__ = ["check_eraser"]


def check_eraser(name: str, *, folder: Path, **config: Any) -> None:
    """Check an eraser by name, on rows in which a concept is planted.

    Args:
        name: name in the registry.
        folder: empty folder for files.
        config: settings of the eraser.

    Raises:
        AssertionError: a promise is broken; the message says which.

    >>> from tempfile import mkdtemp
    >>> check_eraser("leace", folder=Path(mkdtemp()))
    """
    planted = planted_concept()
    kind = ERASERS.get(name)
    sae = planted.sae if kind.needs_sae else None
    eraser = fit_labelled(name, planted.rows, sae=sae, **config)
    _check_calls(eraser, planted)
    _check_report(eraser, planted, name)
    _check_rest(eraser, planted)
    _check_algebra(eraser, planted)
    _check_saving(eraser, planted, folder)
    _check_refusals(name, eraser, planted, config)
    again = fit_labelled(name, planted.rows, sae=sae, **config)
    for key, tensor in eraser.tensors.items():
        assert torch.equal(again.tensors[key], tensor), f"the same rows give the same {key}"


def _check_calls(eraser: Eraser, planted: PlantedConcept) -> None:
    x, place = planted.rows.x, planted.rows.place
    before = x.clone()
    for n in (0, 1):
        out = eraser(x[:n])
        assert out.shape == (n, eraser.d_in), f"{n} rows give {n} rows"
        assert out.dtype == torch.float32, "rows come back in float32"
    first, second = eraser(x, place=place), eraser(x, place=place)
    assert first.shape == x.shape, "rows keep their shape"
    assert torch.equal(x, before), "the rows given are not written to"
    assert torch.equal(first, second), "two calls give the same bits"
    assert bool(first.isfinite().all()), "erased rows are finite"
    half = eraser(x.half(), place=place)
    assert half.dtype == torch.float32, "float16 rows come back in float32"
    if not eraser.by_text:
        apart = torch.cat([eraser(x[i : i + 1]) for i in range(16)])
        assert torch.allclose(apart, first[:16], atol=1e-5), "a row ignores its neighbours"
    whole = apply_rows(eraser, planted.rows)
    assert torch.allclose(whole, first, atol=1e-5), "a text ignores other texts"


def _check_report(eraser: Eraser, planted: PlantedConcept, name: str) -> None:
    report, rows = eraser.report, planted.rows
    assert report.kind == name, "the report has the eraser's name"
    assert report.n_forget_rows == int(rows.forget.sum()), "the report counts the forget rows"
    assert report.n_retain_rows == int((~rows.forget).sum()), "the report counts the retain rows"
    change = (eraser(rows.x, place=rows.place) - rows.x).norm(dim=1) / rows.x.norm(dim=1)
    for side, told in ((rows.forget, report.forget_change), (~rows.forget, report.retain_change)):
        assert abs(float(change[side].mean()) - told) < 1e-4, "the report has the edit's size"
    assert EraserReport.from_json(report.as_json()) == report, "a report survives JSON"
    assert str(report), "a report can be read"


def _check_rest(eraser: Eraser, planted: PlantedConcept) -> None:
    if not eraser.keeps_rest:
        return
    x, place = planted.rows.x, planted.rows.place
    fires = planted.sae.encode(x).dense()[:, eraser.tensors["latents"]].any(1)
    assert bool(fires.any()), "the chosen latents fire somewhere"
    kept = eraser(x, place=place)[~fires]
    assert torch.equal(kept, x[~fires]), "a row on which none of its latents fires keeps its bits"


def _check_algebra(eraser: Eraser, planted: PlantedConcept) -> None:
    x, place = planted.rows.x, planted.rows.place
    once = eraser(x, place=place)
    if eraser.idempotent:
        twice = eraser(once, place=place)
        assert torch.allclose(twice, once, atol=1e-5), "erasing twice is erasing once"
    if eraser.affine is not None:
        assert eraser.affine.matrix.dtype == torch.float64, "an affine map is in float64"
        assert torch.allclose(eraser.affine(x).float(), once, atol=1e-5), "affine is the eraser"


def _check_saving(eraser: Eraser, planted: PlantedConcept, folder: Path) -> None:
    x, place = planted.rows.x, planted.rows.place
    expected = eraser(x, place=place)
    loaded = Eraser.load(eraser.save(folder / "eraser"))
    assert type(loaded) is type(eraser), "an eraser comes back as what it was"
    assert loaded.config == eraser.config, "the config survives a round trip"
    assert loaded.report == eraser.report, "the report survives a round trip"
    assert torch.equal(loaded(x, place=place), expected), "a reloaded eraser gives the same bits"
    if eraser.sae is None:
        return
    path = eraser.save(folder / "bare", with_sae=False)
    bare = Eraser.load(path, sae=SAE.load(folder / "eraser" / "sae"))
    assert torch.equal(bare(x, place=place), expected), "and so does one that is given its SAE"
    _refused(lambda: Eraser.load(path), "an eraser without its SAE is not loaded")


def _check_refusals(
    name: str, eraser: Eraser, planted: PlantedConcept, config: dict[str, Any]
) -> None:
    wide = torch.zeros(2, eraser.d_in + 1)
    _refused(lambda: eraser(wide), "rows of another width are refused", ShapeError)
    rows, sae = planted.rows, planted.sae if eraser.needs_sae else None
    _refused(
        lambda: fit_labelled(name, rows, sae=sae, no_such_setting=1),
        "an unknown setting is refused",
    )
    if eraser.needs_sae:
        _refused(lambda: fit_labelled(name, rows, **config), "a missing SAE is refused")
    if isinstance(eraser.config, SelectConfig) and len(eraser.tensors["latents"]):
        none = {**config, "min_forget_rate": 1.0, "score": "difference", "count_by": "row"}
        if "latents_by" in none:
            return
        message = _refused(
            lambda: fit_labelled(name, rows, sae=sae, **none), "an empty selection is refused"
        )
        assert "min_forget_rate = 1" in message, "the refusal names the threshold"
        assert "Loosen" in message, "the refusal says what to loosen"


def _refused(call: Any, promise: str, error: type[Exception] = ConfigError) -> str:
    try:
        call()
    except error as found:
        return str(found)
    raise AssertionError(promise)
