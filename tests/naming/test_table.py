"""Names survive the CSV, and what a person wrote in it wins."""

import csv
import math

import pytest

from saetools.errors import FormatError
from saetools.naming import Name, NamesTable, name_latents


def _name(latent, name, namer="top_tokens", **fields):
    return Name(latent, name, 0.5, "because", namer, **fields)


def test_a_saved_table_loads_equal(planted, tmp_path):
    names = name_latents(planted)
    assert NamesTable.load(names.save(tmp_path / "new" / "names.csv")) == names
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["names.csv"]


def test_awkward_texts_survive(tmp_path):
    names = NamesTable(
        [
            _name(3, 'a, "quoted"\nline', words=("|", '"', "é, ü"), unit="word"),
            _name(1, "=1+1", held_out_precision=1 / 3, swapped_precision=0.1),
            _name(4, "adds", unit="next", label='a "label"', promotes=(" and", ",")),
        ]
    )
    again = NamesTable.load(names.save(tmp_path / "names.csv"))
    assert again == names
    assert [name.latent for name in again] == [1, 3, 4]
    assert again.get(3).words == ("|", '"', "é, ü")
    assert again.get(1).held_out_precision == 1 / 3
    assert again.get(2) is None


def test_an_edited_csv_merges_back_and_manual_names_win(planted, number, tmp_path):
    names = name_latents(planted)
    path = names.save(tmp_path / "names.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    by_latent = {int(row["latent"]): row for row in rows}
    by_latent[number("bigram")].update(name="the city", namer="manual")
    by_latent[number("token")].update(name="changed by an older run")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
        file.write(f"{number('dead')},never fires\n")
    merged = name_latents(planted).merge(NamesTable.load(path))
    assert merged.get(number("bigram")).name == "the city"
    assert merged.get(number("token")).name == '"pen"'
    dead = merged.get(number("dead"))
    assert (dead.name, dead.namer, dead.confidence) == ("never fires", "manual", 1.0)
    assert math.isnan(dead.held_out_precision)
    assert merged.merge(names).get(number("bigram")).name == "the city"


def test_the_newer_of_two_manual_names_wins():
    old, new = (NamesTable([_name(1, text, "manual")]) for text in ("old", "new"))
    assert old.merge(new).get(1).name == "new"
    assert len(old) == 1


def test_a_minimal_table_from_a_spreadsheet_loads(tmp_path):
    (tmp_path / "n.csv").write_bytes(b"\xef\xbb\xbflatent,name\r\n7,pets\r\n8,\r\n")
    names = NamesTable.load(tmp_path / "n.csv")
    assert [(n.latent, n.name, n.namer) for n in names] == [(7, "pets", "manual")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent,title\n1,x\n", r"has the columns latent, name.*found latent, title"),
        ("", "found none"),
        ("latent,name\nx,y\n", r"line 2.*'x'"),
        ("latent,name\n1,y\n1,z\n", "line 3: latent 1 has a second name"),
        ("latent,name,unit\n1,y,letters\n", "unit is 'letters'"),
        ("latent,name,words\n1,y,3\n", "not a JSON list"),
        ("latent,name,promotes\n1,y,{}\n", "promotes is '{}', not a JSON list"),
        ("latent,name,confidence\n1,y,high\n", "'high'"),
    ],
)
def test_a_broken_table_says_what_and_where(tmp_path, text, message):
    (tmp_path / "n.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        NamesTable.load(tmp_path / "n.csv")


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"no table of names at .*n\.csv"):
        NamesTable.load(tmp_path / "n.csv")


def test_jupyter_shows_names_escaped():
    shown = NamesTable([_name(1, "<img src=x>")])._repr_html_()
    assert "<img" not in shown
    assert "&lt;img src=x&gt;" in shown
