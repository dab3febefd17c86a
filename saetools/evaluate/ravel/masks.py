"""Which latents hold an attribute: a mask learned by gradients, and a selection without them.

*Learned* (MDBM of RAVEL and SAEBench): a number m for every latent; the base gets the share
sigmoid(m / T) of the source's latents, and the cross-entropy of both kinds of pairs goes down along
m, while T falls. Latents with m > 0 hold the attribute.

*Selected*: latents are ranked by how much of their variance lies between the values of the
attribute, in units of the activation, less the most that lies between the values of another
attribute; the number of them is the one with the best score on the training pairs.
"""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.evaluate.ravel.config import RavelConfig
from saetools.evaluate.ravel.exchange import Exchanger
from saetools.evaluate.ravel.facts import Fact
from saetools.evaluate.ravel.pairs import Pair
from saetools.repro import generator
from saetools.types import SparseLatents

__all__ = ["learned_mask", "selected_mask", "variance_between"]


def learned_mask(
    exchanger: Exchanger, pairs: list[Pair], config: RavelConfig, *, seed: int
) -> Bool[Tensor, " n_latents"]:
    """The latents whose number in the mask ends above 0."""
    device = exchanger.device
    mask = torch.zeros(exchanger.n_latents, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=config.lr)
    g = generator(seed, "ravel mask")
    n_steps = config.epochs * -(-len(pairs) // config.batch_pairs)
    step = 0
    for _ in range(config.epochs):
        order = torch.randperm(len(pairs), generator=g).tolist()
        for start in range(0, len(pairs), config.batch_pairs):
            chosen = [pairs[i] for i in order[start : start + config.batch_pairs]]
            done = step / max(n_steps - 1, 1)
            fall = config.end_temperature / config.start_temperature
            temperature = config.start_temperature * fall**done
            with torch.enable_grad():
                rule = exchanger.masked(torch.sigmoid(mask / temperature))
                (mask.grad,) = torch.autograd.grad(exchanger.loss(chosen, rule), [mask])
            optimizer.step()
            step += 1
    return mask.detach() > 0


def selected_mask(
    exchanger: Exchanger,
    pairs: list[Pair],
    facts: tuple[Fact, ...],
    attribute: str,
    entities: set[str],
    config: RavelConfig,
) -> Bool[Tensor, " n_latents"]:
    """The best number of latents of the ranking: 1, 2, 4, ... up to `max_selected`."""
    scores = _ranking(exchanger, facts, attribute, entities)
    order = scores.argsort(descending=True, stable=True)
    n_good = int((scores > 0).sum())
    is_cause = np.array([pair.kind == "cause" for pair in pairs])
    best, best_score = torch.zeros_like(scores, dtype=torch.bool), -1.0
    n = 1
    while n <= min(config.max_selected, n_good):
        mask = torch.zeros_like(best)
        mask[order[:n]] = True
        right = exchanger.right(pairs, exchanger.masked(mask.float()))
        score = (right[is_cause].mean() + right[~is_cause].mean()) / 2
        if score > best_score:
            best, best_score = mask, float(score)
        n *= 2
    return best


def variance_between(
    latents: SparseLatents, groups: npt.NDArray[np.int64]
) -> Float[Tensor, " n_latents"]:
    """Mean over rows of (mean of the row's group − mean of all)², of every latent.

    Rows of the group -1 are left out. Memory grows with the number of latents only.
    """
    found = torch.zeros(latents.n_latents, dtype=torch.float64, device=latents.values.device)
    n = int((groups >= 0).sum())
    if n == 0:
        return found
    mean, squares = found.clone(), found.clone()
    for group in range(int(groups.max()) + 1):
        rows = torch.as_tensor(np.flatnonzero(groups == group), device=found.device)
        values, indices = latents.values[rows].double(), latents.indices[rows]
        sums = torch.zeros_like(found).index_add_(0, indices.flatten(), values.flatten())
        mean += sums / n
        squares += sums.square() / max(len(rows), 1) / n
    return (squares - mean.square()).clamp_min(0.0)


def _ranking(
    exchanger: Exchanger, facts: tuple[Fact, ...], attribute: str, entities: set[str]
) -> Float[Tensor, " n_latents"]:
    """Variance between the attribute's values less the most between another attribute's."""
    rows = np.array([i for i, fact in enumerate(facts) if fact.question.entity in entities])
    z = exchanger.latents(torch.as_tensor(rows, device=exchanger.device))
    value = {(f.question.entity, f.question.attribute): f.question.answer.strip() for f in facts}
    names = sorted({fact.question.attribute for fact in facts})
    found = {}
    for name in names:
        values = [value.get((facts[i].question.entity, name)) for i in rows]
        known = {v: number for number, v in enumerate(sorted({v for v in values if v is not None}))}
        groups = np.array([-1 if v is None else known[v] for v in values], dtype=np.int64)
        found[name] = variance_between(z, groups) * exchanger.row_squares.double()
    others = [between for name, between in found.items() if name != attribute]
    return found[attribute] - torch.stack(others).amax(0)
