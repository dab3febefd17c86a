"""`saetools index` and `saetools search` through the command line, on the tiny run."""

import json
from pathlib import Path

import h5py
import pytest

from saetools.analysis import LatentIndex
from saetools.analysis.build import work_folder


def search(cli, run, *words):
    result = cli("search", run, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["table"]


def test_index_is_a_command_of_its_own_and_search_reads_it(cli, trained: Path):
    dry = cli("index", trained, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    figures = json.loads(dry.stdout)["figures"]
    assert figures["bytes of room until it is done"] > 24 * figures["tokens"] > 0
    assert not (trained / "index.h5").exists()

    made = cli("index", trained, "--json")
    assert made.exit_code == 0, made.output
    outcome = json.loads(made.stdout)
    assert outcome["next"] == f"saetools name {trained}"
    assert outcome["figures"]["logit lens"] is True
    assert not work_folder(trained / "index.h5").exists()
    index = LatentIndex.load(trained / "index.h5")

    by_token = search(cli, trained, "--token", "ship", "--top", 3)
    share = index.on_word("SHIP", top=3)
    assert [row["latent"] for row in by_token] == [hit.latent for hit in share]
    assert by_token[0]["because"] == "fires on 'ship'"
    after = search(cli, trained, "--token", "ship", "--unit", "previous")
    assert after[0]["because"] == "fires after 'ship'"

    by_label = search(cli, trained, "--label", "sea", "--top", 2)
    assert [row["latent"] for row in by_label] == index.best_latents("sea", top=2).tolist()
    assert by_label[0]["q"] <= 1

    best = by_label[0]["latent"]
    relations = {row["relation"] for row in search(cli, trained, "--near", best)}
    assert "decoder cosine" in relations

    places = search(cli, trained, "--prompt", "the ship and the cow")
    assert {row["place"] for row in places} == set(range(max(row["place"] for row in places) + 1))
    assert all(row["activation"] > 0 for row in places)
    assert "".join({row["place"]: row["token"] for row in places}.values()).split() == [
        "the", "ship", "and", "the", "cow",
    ]  # fmt: skip


def test_search_finds_names_as_they_are_now(cli, trained: Path):
    assert cli("name", trained, "--quiet").exit_code == 0
    path = trained / "names.csv"
    path.write_text("latent,name,namer\n7,A certain Übername (sea),manual\n")
    assert search(cli, trained, "uberna")[0] | {"score": 0} == {
        "latent": 7, "name": "A certain Übername (sea)", "score": 0, "because": "its name",
    }  # fmt: skip
    path.write_text("latent,name,namer\n9,another one,manual\n")
    assert all(row["because"] != "its name" for row in search(cli, trained, "sea"))
    assert cli("search", trained, "nothing like it").exit_code == 0


def test_an_index_of_an_older_format_is_made_anew(cli, trained: Path):
    assert cli("index", trained, "--quiet").exit_code == 0
    with h5py.File(trained / "index.h5", "a") as file:
        file.attrs["format"] = "saetools-index/1"
    assert search(cli, trained, "--token", "cow")
    LatentIndex.load(trained / "index.h5")


@pytest.mark.parametrize(
    "words", [[], ["ship", "--token", "ship"], ["--near", 3, "--label", "sea"]]
)
def test_search_says_what_it_takes(cli, trained: Path, words):
    result = cli("search", trained, *words)
    assert result.exit_code == 1
    assert "takes TEXT or one of --prompt, --token, --label and --near" in result.output


def test_unknown_latents_labels_and_units_are_named(cli, trained: Path):
    for words, said in [
        (["--near", 99999], "no latent 99999"),
        (["--label", "seas"], "nearest: sea"),
        (["--token", "ship", "--unit", "line"], "no units 'line'"),
    ]:
        result = cli("search", trained, *words)
        assert result.exit_code == 1
        assert said in " ".join(result.output.split())
