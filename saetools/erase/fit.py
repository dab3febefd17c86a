"""Fit an eraser: from texts through a model, or from rows that are there already."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saetools.config import validate
from saetools.erase.base import ERASERS, Eraser
from saetools.erase.report import EraserReport
from saetools.erase.rows import LabelledRows, Place, Tokens, collect_rows
from saetools.errors import ConfigError, ShapeError
from saetools.intervene.base import find_site
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["apply_rows", "fit_eraser", "fit_labelled", "fit_rows"]

_CHUNK_TEXTS = 256


def fit_eraser(
    name: str,
    model: SubjectModel,
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    hook_name: str | None = None,
    sae: SAE | None = None,
    tokens: Tokens = "content",
    ctx_len: int | None = None,
    **config: Any,
) -> Eraser:
    """Fit an eraser from texts that have a concept and texts that do not.

    Args:
        name: which eraser, e.g. "leace".
        model: the model that reads them.
        forget: texts with the concept.
        retain: texts without it.
        hook_name: where to erase; by default the hook that the SAE was trained at.
        sae: the SAE to work through, for erasers that need one.
        tokens: read the text's own tokens, or the special ones too; apply it as it was fitted.
        ctx_len: longest text in tokens.
        config: settings of this eraser, e.g. `n_latents=8`.

    Raises:
        UnknownNameError: there is no such eraser.
        ConfigError: a setting is wrong, a side is empty, a text is on both, no latent is selected,
            the SAE is missing or was trained on another model.

    >>> eraser = fit_eraser("leace", model, forget=a, retain=b, hook_name="resid_post.3")
    ...                                                     # doctest: +SKIP
    """
    kind = ERASERS.get(name)
    settings = validate(kind.Config, config, what=f"eraser {name}")
    _check_sae(name, kind, sae)
    if sae is not None:
        hook_name = find_site(model, sae, hook_name=hook_name).hook_name
    if hook_name is None:
        raise ConfigError(
            f"no hook to erase at: {name} was given no hook_name and no SAE that has one; pass "
            "hook_name='resid_post.<layer>'"
        )
    rows = collect_rows(
        model, forget=forget, retain=retain, hook_name=hook_name, tokens=tokens, ctx_len=ctx_len
    )
    return fit_labelled(name, rows, sae=sae, **settings.model_dump())


def fit_rows(
    name: str,
    x: Float[Tensor, "n d_in"],
    labels: Int[Tensor, " n"],
    *,
    text: Int[Tensor, " n"] | None = None,
    hook_name: str | None = None,
    sae: SAE | None = None,
    **config: Any,
) -> Eraser:
    """Fit an eraser from activations.

    Args:
        name: which eraser.
        x: activations.
        labels: class of each row: 0 is retained, all others are forgotten. LEACE, R-LACE and mean
            projection make all classes alike, so there 0 is a class like any other.
        text: text of each row, rows of one text together; by default each row is its own.
        hook_name: where they were read, so that the eraser knows where it acts.
        sae: the SAE to work through, for erasers that need one.
        config: settings of this eraser.

    Raises:
        UnknownNameError, ConfigError, ShapeError: as `fit_eraser`.
    """
    text = torch.arange(len(x)) if text is None else text.cpu()
    rows = LabelledRows(x.detach().float().cpu(), labels.cpu().long(), text, hook_name)
    return fit_labelled(name, rows, sae=sae, **config)


def fit_labelled(name: str, rows: LabelledRows, *, sae: SAE | None = None, **config: Any) -> Eraser:
    """Fit an eraser from labelled rows, and measure how large its edit is on them."""
    kind = ERASERS.get(name)
    settings = validate(kind.Config, config, what=f"eraser {name}")
    _check_sae(name, kind, sae)
    if sae is not None and sae.config.d_in != rows.d_in:
        raise ShapeError(
            f"the SAE reads rows of width {sae.config.d_in}, the rows to fit on have {rows.d_in}; "
            "use the SAE of their hook"
        )
    found = kind.learn(rows, settings, sae)
    target = rows.text_labels > 0
    report = EraserReport(
        name,
        rows.hook_name,
        rows.model,
        n_forget_rows=int(rows.forget.sum()),
        n_retain_rows=int((~rows.forget).sum()),
        n_forget_texts=int(target.sum()),
        n_retain_texts=int((~target).sum()),
        evidence=found.evidence,
        thresholds=found.thresholds,
        rejected=found.rejected,
        figures=found.figures,
        notes=found.notes,
    )
    tensors = {"mean": rows.x.double().mean(0), **found.tensors}
    held = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    eraser = kind(settings, held, report, sae if kind.needs_sae else None)
    if sae is not None and kind.needs_sae:
        eraser = eraser.to(sae.device)
    return replace(eraser, report=_measured(eraser, rows))


def apply_rows(eraser: Eraser, rows: LabelledRows) -> Float[Tensor, "n d_in"]:
    """The rows after the eraser, text by text."""
    place = rows.place
    ends = torch.bincount(place.text, minlength=place.n_texts).cumsum(0).tolist()
    parts, start = [], 0
    for last in range(_CHUNK_TEXTS, place.n_texts + _CHUNK_TEXTS, _CHUNK_TEXTS):
        stop = ends[min(last, place.n_texts) - 1]
        own = Place.of_texts(place.text[start:stop])
        parts.append(eraser(rows.x[start:stop], place=own))
        start = stop
    return torch.cat(parts)


def _measured(eraser: Eraser, rows: LabelledRows) -> EraserReport:
    """The report with the size of the edit on the rows of the fit."""
    change = apply_rows(eraser, rows) - rows.x
    relative = change.norm(dim=1) / rows.x.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    touched = (change != 0).any(1)
    return replace(
        eraser.report,
        forget_change=float(relative[rows.forget].mean()),
        retain_change=float(relative[~rows.forget].mean()),
        retain_touched=float(touched[~rows.forget].float().mean()),
    )


def _check_sae(name: str, kind: type[Eraser], sae: SAE | None) -> None:
    if kind.needs_sae and sae is None:
        linear = ", ".join(n for n in ERASERS.names() if not ERASERS.get(n).needs_sae)
        raise ConfigError(
            f"the eraser '{name}' works through an SAE and none was given; pass sae=, or choose "
            f"one that needs none: {linear}"
        )
