"""Generators, hashes and files that a run leaves behind."""

import json
from pathlib import Path

import torch

from saetools.repro import environment, fingerprint, generator, write_json


def test_streams_of_a_seed_repeat_and_differ_from_each_other() -> None:
    def draw(*key: int | str) -> torch.Tensor:
        return torch.rand(4, generator=generator(*key))  # type: ignore[arg-type]

    assert torch.equal(draw(0, "order"), draw(0, "order"))
    assert not torch.equal(draw(0, "order"), draw(0, "init"))
    assert not torch.equal(draw(0, "order"), draw(1, "order"))


def test_a_fingerprint_ignores_key_order_and_nothing_else() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1, "b": [2]}) != fingerprint({"a": 1, "b": [3]})


def test_json_files_hold_no_nan_and_are_replaced_whole(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a" / "x.json", {"a": float("nan"), "b": [1.5, float("inf")]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    held = json.loads(path.read_text(), parse_constant=refuse)
    assert held == {"a": None, "b": [1.5, None]}
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


def test_the_environment_names_versions_and_seed() -> None:
    env = environment(seed=7)
    assert env["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert env["seed"] == 7
