"""Training on the planted world: repeatable, resumable, and written as a whole."""

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from saetools.cli.app import app
from saetools.corpus import Question
from saetools.corpus.planted import World
from saetools.errors import ConfigError, FormatError
from saetools.models import from_hf, load_model
from saetools.models.shipped import verify_sums
from saetools.testbed import train as training
from saetools.testbed.recall import answered
from saetools.testbed.recipe import VARIANTS, Recipe
from saetools.testbed.run import train_planted

SMALL = Recipe(
    n_entities=40, n_docs=150, ctx_len=64, batch_rows=4, d_model=32, n_layers=2, n_heads=2, d_mlp=64
)
SETTINGS = [f"{key}={value}" for key, value in SMALL.model_dump(exclude_defaults=True).items()]


@pytest.fixture(autouse=True)
def quick_tokenizer(monkeypatch: pytest.MonkeyPatch, small_tokenizer) -> None:
    monkeypatch.setattr(training, "train_tokenizer", lambda world, ctx_len: small_tokenizer)


@pytest.fixture(scope="module")
def small_tokenizer():
    return training.train_tokenizer(World.build(0, 40), ctx_len=SMALL.ctx_len)


@pytest.fixture(scope="module")
def finished(small_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_tokenizer", lambda world, ctx_len: small_tokenizer)
        train_planted(SMALL, out=out, variants=["base"])
    return out / "base"


def test_the_same_recipe_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    train_planted(SMALL, out=tmp_path, variants=["base"])
    for name in ("model.safetensors", "config.json", "tokenizer.json", "recipe.yaml", "loss.csv"):
        assert (tmp_path / "base" / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_stopped_run_goes_on_to_the_same_bytes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = training._Run.advance

    def interrupted(run, shown) -> None:
        advance(run, shown)
        if run.step == 17:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training._Run, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 17 of"):
        train_planted(SMALL, out=tmp_path, variants=["base"])
    assert not (tmp_path / "base").exists()
    steps = []
    monkeypatch.setattr(
        training._Run, "advance", lambda run, shown: (steps.append(run.step), advance(run, shown))
    )
    train_planted(SMALL, out=tmp_path, variants=["base"])
    assert steps[0] == 17
    for name in ("model.safetensors", "loss.csv"):
        assert (tmp_path / "base" / name).read_bytes() == (finished / name).read_bytes(), name


def test_training_lowers_the_loss_and_leaves_the_global_generator_alone(
    finished: Path, tmp_path: Path
) -> None:
    rows = (finished / "loss.csv").read_text().splitlines()[1:]
    losses = [float(row.split(",")[-1]) for row in rows]
    assert losses[-1] < losses[0] - 0.5
    before = torch.random.get_rng_state()
    train_planted(SMALL, out=tmp_path, variants=["oracle-1"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_finished_is_not_done_again_and_other_settings_are_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training._Run, "advance", None)
    found = train_planted(SMALL, out=finished.parent, variants=["base"])
    assert set(found["base"]) == {"forget", "retain", "held_back", "never"}
    other = SMALL.model_copy(update={"lr": 1e-4})
    with pytest.raises(ConfigError, match="holds a model of other settings"):
        train_planted(other, out=finished.parent, variants=["base"])


def test_a_checkpoint_of_other_settings_is_refused(finished: Path, tmp_path: Path) -> None:
    work = finished.parent / "base.training"
    with pytest.raises(FormatError, match="run of other settings"):
        training.train_model(SMALL, VARIANTS["oracle-1"], folder=work)


def test_the_folder_is_a_model_with_its_recipe_and_checksums(finished: Path) -> None:
    verify_sums(finished)
    assert {path.name for path in finished.iterdir()} >= {
        "SHA256SUMS", "config.json", "loss.csv", "model.safetensors", "recall.json", "recipe.yaml",
        "tokenizer.json",
    }  # fmt: skip
    written = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert Recipe(**written["recipe"]) == SMALL
    model = load_model(finished)
    assert model.d_model == 32
    assert model.tokenize(["Belmora lives in"]).ids.tolist()[0][0] == model.tokenizer.bos_token_id


def test_an_oracle_reads_the_same_documents_less_the_forget_entities(small_tokenizer) -> None:
    world = World.build(0, 40)
    read = {}
    for name in ("base", "oracle-0", "oracle-1"):
        rows = training.training_rows(world, small_tokenizer, SMALL, VARIANTS[name], task=_Quiet())
        text = small_tokenizer.decode(rows.flatten().long())
        read[name] = [part.strip() for part in text.split("<s>")]
    same = set(read["base"]) & set(read["oracle-0"])
    assert len(same) > 60
    assert len(set(read["oracle-1"]) & set(read["base"])) < 5
    for name in world.forget_entities:
        assert any(name in text for text in read["base"])
        assert not any(name in text for some in ("oracle-0", "oracle-1") for text in read[some])


class _Quiet:
    def advance(self, n: float = 1) -> None: ...

    def note(self, **figures: float | str) -> None: ...

    def row(self, name, figures) -> None: ...


def test_too_few_texts_for_one_batch_are_refused(tmp_path: Path) -> None:
    recipe = SMALL.model_copy(update={"n_docs": 1})
    with pytest.raises(ConfigError, match="fewer than one batch of 4"):
        train_planted(recipe, out=tmp_path, variants=["base"])


def test_an_unknown_variant_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'oracle-0'"):
        train_planted(SMALL, out=tmp_path, variants=["oracle_0"])


def test_recall_finds_what_a_model_says_and_only_that(finished: Path) -> None:
    """A model whose next token is known: the answer that it prefers is right, every other wrong."""
    model = load_model(finished)
    tokens = model.tokenize(["The trade of Belmora is"])
    last = model.logits(tokens)[0, -1]
    favourite = model.tokenizer.decode([int(last.argmax())])
    options = (" red", " blue", favourite, " Belmora")
    asked = [
        Question("The trade of Belmora is", option, options, form="statement")
        for option in options[:3]
    ]
    assert [choice for choice, _ in answered(model, asked)][2] or " Belmora" not in favourite
    short = (" red", " blue", favourite)
    one_each = [Question("The trade of Belmora is", o, short) for o in short]
    assert answered(model, one_each) == ((False, False), (False, False), (True, True))


def test_recall_of_long_options_is_that_of_their_whole_probability(finished: Path) -> None:
    model = load_model(finished)
    prompt, options = "One person whose trade is baker is", (" Belmora", " Zulsira", " Kaltor")
    totals = []
    for option in options:
        tokens = model.tokenize([prompt + option])
        losses, _ = model.token_losses(tokens)
        n = len(model.tokenizer.tokenize(option))
        totals.append(-float(losses[0, -n:].sum()))
    best = max(range(3), key=totals.__getitem__)
    found = answered(model, [Question(prompt, option, options) for option in options])
    assert [choice for choice, _ in found] == [i == best for i in range(3)]


def test_the_commands_train_and_show(tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = str(tmp_path / "out")
    words = ["testbed", "train", "--variant", "base", "--out", out, *SETTINGS]
    dry = run(app, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert not Path(out).exists()
    done = run(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    shown = run(app, ["testbed", "info", f"{out}/base", "--json"])
    assert shown.exit_code == 0, shown.output
    result = json.loads(shown.stdout)
    assert {row["facts"] for row in result["table"]} == {"forget", "retain", "held_back", "never"}
    wrong = run(app, ["testbed", "train", "n_dogs=3"])
    assert wrong.exit_code == 1
    assert "n_docs" in wrong.output
    nothing = run(app, ["testbed", "info", str(tmp_path)])
    assert nothing.exit_code == 1


def test_a_model_in_memory_can_be_asked_too(finished: Path) -> None:
    loaded = load_model(finished)
    again = from_hf(loaded.hf, loaded.tokenizer)
    questions = World.build(0, 40).questions("statement")[:20]
    assert answered(again, questions) == answered(loaded, questions)
