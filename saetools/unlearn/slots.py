"""Where an entity stands in a row: the last token of its name, at which its facts are gathered."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.models.sites import Site
from saetools.unlearn.rows import Row, make_batch
from saetools.unlearn.sites import plain_sites, watching

__all__ = ["Slots", "read_slots"]

_BATCH = 64


class Slots:
    """Activations at the slots of rows, and at all content tokens.

    Args:
        at: by name of what was read, the rows at slots, (n, d).
        all: by the same names, the rows of all content tokens, (n_tokens, d).
        entities: the entity of each slot, n.
    """

    def __init__(
        self, at: dict[str, Tensor], all: dict[str, Tensor], entities: Sequence[str]
    ) -> None:
        self.at = at
        self.all = all
        self.entities = tuple(entities)

    def mean_by_entity(self, name: str) -> Float[Tensor, "m d"]:
        """Mean over the slots of each entity, in order of first appearance."""
        known = list(dict.fromkeys(self.entities))
        rows = self.at[name]
        where = torch.tensor([known.index(e) for e in self.entities], device=rows.device)
        return torch.stack([rows[where == i].mean(0) for i in range(len(known))])


@torch.no_grad()
def read_slots(
    model: SubjectModel,
    rows: Sequence[Row],
    *,
    hooks: Sequence[str] = (),
    inputs: dict[str, torch.nn.Module] | None = None,
) -> Slots:
    """Read hooks, and inputs of modules, at the slot of every row that names its entity.

    The slot of a row without an entity is its last content token. A row whose entity counts as an
    answer (`reversed`) does not show it before, and is left out.

    Raises:
        ConfigError: no row shows its entity.
    """
    sites = {**plain_sites(model, hooks)}
    sites |= {name: Site(module, "input") for name, module in (inputs or {}).items()}
    places = [(row, _slot(model, row)) for row in rows]
    shown = [(row, slot) for row, slot in places if slot is not None]
    if not shown:
        raise ConfigError(
            f"none of {len(rows)} rows shows its entity before what counts; give questions whose "
            "`entity` stands in their prompt, or texts"
        )
    at: dict[str, list[Tensor]] = {name: [] for name in sites}
    whole: dict[str, list[Tensor]] = {name: [] for name in sites}
    for start in range(0, len(shown), _BATCH):
        part = shown[start : start + _BATCH]
        batch = make_batch(model, [row for row, _ in part])
        slots = torch.tensor([slot for _, slot in part], device=batch.tokens.ids.device)
        with watching(sites) as seen:
            model.activations(batch.tokens, [f"resid_post.{model.n_layers - 1}"])
        for name in sites:
            x = seen[name].float()
            at[name].append(x[torch.arange(len(x), device=x.device), slots])
            whole[name].append(x[batch.tokens.content])
    return Slots(
        {name: torch.cat(parts) for name, parts in at.items()},
        {name: torch.cat(parts) for name, parts in whole.items()},
        [row.entity for row, _ in shown],
    )


def _slot(model: SubjectModel, row: Row) -> int | None:
    """Place of the last token of the entity's first mention; None if it is not shown in time."""
    if not row.entity:
        content = model.tokenize([row.ids]).content[0]
        return int(content.nonzero().max())
    place = row.text.find(row.entity)
    if place < 0:
        return None
    head = row.text[: place + len(row.entity)]
    tokens = model.tokenize([head])
    found = int(tokens.content[0].nonzero().max())
    return found if found < row.start or row.start == 1 else None
