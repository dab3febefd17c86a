"""Files in the format of RAVEL become questions, and what is wrong with them is said."""

import json
from pathlib import Path

import pytest

from saetools.corpus import load_ravel
from saetools.errors import ConfigError, FormatError, UnknownNameError

ENTITIES = {
    "Paris": {"Country": "France", "Continent": "Europe"},
    "Lima": {"Country": "Peru", "Continent": ""},
}
PROMPTS = {
    "Country": ["%s is in", '{"city": "%s", "country": "'],
    "Continent": ["the continent of %s is"],
    "Gender": ["%s is"],
}


def write(folder: Path, entities: object = ENTITIES, prompts: object = PROMPTS) -> list[Path]:
    paths = [folder / "entities.json", folder / "prompts.json"]
    for path, content in zip(paths, (entities, prompts), strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_every_template_of_every_entity_is_a_question(tmp_path: Path) -> None:
    found = load_ravel(*write(tmp_path))
    assert [(q.prompt, q.answer) for q in found] == [
        ("Lima is in", " Peru"),
        ('{"city": "Lima", "country": "', "Peru"),
        ("Paris is in", " France"),
        ('{"city": "Paris", "country": "', "France"),
        ("the continent of Paris is", " Europe"),
    ]
    assert found[0].options == (" France", " Peru")
    assert found[1].options == ("France", "Peru")
    assert (found[2].entity, found[2].attribute, found[2].form) == ("Paris", "Country", "%s is in")
    assert found[2].chance == 0.5


def test_a_seed_draws_entities_and_templates(tmp_path: Path) -> None:
    entities = {f"city{i}": {"Country": f"land{i % 3}"} for i in range(50)}
    paths = write(tmp_path, entities, {"Country": [f"{i} %s" for i in range(20)]})
    first, again, other = (
        load_ravel(*paths, n_entities=10, n_templates=4, seed=seed) for seed in (0, 0, 1)
    )
    assert len(first) == 40
    assert first == again != other
    assert len(load_ravel(*paths, n_entities=None, n_templates=None)) == 1000


def test_wrong_files_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    for entities, prompts, said in (
        ("{", PROMPTS, "not JSON"),
        ([], PROMPTS, "JSON object"),
        ({"Paris": {"Country": 3}}, PROMPTS, "values are text"),
        (ENTITIES, {"Country": ["no slot"]}, "each with %s"),
    ):
        with pytest.raises(FormatError, match=said):
            load_ravel(*write(tmp_path, entities, prompts))
    with pytest.raises(UnknownNameError, match="nearest: Country"):
        load_ravel(*write(tmp_path), attributes=["Contry"])
    with pytest.raises(ConfigError, match="give no question for anything"):
        load_ravel(*write(tmp_path, {"Paris": {"Other": "x"}}))


def test_the_public_files_are_read(shared_dir: Path) -> None:
    folder = shared_dir / "labelled" / "ravel"
    for kind, attributes in {"city": ("Country", "Language"), "occupation": ("Industry",)}.items():
        found = load_ravel(
            folder / f"ravel_{kind}_entity_attributes.json",
            folder / f"ravel_{kind}_attribute_to_prompts.json",
            attributes=attributes,
            n_entities=30,
        )
        assert {q.attribute for q in found} == set(attributes)
        assert len({q.entity for q in found}) == 30
        assert all(q.entity in q.prompt and q.answer in q.options for q in found)
