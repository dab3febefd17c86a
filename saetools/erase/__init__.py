"""Erase a concept from activations: fit -> a small frozen object that is applied, saved, loaded.

`fit_eraser` learns from texts, `fit_rows` from activations; `erased` applies the result in a
running model, and a plain call applies it to rows. Erasers are one file each in `erasers/`.
"""

from saetools.erase.apply import erased
from saetools.erase.base import ERASERS, AffineMap, Eraser, EraserConfig, Learned
from saetools.erase.control import random_control
from saetools.erase.fit import apply_rows, fit_eraser, fit_labelled, fit_rows
from saetools.erase.report import EraserReport
from saetools.erase.rows import LabelledRows, Place, Tokens, collect_rows, text_means
from saetools.erase.scrub import Scrub, scrub
from saetools.erase.select import SelectConfig, Selection, select_latents

__all__ = [
    "ERASERS",
    "AffineMap",
    "Eraser",
    "EraserConfig",
    "EraserReport",
    "LabelledRows",
    "Learned",
    "Place",
    "Scrub",
    "SelectConfig",
    "Selection",
    "Tokens",
    "apply_rows",
    "collect_rows",
    "erased",
    "fit_eraser",
    "fit_labelled",
    "fit_rows",
    "random_control",
    "scrub",
    "select_latents",
    "text_means",
]
