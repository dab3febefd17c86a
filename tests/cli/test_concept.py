"""`saetools concept`: find a concept's latents, fit a bottleneck, explain what it says."""

import json

import pytest

from saetools.evaluate.bottleneck import ConceptBottleneck
from saetools.evaluate.concept_search import ConceptSearch


def test_a_label_of_the_run_is_found_without_its_model(cli, trained, monkeypatch):
    monkeypatch.setattr(
        "saetools.models.load_model", lambda *a, **k: pytest.fail("no model is needed")
    )
    result = cli("concept", "find", trained, "--label", "sea", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = ConceptSearch.load(told["wrote"][0])
    assert found.concept == "sea"
    assert told["table"][0]["latent"] == found[0].latent
    assert found.n_train[0] + found.n_held_out[0] == 40
    assert found.verdict in told["text"]


def test_texts_come_from_two_files_or_from_one_with_labels(cli, trained, corpus_file, tmp_path):
    rows = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    up, down = tmp_path / "sea.txt", tmp_path / "other.jsonl"
    up.write_text("\n".join(row["text"] for row in rows if row["label"] == "sea"))
    down.write_text("\n".join(json.dumps(row) for row in rows if row["label"] != "sea"))
    first = cli("concept", "find", trained, "--positive", up, "--negative", down, "--json")
    second = cli("concept", "find", trained, "--texts", corpus_file, "--label", "sea", "--json")
    tables = [json.loads(result.stdout)["table"] for result in (first, second)]
    assert tables[0] == tables[1]
    assert (trained / "concepts" / "sea.json").is_file()


def test_a_bottleneck_is_fitted_scored_and_explains_itself(cli, trained):
    made = cli("concept", "bottleneck", trained, "--min-docs", 10, "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert {row["head"] for row in told["table"]} == {"bottleneck", "raw head"}
    fitted = ConceptBottleneck.load(trained / "bottleneck")
    assert fitted.classes == ("city", "farm", "sea")
    report = json.loads((trained / "bottleneck" / "report.json").read_text())
    assert report["verdict"] == told["text"]
    latent = fitted.latents[0]
    text = ["--text", "the ship and the wave and the sail"]
    said = cli("concept", "explain", trained, *text, "--set", f"{latent}=2.5", "--json")
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)["figures"]
    assert figures["predicted"] in fitted.classes
    assert figures["predicted then"] in fitted.classes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["find"], "give --positive FILE with --negative FILE, or --label"),
        (["find", "--positive", "a.txt"], "give --positive FILE with --negative FILE"),
        (["find", "--label", "see"], "nearest: sea"),
        (["find", "--positive", "no.txt", "--negative", "no.txt"], "there is no file no.txt"),
        (["bottleneck", "--min-docs", "400"], "two labels or more with 400 texts"),
        (["explain", "--text", "x"], "there is no bottleneck"),
        (["explain", "--text", "x", "--set", "7"], "is not LATENT=VALUE"),
    ],
)
def test_a_wrong_request_says_what_to_do(cli, trained, words, message):
    result = cli("concept", words[0], trained, *words[1:])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
