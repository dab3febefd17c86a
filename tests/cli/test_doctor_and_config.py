"""`doctor` says what can run here; `config` shows, checks and explains without writing."""

import json
from pathlib import Path

import yaml

from saetools.config import load_config


def test_doctor_says_what_runs_each_kernel_and_exits_with_0(cli):
    from saetools.sae.ops import kernel_status

    result = cli("doctor", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [row["op"] for row in answer["table"]] == [row.op for row in kernel_status()]
    assert all(row["reason"] for row in answer["table"])
    for word in ("python", "torch", "memory", "disk free", "all-MiniLM-L6-v2", "extra [demo]"):
        assert answer["figures"][word]


def test_config_show_prints_a_run_that_reads_back(cli, recipe: Path, tmp_path: Path):
    result = cli("config", "show", recipe, "sae.k=5")
    assert result.exit_code == 0, result.output
    copy = tmp_path / "copy.yaml"
    copy.write_text(result.stdout)
    assert load_config(copy).sae.fields["k"] == 5
    as_json = cli("config", "show", recipe, "sae.k=5", "--json")
    assert json.loads(as_json.stdout) == yaml.safe_load(result.stdout)


def test_config_check_accepts_and_refuses(cli, recipe: Path):
    assert cli("config", "check", recipe).exit_code == 0
    result = cli("config", "check", recipe, "naming.typ=x")
    assert result.exit_code == 1
    assert "naming.typ" in result.stderr


def test_config_schema_lists_every_setting_with_its_meaning(cli):
    result = cli("config", "schema")
    assert result.exit_code == 0, result.output
    for key in ("harvest.hook_name", "subject.model", "sae", "concept.n_latents", "(required)"):
        assert key in result.stdout
    schema = json.loads(cli("config", "schema", "--json").stdout)
    assert schema["additionalProperties"] is False


def test_version_and_help(cli):
    from importlib.metadata import version

    assert cli("--version").stdout.strip() == f"saetools {version('saetools')}"
    assert cli().exit_code == 2
    assert "Examples" in cli("steer", "--help").stdout
