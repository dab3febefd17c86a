"""Every eraser in the registry keeps every promise, and so do its variants."""

from pathlib import Path

import pytest

from saetools.erase import ERASERS
from saetools.testing import check_eraser

VARIANTS = [
    ("app", {"density": "gaussian", "prior": 0.1}),
    ("clamp", {"variant": "guarded", "score": "importance", "max_retain_rate": 1.0}),
    ("clamp", {"multiple": 3.0}),
    ("itd", {"latents_by": "set_difference", "value": -8.0}),
    ("leace", {"shrink": False, "level": "text"}),
    ("mean_projection", {"level": "text"}),
    ("rlace", {"rank": 2, "n_steps": 50}),
    ("safree", {"alpha": None, "n_directions": 3}),
    ("sauce", {"factor": -1.0, "count_by": "row"}),
    ("steerer", {"variant": "position"}),
    ("steerer", {"variant": "activation", "strength": 2.0}),
    ("zero", {"score": "saliency", "n_latents": 2}),
]


@pytest.mark.parametrize("name", ERASERS.names())
def test_eraser_conforms(name: str, tmp_path: Path) -> None:
    check_eraser(name, folder=tmp_path)


@pytest.mark.parametrize(("name", "config"), VARIANTS, ids=lambda value: str(value))
def test_its_variants_conform_as_well(name: str, config: dict[str, object], tmp_path: Path) -> None:
    check_eraser(name, folder=tmp_path, **config)
