"""What a user can get wrong is named, exits with 1 (usage with 2), and leaves nothing behind."""

import json
import shutil
from pathlib import Path

import pytest

from saetools.errors import ConfigError


def test_an_unknown_key_is_named_with_the_nearest(cli, recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    result = cli("harvest", recipe, "--out", out, "harvest.hook_nam=resid_post.0", "sae.kk=3")
    assert result.exit_code == 1
    assert "harvest.hook_nam" in result.stderr
    assert "did you mean 'hook_name'" in result.stderr
    assert "sae.kk" in result.stderr
    assert "Traceback" not in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("harvest.held_out_fraction=2", ["harvest.held_out_fraction = 2", "< 1"]),
        ("sae.k=0", ["sae.k = 0", ">= 1"]),
        ("sae.k=500", ["k is 500", "128"]),
        ("train.batch_tokens=0", ["train.batch_tokens = 0", ">= 1"]),
        ("train.lr=-1", ["train.lr = -1", "> 0"]),
        ("data.split=words", ["data.split = 'words'", "paragraph"]),
        ("sae.type=tokp", ["sae.type", "did you mean 'topk'"]),
        ("data.type=fils", ["data.type", "did you mean 'files'"]),
        ("naming.type=top_token", ["naming.type", "did you mean 'top_tokens'"]),
        ("train.seed=3", ["train.seed", "leave it out"]),
    ],
)
def test_a_setting_of_a_plugin_is_checked_before_anything_runs(
    cli, recipe: Path, tmp_path: Path, override: str, words: list[str]
):
    out = tmp_path / "run"
    result = cli("harvest", recipe, "--out", out, override)
    assert result.exit_code == 1
    for word in words:
        assert word in result.stderr
    assert not out.exists()


def test_a_missing_hook_is_named_and_nothing_is_left(cli, recipe: Path, tmp_path: Path):
    out = tmp_path / "runs" / "new" / "run"
    result = cli("harvest", recipe, "--out", out, "harvest.hook_name=resid_post.99")
    assert result.exit_code == 1
    assert "resid_post.99" in result.stderr
    assert not (tmp_path / "runs").exists(), "parents that were made for it go too"


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": ""}\n'])
def test_an_empty_corpus_is_refused_and_nothing_is_left(cli, recipe, tmp_path: Path, content: str):
    file, out = tmp_path / "empty.jsonl", tmp_path / "run"
    file.write_text(content)
    result = cli("harvest", recipe, "--out", out, f"data.path={file}", "data.label_field=null")
    assert result.exit_code == 1
    assert "empty" in result.stderr or "content token" in result.stderr
    assert not out.exists()


def test_a_folder_with_another_run_is_refused_with_what_differs(cli, trained: Path, files_of):
    before = files_of(trained)
    result = cli("train", trained, "sae.k=4", "train.batch_tokens=256")
    assert result.exit_code == 1
    for word in ("another run", "sae.k: 8 there, 4 asked for", "train.batch_tokens", "--out"):
        assert word in result.stderr
    result = cli("evaluate", trained, "harvest.n_tokens=100")
    assert result.exit_code == 1
    assert "harvest.n_tokens: None there, 100 asked for" in result.stderr
    assert files_of(trained) == before


def test_a_cheap_stage_is_made_anew_with_other_settings(cli, trained: Path):
    assert cli("evaluate", trained, "--metrics", "sparsity", "--quiet").exit_code == 0
    first = (trained / "evaluation.json").read_text()
    assert cli("evaluate", trained, "--metrics", "reconstruction", "--quiet").exit_code == 0
    assert (trained / "evaluation.json").read_text() != first


def test_the_device_is_no_reason_to_refuse(cli, trained: Path):
    assert cli("train", trained, "subject.device=auto", "--dry-run").exit_code == 0


def test_a_folder_with_other_files_is_refused(cli, recipe: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = cli("harvest", recipe, "--out", tmp_path)
    assert result.exit_code == 1
    assert "thesis.txt" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_sae_of_another_width_is_refused_with_both_widths(cli, trained: Path, files_of):
    from saetools.sae import build_sae

    d_in = json.loads((trained / "sae" / "config.json").read_text())["d_in"]
    shutil.rmtree(trained / "sae")
    build_sae("topk", d_in=d_in + 3, n_latents=16, k=2).save(trained / "sae")
    before = files_of(trained)
    for words in (["evaluate", trained], ["name", trained]):
        result = cli(*words)
        assert result.exit_code == 1
        assert f"width {d_in + 3}" in result.stderr
        assert f"width {d_in}" in result.stderr
    assert files_of(trained) == before


def test_a_stage_without_its_input_says_which_command_makes_it(cli, recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    result = cli("train", recipe, "--out", out)
    assert result.exit_code == 1
    # The folder is no run yet, so naming it would be of no use.
    assert "run `saetools harvest` with the same file and settings first" in result.stderr
    assert not out.exists()
    assert cli("harvest", recipe, "--out", out, "--quiet").exit_code == 0
    result = cli("evaluate", out)
    assert result.exit_code == 1
    assert f"saetools train {out}" in result.stderr


@pytest.mark.parametrize("where", ["nowhere.yaml", "nowhere/run"])
def test_a_run_that_is_not_there_is_named(cli, where: str):
    result = cli("train", where)
    assert result.exit_code == 1
    assert where in result.stderr


def test_a_folder_that_is_no_run_is_named(cli, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    result = cli("train", tmp_path / "empty")
    assert result.exit_code == 1
    assert "no run folder" in result.stderr


def test_latents_and_concepts_that_do_not_exist_are_named(cli, trained: Path, files_of):
    result = cli("steer", trained, "--latent", 9999, "--prompt", "the")
    assert (result.exit_code, "9999" in result.stderr) == (1, True)
    result = cli("ablate", trained, "--concept", "volcano")
    assert (result.exit_code, "volcano" in result.stderr) == (1, True)
    assert not {"steer.json", "ablate.json"} & set(files_of(trained))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ablate", "--latent", "3"], "--prompt"),
        (["ablate", "--prompt", "the"], "--latent"),
        (["ablate", "--latent", "3", "--prompt", "a", "--concept", "sea"], "--concept"),
        (["steer", "--prompt", "the"], "--latent"),
        (["name", "--latents", "few"], "few"),
        (["name", "--latents", "0:9999"], "128"),
        (["evaluate", "--metrics", "recall"], "recall"),
        (["evaluate", "--metrics", "embedding_cosine"], "embedding_cosine"),
    ],
)
def test_flags_that_do_not_fit_are_explained(cli, trained: Path, words: list[str], named: str):
    result = cli(words[0], trained, *words[1:])
    assert result.exit_code == 1
    assert named in result.stderr


@pytest.mark.parametrize("words", [["harvest"], ["frobnicate"], ["harvest", "x", "--k", "3"]])
def test_wrong_usage_exits_with_2(cli, words: list[str]):
    assert cli(*words).exit_code == 2


def test_a_dry_run_writes_nothing(cli, recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    result = cli("harvest", recipe, "--out", out, "--dry-run")
    assert result.exit_code == 0
    assert "harvest.hook_name" in result.stdout
    assert not out.exists()


def test_an_interrupt_exits_with_130_and_the_same_command_goes_on(
    cli, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    assert cli("harvest", recipe, "--out", out, "--quiet").exit_code == 0
    with monkeypatch.context() as patch:

        def stop(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("saetools.train.loop.step", stop)
        result = cli("train", out)
    assert result.exit_code == 130
    assert "same command again" in result.stderr
    refused = cli("evaluate", out)
    assert (refused.exit_code, f"saetools train {out}" in refused.stderr) == (1, True)
    assert cli("train", out, "--quiet").exit_code == 0
    assert cli("evaluate", out, "--quiet").exit_code == 0


def test_results_older_than_what_they_were_made_from_are_not_shown(cli, trained: Path):
    assert cli("evaluate", trained, "--quiet").exit_code == 0
    assert cli("train", trained, "--no-resume", "--quiet").exit_code == 0
    result = cli("explore", trained)
    assert result.exit_code == 0, result.output
    assert "without evaluation" in result.stdout


def test_debug_shows_the_error_itself(cli, recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAETOOLS_DEBUG", "1")
    result = cli("harvest", recipe, "sae.k=0")
    assert isinstance(result.exception, ConfigError)


def test_quiet_prints_nothing_and_json_prints_one_object(cli, trained: Path):
    assert cli("evaluate", trained, "--quiet").output == ""
    result = cli("evaluate", trained, "--json")
    answer = json.loads(result.stdout)
    wrote = [str(trained / f"evaluation.{kind}") for kind in ("json", "html")]
    assert answer["wrote"] == wrote
    assert all(json.loads(line)["task"] for line in result.stderr.splitlines())
