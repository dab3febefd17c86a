"""The page on interventions shows code that runs and names what there is."""

import re
from pathlib import Path

from saetools.intervene import OPERATIONS, TOKEN_CLASSES
from saetools.intervene.recipe import FORMAT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "interventions.md").read_text("utf-8")


def test_the_python_of_the_page_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(block, "interventions.md", "exec"), {"__name__": "page"})


def test_the_page_lists_every_operation_and_class_and_the_format() -> None:
    for name in OPERATIONS.names():
        assert f"`{OPERATIONS.get(name).__name__}`" in PAGE, name
    for name in TOKEN_CLASSES:
        assert f"`{name}`" in PAGE, name
    assert f"`{FORMAT}`" in PAGE
