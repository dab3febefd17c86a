"""Facts of entities and their attributes from two files in the format of RAVEL.

    entities.json   {"Paris": {"Country": "France", "Continent": "Europe"}, ...}
    prompts.json    {"Country": ["%s is a city in the country of", ...], "Continent": [...]}

Every template of an attribute, with an entity in the place of `%s`, is one question whose answer is
the entity's attribute (Huang et al. 2024, arXiv:2402.17700).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saetools.corpus.questions import Question
from saetools.errors import ConfigError, FormatError, UnknownNameError, nearest

__all__ = ["load_ravel"]

_SLOT = "%s"
_OPENING = tuple(" \n\t\"'([{")  # after these an answer begins without a space


def load_ravel(
    entities: str | Path,
    prompts: str | Path,
    *,
    attributes: Sequence[str] | None = None,
    n_entities: int | None = 500,
    n_templates: int | None = 15,
    seed: int = 0,
) -> tuple[Question, ...]:
    """Read questions, ordered by entity, attribute and template.

    Args:
        entities: file of the entities' attributes.
        prompts: file of the attributes' templates.
        attributes: which to ask for; None: all that have templates and values.
        n_entities: entities drawn by the seed; None: all.
        n_templates: templates of an attribute drawn by the seed; None: all.
        seed: of both draws.

    Raises:
        FormatError: a file is not of this format.
        UnknownNameError: an attribute is in one of the files only.
        ConfigError: no question remains.
    """
    table, templates = _entities(Path(entities)), _templates(Path(prompts))
    asked = _attributes(table, templates, attributes)
    rng = np.random.default_rng([seed, 0x8A7E1])
    names = _drawn(sorted(table), n_entities, rng)
    chosen = {name: _drawn(templates[name], n_templates, rng) for name in asked}
    known = {name: sorted({row[name] for row in table.values() if row.get(name)}) for name in asked}
    options: dict[tuple[str, str], tuple[str, ...]] = {}
    found = []
    for entity in names:
        for attribute in asked:
            value = table[entity].get(attribute)
            if not value:
                continue
            for template in chosen[attribute]:
                lead = "" if template.endswith(_OPENING) else " "
                key = (attribute, lead)
                if key not in options:  # one tuple for all questions that share it
                    options[key] = tuple(lead + option for option in known[attribute])
                prompt = template.replace(_SLOT, entity)
                found.append(
                    Question(prompt, lead + value, options[key], entity, attribute, template)
                )
    if not found:
        raise ConfigError(
            f"{entities} and {prompts} give no question for {', '.join(asked) or 'anything'}; "
            "choose other attributes or more entities"
        )
    return tuple(found)


def _entities(path: Path) -> dict[str, dict[str, str]]:
    content = _read(path)
    for entity, row in content.items():
        if not isinstance(row, dict) or not all(isinstance(v, str) for v in row.values()):
            raise FormatError(
                f"{path.name}: {entity!r} should have attributes whose values are text, as in "
                '{"Paris": {"Country": "France"}}'
            )
    return content


def _templates(path: Path) -> dict[str, list[str]]:
    content = _read(path)
    for attribute, rows in content.items():
        good = isinstance(rows, list) and rows and all(isinstance(row, str) for row in rows)
        if not good or not all(_SLOT in row for row in rows):
            raise FormatError(
                f"{path.name}: {attribute!r} should have a list of templates, each with {_SLOT} in "
                "the place of the entity"
            )
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(content, dict) or not content:
        raise FormatError(f"{path.name} should hold a JSON object of names; it does not")
    return content


def _attributes(
    table: dict[str, dict[str, str]],
    templates: dict[str, list[str]],
    asked: Sequence[str] | None,
) -> list[str]:
    both = [name for name in templates if any(row.get(name) for row in table.values())]
    unknown = [name for name in asked or () if name not in both]
    if unknown:
        raise UnknownNameError(
            f"no attribute {unknown[0]!r} with templates and values; nearest: "
            f"{', '.join(nearest(unknown[0], both))}"
        )
    return both if asked is None else list(dict.fromkeys(asked))


def _drawn(names: list[str], n: int | None, rng: np.random.Generator) -> list[str]:
    if n is None or n >= len(names):
        return list(names)
    return [names[i] for i in sorted(rng.choice(len(names), size=n, replace=False))]
