"""Intervention recipes: what is done to a model, as one JSON file that says on which SAE it rests.

Format `saetools-intervention/1` (docs/interventions.md). A recipe names SAEs and the model by the
hashes of their weights, so it cannot be applied to others unnoticed. Directions and probes are in
it, number by number; SAEs are not.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saetools.errors import ConfigError, FormatError, SaetoolsError
from saetools.intervene.apply import intervene
from saetools.intervene.base import find_site
from saetools.intervene.conditions import Condition
from saetools.intervene.directions._base import Direction
from saetools.intervene.operations import OPERATIONS, LatentOperation, Operation
from saetools.intervene.positions import Positions
from saetools.intervene.probe import Probe
from saetools.intervene.request import Request
from saetools.intervene.triggers import EditSizeTrigger, LatentTrigger, ProbeTrigger, Trigger
from saetools.models.base import SubjectModel
from saetools.models.weights import fingerprint_weights
from saetools.repro import write_json
from saetools.sae import SAE

__all__ = ["FORMAT", "InterventionRecipe", "sae_fingerprint"]

FORMAT = "saetools-intervention/1"

SAEs = SAE | Sequence[SAE] | None
"""The SAEs of a recipe: one, several in any order, or None to load them from where they were."""


def sae_fingerprint(sae: SAE) -> str:
    """Hash of an SAE's weights, 16 hex digits."""
    return fingerprint_weights(sae)


@dataclass(frozen=True)
class InterventionRecipe:
    """An intervention as plain data.

        recipe = InterventionRecipe.of(model, [Request(Clamp({4171: -3.0}), sae=sae)])
        recipe.save("no_dogs.json")
        with InterventionRecipe.load("no_dogs.json").applied(model, sae):
            print(model.generate("My", 20))

    Args:
        requests: what to do, each as it stands in the file.
        model: name and fingerprint of the model.
        evidence: anything that says why, such as the figures of a sweep.
    """

    requests: Sequence[Mapping[str, Any]]
    model: Mapping[str, Any]
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: SubjectModel,
        requests: Sequence[Request],
        *,
        paths: Mapping[str, str | Path] | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> "InterventionRecipe":
        """The recipe of requests on a model.

        Args:
            paths: where SAEs lie, by their `sae_fingerprint`; so they can be found again.
            evidence: figures that speak for it.
        """
        where = {key: str(path) for key, path in (paths or {}).items()}
        return cls(
            requests=tuple(_plain(_request_fields(model, r, where)) for r in requests),
            model={"name": model.name, "fingerprint": model.fingerprint},
            evidence=dict(evidence or {}),
        )

    def save(self, path: str | Path) -> Path:
        """Write the JSON file."""
        body = {"model": self.model, "requests": self.requests, "evidence": self.evidence}
        return write_json(path, {"format": FORMAT, **body})

    @classmethod
    def load(cls, path: str | Path) -> "InterventionRecipe":
        """Read what `save` wrote.

        Raises:
            FormatError: there is no such file, or it is no recipe, or of a newer format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FormatError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path} is not JSON ({error}); the recipe is damaged") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            newer = str(found).startswith("saetools-intervention/")
            raise FormatError(
                f"{path} says format {found!r}, and this version of saetools reads {FORMAT!r}; "
                + ("update saetools" if newer else "name an intervention recipe")
            )
        try:
            return cls(tuple(content["requests"]), content["model"], content.get("evidence", {}))
        except (KeyError, TypeError) as error:
            raise FormatError(f"{path} lacks {error} of an intervention recipe") from error

    def bound(self, model: SubjectModel, sae: SAEs = None, *, strict: bool = True) -> list[Request]:
        """The requests on a model and its SAEs.

        Args:
            sae: the SAE or SAEs; None loads them from the places that the recipe names.
            strict: refuse a model with other weights than the recipe's.

        Raises:
            ConfigError: the model or an SAE is another one, or an SAE cannot be found.
            FormatError: a request is not one.
        """
        wanted = self.model.get("fingerprint")
        if strict and wanted != model.fingerprint:
            raise ConfigError(
                f"the recipe is for {self.model.get('name')} with fingerprint {wanted}, but "
                f"{model.name} has {model.fingerprint}; load that model, or pass strict=False if "
                "other weights are meant"
            )
        shelf = _Shelf(sae)
        found = []
        for number, fields in enumerate(self.requests, start=1):
            try:
                found.append(_request(fields, shelf, strict=strict))
            except ConfigError:
                raise
            except (SaetoolsError, AttributeError, KeyError, TypeError, ValueError) as error:
                raise FormatError(
                    f"request {number} of the recipe cannot be read: {error}; the file was changed "
                    "by hand, or by a version that knows more"
                ) from error
        return found

    @contextmanager
    def applied(
        self, model: SubjectModel, sae: SAEs = None, *, strict: bool = True
    ) -> Iterator[tuple[Probe, ...]]:
        """Do what the recipe says while the block lasts; see `bound` and `intervene`."""
        with intervene(model, self.bound(model, sae, strict=strict)) as probes:
            yield probes


class _Shelf:
    """SAEs by fingerprint: those that were given, and those that a recipe's paths lead to."""

    def __init__(self, given: SAEs) -> None:
        listed = [given] if isinstance(given, SAE) else list(given or ())
        self._loads = given is None
        self._held = {sae_fingerprint(sae): sae for sae in listed}

    def find(self, reference: Mapping[str, Any]) -> SAE:
        wanted, path = str(reference["fingerprint"]), reference.get("path")
        if wanted not in self._held and self._loads and path is not None:
            loaded = SAE.load(path)
            self._held[sae_fingerprint(loaded)] = loaded
        if wanted not in self._held:
            have = ", ".join(self._held) or "none"
            raise ConfigError(
                f"the recipe needs the SAE of {reference.get('hook_name')} with fingerprint "
                f"{wanted}; found: {have}. Pass that SAE as sae=; an SAE that was trained again "
                "has other latents"
            )
        return self._held[wanted]


def _request_fields(model: SubjectModel, request: Request, paths: Mapping[str, str]) -> Any:
    if request.sae is not None:
        site = find_site(model, request.sae, hook_name=request.hook_name, strict=request.strict)
        hook_name = site.hook_name
    else:
        assert request.direction is not None
        hook_name = model.resolve(request.hook_name or request.direction.hook_name or "")
    when = request.when
    return {
        "operation": request.operation.as_fields(),
        "sae": None if request.sae is None else _reference(request.sae, paths),
        "direction": None if request.direction is None else request.direction.as_fields(),
        "hook_name": hook_name,
        "positions": request.at.as_fields(),
        "when": None if when is None else _condition_fields(when, paths),
        "keep_error": request.keep_error,
        "label": request.label,
    }


def _request(fields: Mapping[str, Any], shelf: _Shelf, *, strict: bool) -> Request:
    direction, when = fields["direction"], fields["when"]
    return Request(
        operation=_operation(fields["operation"]),
        sae=None if fields["sae"] is None else shelf.find(fields["sae"]),
        direction=None if direction is None else Direction(**direction),
        hook_name=fields["hook_name"],
        positions=Positions(**fields["positions"]),
        when=None if when is None else _condition(when, shelf),
        keep_error=fields["keep_error"],
        strict=strict,
        label=fields["label"],
    )


def _operation(fields: Mapping[str, Any]) -> Operation:
    values = dict(fields)
    return OPERATIONS.get(values.pop("type"))(**values)


def _condition_fields(condition: Condition, paths: Mapping[str, str]) -> dict[str, Any]:
    names = ("threshold", "scope", "statistic", "level", "release")
    values = {name: getattr(condition, name) for name in names}
    return {"trigger": _trigger_fields(condition.trigger, paths), **values}


def _trigger_fields(trigger: Trigger, paths: Mapping[str, str]) -> dict[str, Any]:
    common: dict[str, Any] = {"type": trigger.type}
    if isinstance(trigger, ProbeTrigger):
        probe = {"weight": [float(w) for w in trigger.weight], "bias": trigger.bias}
        return {**common, "hook_name": trigger.hook_name, **probe}
    if isinstance(trigger, LatentTrigger):
        own: dict[str, Any] = {"latents": list(trigger.latents)}
    elif isinstance(trigger, EditSizeTrigger):
        own = {"operation": trigger.operation.as_fields()}
    else:
        raise ConfigError(
            f"a trigger of type '{trigger.type}' cannot be written into a recipe; known are "
            "'latent', 'edit_size' and 'probe'"
        )
    return {**common, "hook_name": trigger.hook_name, "sae": _reference(trigger.sae, paths), **own}


def _condition(fields: Mapping[str, Any], shelf: _Shelf) -> Condition:
    values = dict(fields)
    trigger = dict(values.pop("trigger"))
    kind = trigger.pop("type")
    if kind == "probe":
        return Condition(ProbeTrigger(**trigger), **values)
    sae = shelf.find(trigger.pop("sae"))
    if kind == "latent":
        return Condition(LatentTrigger(sae, **trigger), **values)
    if kind != "edit_size":
        raise FormatError(f"unknown trigger '{kind}'")
    operation = _operation(trigger.pop("operation"))
    if not isinstance(operation, LatentOperation):
        raise FormatError(f"an edit size is of an operation on latents, not '{operation.type}'")
    return Condition(EditSizeTrigger(sae, operation, **trigger), **values)


def _reference(sae: SAE, paths: Mapping[str, str]) -> dict[str, Any]:
    key = sae_fingerprint(sae)
    hook_name = sae.meta.get("hook_name")
    return {"fingerprint": key, "hook_name": hook_name, "path": paths.get(key)}


def _plain(value: Any) -> Any:
    """The same through JSON and back, so that a new recipe equals the one that is read again."""
    return json.loads(json.dumps(value, default=list))
