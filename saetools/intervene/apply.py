"""`intervene`: carry out requests in a running model, one after the other.

Requests at one hook happen in their order, and each sees what those before it have left; requests
at other hooks happen when the model comes to them. A trigger reads what the requests before its
own have left. Two requests that fix the same thing to different values, at tokens that both may
meet and without a condition, are refused: one of them would do nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saetools.errors import ConfigError, ShapeError
from saetools.intervene.base import (
    Site,
    activations_of,
    check_latents,
    edit_content_rows,
    find_site,
)
from saetools.intervene.conditions import Condition, Judge
from saetools.intervene.operations import DirectionOperation, LatentOperation, Rows
from saetools.intervene.probe import Probe
from saetools.intervene.request import Request
from saetools.intervene.triggers import Scorer
from saetools.models.base import Edit, SubjectModel
from saetools.models.forward_pass import ForwardPass, unwatched_pass
from saetools.types import SparseLatents

__all__ = ["intervene"]

_Act = Callable[[Tensor, Rows], Tensor]
_Step = Callable[[Tensor, ForwardPass], Tensor]


@contextmanager
def intervene(model: SubjectModel, requests: Sequence[Request]) -> Iterator[tuple[Probe, ...]]:
    """Do what the requests say in every forward pass of the block, generation included.

    Args:
        requests: what to do; see `Request`. Several at one hook happen in their order.

    Yields:
        A probe for each request.

    Raises:
        UnknownNameError: a latent is not in the dictionary, or a class of tokens is unknown.
        ConfigError: two requests contradict each other, the model is another one than the SAE's,
            or a trigger is read later than what depends on it.
        ShapeError: a hook has another width than the SAE or the direction.

    >>> with intervene(model, [Request(Zero([90]), sae=sae)]) as (probe,):  # doctest: +SKIP
    ...     loss = model.loss(texts)
    """
    steps: dict[str, list[_Step]] = defaultdict(list)
    probes, hooks = [], []
    for request in requests:
        hook_name, device, act, probe = _bound(model, request)
        fires = None
        if request.when is not None:
            fires = _fires(model, request, request.when, hook_name, steps)
        steps[hook_name].append(_step(model, request, act, probe, fires, device))
        probes.append(probe)
        hooks.append(hook_name)
    _check_contradictions(requests, hooks)
    with model.editing({hook: _edit(model, chain) for hook, chain in steps.items()}):
        yield tuple(probes)


def _edit(model: SubjectModel, chain: Sequence[_Step]) -> Edit:
    def edit(
        x: Float[Tensor, "batch pos d_in"],
        content: Bool[Tensor, "batch pos"],
    ) -> Float[Tensor, "batch pos d_in"]:
        running = model.running_pass(x) or unwatched_pass(content)
        for step in chain:
            x = step(x, running)
        return x

    return edit


def _step(
    model: SubjectModel,
    request: Request,
    act: _Act,
    probe: Probe,
    fires: _Step | None,
    device: torch.device,
) -> _Step:
    """The request as a change of the activations of one pass."""
    choose = request.at.chooser(model)

    def step(x: Tensor, running: ForwardPass) -> Tensor:
        chosen = choose(running)
        met = chosen if fires is None else chosen & fires(x, running)
        if fires is not None:
            probe.record_condition(chosen, met, whole_texts=running.n_past == 0)
        ids = torch.zeros_like(running.place) if running.ids is None else running.ids
        place, token = running.place[met], ids[met]

        def rows(old: Tensor) -> Tensor:
            known = Rows(old.norm(dim=-1), place.to(device), token.to(device))
            return act(old, known)

        return edit_content_rows(x, met, rows, device=device)

    return step


def _fires(
    model: SubjectModel,
    request: Request,
    condition: Condition,
    hook_name: str,
    steps: dict[str, list[_Step]],
) -> _Step:
    """Where the condition holds, as a function of a pass; puts a reader at the trigger's hook."""
    scorer = condition.trigger.placed(model, hook_name, strict=request.strict)
    judge = Judge(condition)
    specials = request.at.specials

    def judged(x: Tensor, running: ForwardPass) -> Tensor:
        counts = running.real if specials else running.content
        return judge(_scores(scorer, x, counts), counts, running)

    if scorer.hook_name == hook_name:
        return judged
    _check_order(model, scorer.hook_name, hook_name)
    seen: dict[int, Tensor] = {}

    def read(x: Tensor, running: ForwardPass) -> Tensor:
        seen.clear()
        seen[running.number] = judged(x, running)
        return x

    def recall(x: Tensor, running: ForwardPass) -> Tensor:
        if running.number not in seen:
            raise ConfigError(
                f"the trigger at {scorer.hook_name} was not read before the edit at {hook_name}; "
                "put the trigger at an earlier hook, or at the same one"
            )
        return seen[running.number].to(x.device)

    steps[scorer.hook_name].append(read)
    return recall


def _scores(scorer: Scorer, x: Tensor, counts: Tensor) -> Float[Tensor, "batch pos"]:
    found = torch.zeros(counts.shape, dtype=torch.float32, device=x.device)
    rows = x.detach()[counts]
    if len(rows):
        found[counts] = scorer(rows).detach().to(x.device, torch.float32)
    return found


def _check_order(model: SubjectModel, trigger: str, edit: str) -> None:
    order = {name: i for i, name in enumerate(model.hook_names())}
    if trigger in order and edit in order and order[trigger] > order[edit]:
        raise ConfigError(
            f"the trigger is read at {trigger}, which comes after the edit at {edit}: it would "
            "depend on itself; put it at an earlier hook, or at the same one"
        )


def _bound(model: SubjectModel, request: Request) -> tuple[str, torch.device, _Act, Probe]:
    """Where a request acts, what it does to rows there, and what counts that."""
    operation = request.operation
    if isinstance(operation, LatentOperation) and request.sae is not None:
        site = find_site(model, request.sae, hook_name=request.hook_name, strict=request.strict)
        chosen = check_latents(site.sae, operation.chosen) if operation.chosen else _none(site)
        probe = Probe(request.name, site.hook_name, chosen)
        act = _on_latents(site, operation, chosen, probe, keep_error=request.keep_error)
        return site.hook_name, site.sae.device, act, probe
    assert isinstance(operation, DirectionOperation)
    assert request.direction is not None
    hook_name = _direction_hook(model, request)
    vector = request.direction.tensor.to(model.device)
    probe = Probe(request.name, hook_name, _none(None).to(model.device))

    def along(x: Tensor, rows: Rows) -> Tensor:
        edited = operation.apply(x, vector, rows)
        probe.record(x, total_change=(edited - x).norm(dim=-1))
        return edited

    return hook_name, model.device, along, probe


def _none(site: Site | None) -> Tensor:
    device = None if site is None else site.sae.device
    return torch.empty(0, dtype=torch.int64, device=device)


def _direction_hook(model: SubjectModel, request: Request) -> str:
    direction = request.direction
    assert direction is not None
    asked = request.hook_name or direction.hook_name
    if asked is None:
        raise ConfigError(
            f"no hook to act on: the direction of '{direction.source}' does not say where it "
            "belongs; pass hook_name='blocks.<layer>.hook_resid_post' or the like"
        )
    found = model.resolve(asked)
    if model.width(found) != len(direction):
        raise ShapeError(
            f"the direction of '{direction.source}' has width {len(direction)}, but {found} of "
            f"{model.name} has width {model.width(found)}; use the hook that it was found at"
        )
    return found


def _on_latents(
    site: Site, operation: LatentOperation, chosen: Tensor, probe: Probe, *, keep_error: bool
) -> _Act:
    sae = site.sae
    decoder = sae.W_dec.detach()[chosen].float()  # (m, d_in)
    lengths = decoder.norm(dim=-1)

    def act(x: Tensor, rows: Rows) -> Tensor:
        encoded = None
        if operation.encodes or not keep_error:
            encoded = sae.encode(x)
            old, slots = activations_of(encoded, chosen)
        else:
            old = x.new_zeros(len(x), len(chosen))
        new = operation.new(old, rows)
        if keep_error or encoded is None:
            edited = _add_difference(x, new - old, decoder)
        else:
            edited = sae.reconstruct(_replaced(encoded, slots, chosen, new), x)
        probe.record(
            x,
            total_change=(edited - x).norm(dim=-1),
            changes=(new - old) * lengths,
            activations=old if operation.encodes else None,
        )
        return edited

    return act


def _add_difference(
    x: Float[Tensor, "n d_in"], change: Float[Tensor, "n m"], decoder: Float[Tensor, "m d_in"]
) -> Float[Tensor, "n d_in"]:
    """x plus the change of its latents; rows without a change keep their bits."""
    moved = (change != 0).any(-1, keepdim=True)  # (n, 1)
    return torch.where(moved, x + change @ decoder, x)


def _replaced(
    latents: SparseLatents,
    slots: Bool[Tensor, "n k"],
    chosen: Tensor,
    new: Float[Tensor, "n m"],
) -> SparseLatents:
    """The latents with the chosen ones' slots emptied and their new values in m further slots."""
    values = torch.cat([latents.values.masked_fill(slots, 0.0), new], dim=1)
    indices = torch.cat([latents.indices, chosen.expand(len(new), -1)], dim=1)
    return SparseLatents(values, indices, latents.n_latents)


def _check_contradictions(requests: Sequence[Request], hooks: Sequence[str]) -> None:
    numbered = list(enumerate(zip(requests, hooks, strict=True), start=1))
    for (i, (one, here)), (j, (two, there)) in combinations(numbered, 2):
        conditional = one.when is not None or two.when is not None
        if here != there or conditional or not one.at.overlap(two.at) or not _same(one, two):
            continue
        first, second = one.operation.settled(), two.operation.settled()
        for what in first.keys() & second.keys():
            if first[what] != second[what]:
                name = f"latent {what}" if isinstance(what, int) else f"the {what}"
                raise ConfigError(
                    f"requests {i} ({one.name}) and {j} ({two.name}) both fix {name} at {here}, to "
                    "different values, and may meet the same tokens; keep one, or give them "
                    "positions that do not overlap"
                )


def _same(one: Request, two: Request) -> bool:
    """Whether two requests act on the same SAE, or along the same direction."""
    if one.sae is not None or two.sae is not None:
        return one.sae is two.sae
    assert one.direction is not None
    assert two.direction is not None
    return (
        len(one.direction) == len(two.direction)
        and abs(one.direction.cosine(two.direction)) > 1 - 1e-6
    )
