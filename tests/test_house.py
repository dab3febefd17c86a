"""Promises about the package as a whole: light import, public names, frozen flags, floors."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import saetools
from saetools.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "numpy",
    "h5py",
    "transformers",
    "datasets",
    "sklearn",
    "pydantic",
    "rich",
    "yaml",
)
VERBS = ("train", "harvest", "evaluate", "explore", "unlearn")

SHARED = {"--json", "--help"}
RUN = SHARED | {"--quiet", "--out"}
WORK = RUN | {"--device", "--seed"}
TRY = WORK | {"--latent", "--prompt", "--n-tokens", "--positions"}
FLAGS = {
    "ablate": TRY | {"--concept", "--n-latents", "--mode", "--value"},
    "bench": SHARED | {"--run", "--only", "--shape", "--out"},
    "compare": RUN,
    "concept bottleneck": WORK | {"--texts", "--min-docs", "--pooling"},
    "concept explain": RUN | {"--device", "--text", "--of", "--against", "--set"},
    "concept find": WORK
    | {"--positive", "--negative", "--texts", "--label", "--pooling", "--n-latents"},
    "config check": SHARED,
    "config schema": SHARED,
    "config show": SHARED,
    "convert": SHARED | {"--quiet", "--dry-run", "--to", "--from", "--probe"},
    "demo": WORK | {"--dry-run", "--only"},
    "doctor": SHARED,
    "erase": WORK | {"--eraser", "--concept", "--forget", "--retain", "--set"},
    "evaluate": WORK | {"--metrics", "--dry-run"},
    "explore": RUN | {"--html", "--dry-run"},
    "harvest": WORK | {"--resume", "--no-resume", "--dry-run"},
    "index": WORK | {"--resume", "--no-resume", "--dry-run"},
    "name": WORK | {"--namer", "--latents", "--dry-run"},
    "score": WORK
    | {"--scorers", "--latents", "--judge", "--judge-url", "--max-requests", "--dry-run"},
    "search": SHARED
    | {"--quiet", "--device", "--prompt", "--token", "--unit", "--label", "--near", "--top"},
    "steer": TRY
    | {"--name", "--strength", "--unit", "--when-latent", "--when-above", "--recipe", "--save"}
    | {"--sweep", "--strengths", "--kl-limit"},
    "store info": SHARED,
    "store merge": RUN,
    "store verify": SHARED | {"--quiet"},
    "testbed forget": SHARED | {"--quiet", "--entity", "--n-latents"},
    "testbed info": SHARED,
    "testbed names": SHARED | {"--quiet", "--namer", "--dry-run"},
    "testbed recover": SHARED | {"--quiet", "--dry-run"},
    "testbed train": RUN | {"--variant", "--device", "--resume", "--no-resume", "--dry-run"},
    "train": WORK | {"--resume", "--no-resume", "--dry-run", "--sweep"},
    "unlearn": WORK | {"--dry-run"},
}


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("folder", ["kernels", "tests"])
def test_source_roots_are_not_packages(folder: str):
    # A top-level package `kernels` would hide the one that transformers imports.
    assert not list((ROOT / folder).glob("__init__.py"))
    if folder == "tests":
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_all_is_sorted_and_is_what_is_exported():
    assert saetools.__all__ == sorted(saetools.__all__, key=lambda n: (n.upper() != n, n))
    assert set(saetools.__all__) <= set(dir(saetools))
    for name in saetools.__all__:
        assert callable(getattr(saetools, name)), name
    with pytest.raises(AttributeError, match="no_such_name"):
        saetools.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", saetools.__all__)
def test_every_public_name_has_a_docstring(name: str):
    assert len(inspect.getdoc(getattr(saetools, name)) or "") > 20


def test_importing_saetools_imports_nothing_heavy():
    code = f"import sys, saetools; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code) == "[]"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["config", "--help"]])
def test_help_imports_no_torch(words: list[str]):
    code = (
        "import sys\n"
        "from saetools.cli.app import app\n"
        f"app({words}, standalone_mode=False)\n"
        "found = [m for m in ('torch', 'numpy', 'h5py', 'saetools.config') if m in sys.modules]\n"
        "print('heavy:', found)\n"
    )
    assert python(code).splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    "order",
    [
        "import saetools; f = saetools.{v}; import saetools.{v}",
        "import saetools.{v}; import saetools; f = saetools.{v}",
        "from saetools import {v} as f",
    ],
)
def test_verbs_are_callable_in_every_import_order(order: str):
    code = "import inspect, sys\n"
    for verb in VERBS:
        code += order.format(v=verb) + (
            f"\nmodule = sys.modules['saetools.{verb}']"
            f"\nassert callable(f) and inspect.unwrap(f) is module.{verb}"
            f"\nassert inspect.signature(f) == inspect.signature(module.{verb})\n"
        )
    python(code)


def test_calling_a_verb_calls_the_function(monkeypatch: pytest.MonkeyPatch):
    module = importlib.import_module("saetools.train")
    loop = importlib.import_module("saetools.train.loop")
    assert module.train is loop.train
    monkeypatch.setattr(module, "train", lambda *args, **kwargs: (args, kwargs))
    assert saetools.train(1, out="x") == ((1,), {"out": "x"})
    monkeypatch.setattr("saetools.train.loop.step", None)  # attributes below a verb stay reachable


def _commands(group: object, prefix: str = "") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= _commands(command, f"{prefix}{name} ")
        else:
            options = [p for p in command.params if p.param_type_name == "option"]
            flags = {flag for p in options for flag in (*p.opts, *p.secondary_opts)}
            found[prefix + name] = flags | {"--help"}
    return found


def test_the_flags_of_the_command_line_are_frozen():
    assert _commands(typer.main.get_command(app)) == FLAGS


def test_every_command_shows_examples():
    waiting = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += command.commands.values()
        else:
            assert "Examples:" in command.help, command.name


def test_imports_point_down_the_floors():
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("needs import-linter, in the extra [dev]")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
