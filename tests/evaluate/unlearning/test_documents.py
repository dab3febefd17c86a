"""The code of docs/unlearning-evaluation.md runs as it stands there."""

import re
from pathlib import Path

import pytest

from saetools.evaluate.unlearning import MEASURES
from saetools.models.shipped import shipped_names

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "unlearning-evaluation.md").read_text(encoding="utf-8")


@pytest.mark.skipif("planted:oracle-0" not in shipped_names(), reason="no planted models shipped")
def test_the_code_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "document"}
    exec(compile(block, "unlearning-evaluation.md", "exec"), names)
    assert (tmp_path / "unlearning.json").exists()


def test_every_measure_has_a_row_in_the_document() -> None:
    for name in MEASURES:
        assert f"`{name}`" in DOCUMENT, name
