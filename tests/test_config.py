"""Settings are strict, compose by one base and dotted overrides, and complain all at once."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from saetools.config import RunConfig, Schema, load_config, validate
from saetools.errors import ConfigError, UnknownNameError

MINIMAL = {
    "name": "x",
    "subject": {"model": "tiny"},
    "data": {"type": "files", "path": "a.txt"},
    "harvest": {"hook_name": "resid_post.1"},
    "sae": {"type": "topk", "k": 8},
}
YAML = """
name: x
subject: {model: tiny}
data: {type: files, path: a.txt}
harvest: {hook_name: resid_post.1}
sae: {type: topk, k: 8}
"""


class Sae(BaseModel, extra="forbid"):
    d_in: int
    n_latents: int = Field(default=64, ge=1)
    k: int = Field(default=4, ge=1)


def models(kind: str) -> type[BaseModel]:
    if kind != "topk":
        raise UnknownNameError(f"no SAE architecture named '{kind}'")
    return Sae


SCHEMAS = {"sae": Schema(models, later={"d_in": 16})}


def problems_of(*overrides: str, **changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config({**MINIMAL, **changes}, *overrides, schemas=SCHEMAS)
    return str(caught.value)


def test_a_minimal_run_gets_its_defaults_and_its_folder():
    config = load_config(MINIMAL)
    assert config.out == "runs/x"
    assert config.harvest.dtype == "float16"
    assert config.sae.fields == {"k": 8}


def test_a_dumped_run_reads_back_equal(tmp_path: Path):
    config = load_config(MINIMAL, "evaluate.metrics=[sparsity]", "train.lr=1e-3", schemas=SCHEMAS)
    file = tmp_path / "config.yaml"
    file.write_text(config.dump())
    assert load_config(file, schemas=SCHEMAS) == config


def test_no_block_has_more_than_twelve_fields_and_each_says_what_it_is():
    blocks = [RunConfig, *(type(v) for v in dict(load_config(MINIMAL)).values())]
    for block in blocks:
        if isinstance(block, type) and issubclass(block, BaseModel):
            assert len(block.model_fields) <= 12
            assert all(field.description for field in block.model_fields.values()), block


def test_config_cannot_be_assigned_to():
    config = load_config(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        config.harvest.n_tokens = 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("harvest.n_tokns=5", ["harvest.n_tokns", "unknown key", "did you mean 'n_tokens'"]),
        ("evaluat.n_docs=5", ["evaluat", "did you mean 'evaluate'"]),
        ("harvest.held_out_fraction=1.5", ["harvest.held_out_fraction = 1.5", ">= 0 and < 1"]),
        ("harvest.ctx_len=1", ["harvest.ctx_len = 1", "allowed: >= 2"]),
        ("seed=-1", ["seed = -1", "allowed: >= 0"]),
        ("seed=true", ["seed = True", "integer"]),
        ("subject.kind=encoder", ["subject.kind = 'encoder'", "'text_encoder'"]),
        ("subject.device=gpu", ["subject.device = 'gpu'", "cuda"]),
        ("name=../up", ["name = '../up'"]),
        ("sae=3", ["sae = 3", "block of keys"]),
        ("sae={k: 3}", ["sae.type", "missing"]),
        ("evaluate.metrics=[]", ["evaluate.metrics", "empty"]),
        ("sae.k=0", ["sae.k = 0", "allowed: >= 1"]),
        ("sae.kk=1", ["sae.kk", "did you mean 'k'"]),
        ("sae.d_in=4", ["sae.d_in", "leave it out"]),
        ("sae.type=tokp", ["sae.type", "no SAE architecture named 'tokp'"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(override: str, words: list[str]):
    message = problems_of(override)
    for word in words:
        assert word in message
    assert "set by an override" in message


def test_all_problems_come_in_one_message():
    message = problems_of("seed=-1", "sae.k=0", "harvest.hook_nam=a", harvest={})
    assert "4 problems" in message
    for key in ("seed", "sae.k", "harvest.hook_nam", "harvest.hook_name: is missing"):
        assert key in message


def test_schemas_fill_in_defaults_but_not_what_comes_later():
    config = load_config(MINIMAL, schemas=SCHEMAS)
    assert config.sae.fields == {"n_latents": 64, "k": 8}
    assert config.sae.type == "topk"


def test_a_base_is_merged_key_by_key_and_the_file_wins(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(YAML + "seed: 1\nevaluate: {n_docs: 5}\n")
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\nname: y\nevaluate: {split: train}\n")
    config = load_config(child, "seed=2")
    assert (config.name, config.seed) == ("y", 2)
    assert (config.evaluate.n_docs, config.evaluate.split) == (5, "train")


def test_a_block_of_another_type_replaces_the_base_block(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(YAML)
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\nsae: {type: other, size: 3}\n")
    assert load_config(child).sae.fields == {"size": 3}
    child.write_text("base: base.yaml\nsae: {type: topk, size: 3}\n")
    assert load_config(child).sae.fields == {"k": 8, "size": 3}


def test_a_problem_in_the_base_names_the_base(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(YAML + "sed: 1\n")
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\n")
    with pytest.raises(ConfigError, match=r"child\.yaml: sed: unknown key.*set in .*base\.yaml"):
        load_config(child)


def test_bases_that_lead_back_to_themselves_are_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match="leads back to itself"):
        load_config(tmp_path / "a.yaml")


def test_a_syntax_error_names_file_and_line(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("name: x\nsubject: {model: tiny\nseed: 1\n")
    with pytest.raises(ConfigError, match=r"run\.yaml, line 3: not valid YAML"):
        load_config(file)


def test_a_key_given_twice_is_an_error_and_not_the_last_one(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("name: x\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"line 3.*'seed' is given twice"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("no", "no"), ("true", True), ("7", 7), ("[a, b]", ["a", "b"]), ("", None)],
)
def test_override_values_are_yaml_without_its_traps(written: str, value: object):
    config = load_config(MINIMAL, f"train.x={written}")
    assert config.train["x"] == value
    assert type(config.train["x"]) is type(value)


@pytest.mark.parametrize("override", ["sae.k", "=3", "sae..k=3", "name.x=3", "sae.k=[1"])
def test_a_malformed_override_is_quoted_back(override: str):
    with pytest.raises(ConfigError) as caught:
        load_config(MINIMAL, override)
    assert override in str(caught.value)


def test_overrides_leave_the_mapping_given_as_it_was():
    before = {**MINIMAL, "sae": {"type": "topk", "k": 8}}
    load_config(before, "sae.k=9")
    assert before["sae"] == {"type": "topk", "k": 8}


def test_validate_names_the_thing_and_every_problem():
    with pytest.raises(ConfigError) as caught:
        validate(Sae, {"k": 0, "kk": 1}, what="SAE architecture 'topk'")
    for word in ("SAE architecture 'topk'", "d_in: is missing", "k = 0", "did you mean 'k'"):
        assert word in str(caught.value)
