"""A classifier that reads named latents and nothing else, so that a prediction can be read.

softmax(z W + b), z a text's pooled latents, W sparse by an L1 penalty: the concept bottleneck of
"Discover-then-Name" (Rao et al. 2024, arXiv:2407.14499, section 3.3). What a latent adds to a class
is z_j W_jc; setting a latent and predicting again answers what the classifier would say if the
concept were absent or stronger. That is a statement about this classifier, not about the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from saetools.errors import ConfigError, FormatError, ShapeError, UnknownNameError, nearest
from saetools.evaluate.bootstrap import Floats
from saetools.evaluate.bottleneck.heads import Head, HeadPath, PathRow, classes_of, fit_path
from saetools.evaluate.bottleneck.prediction import Contribution, Explanation, Intervention
from saetools.evaluate.bottleneck.show import bottleneck_html
from saetools.evaluate.concept_search import TextFeatures
from saetools.evaluate.concepts.sparse_logistic import standardised
from saetools.folders import whole_folder
from saetools.repro import read_json, write_json

__all__ = ["ConceptBottleneck", "fit_latents"]

_FORMAT = "saetools-bottleneck/1"
_LEAST_FIRING = 5
_CONFIG, _WEIGHTS = "config.json", "bottleneck.safetensors"


@dataclass(frozen=True, repr=False)
class ConceptBottleneck:
    """A sparse linear classifier of texts by named latents.

        bottleneck = ConceptBottleneck.fit(features, labels, names=names)
        bottleneck.explain(features, 3)
        bottleneck.intervene(features, 3, {757: 0.0})

    Args:
        classes: names of the classes.
        head: the latents used and their weights.
        n_latents: size of the dictionary.
        pooling: how a text's activations of a latent became one number.
        typical: standard deviation of each latent used over the texts it was fitted on, (m,);
            times a weight it says how much the latent matters there.
        names: names of the latents used, where they have one.
        path: what the penalty was chosen by, the sparsest first.
    """

    classes: tuple[str, ...]
    head: Head
    n_latents: int
    pooling: str
    typical: Floats
    names: Mapping[int, str]
    path: tuple[PathRow, ...] = ()

    @classmethod
    def fit(
        cls,
        features: TextFeatures,
        labels: Sequence[str],
        *,
        names: Mapping[int, str] | None = None,
        penalty: float | None = None,
        seed: int = 0,
    ) -> "ConceptBottleneck":
        """Fit on texts; its accuracy has to be asked of other texts (`compare_heads` does both).

        Args:
            features: their pooled latents.
            labels: class of each text.
            names: names of latents; only those that have one are used. None: all are. Latents that
                fire in fewer than five of the texts are not used: nothing can be learned of them.
            penalty: λ of the L1 penalty; by default the one that a quarter of the texts, set aside
                while it is chosen, likes best.
            seed: of that choice.

        Raises:
            ConfigError: a class has fewer than four texts.
        """
        return cls.of_path(
            fit_latents(features, labels, names=names, penalty=penalty, seed=seed),
            features,
            labels,
            names=names,
        )

    @classmethod
    def of_path(
        cls,
        path: HeadPath,
        features: TextFeatures,
        labels: Sequence[str],
        *,
        names: Mapping[int, str] | None = None,
    ) -> "ConceptBottleneck":
        """The chosen head of a path that `fit_latents` made of the same arguments."""
        used = [int(i) for i in path.chosen.units]
        return cls(
            classes=classes_of(labels)[0],
            head=path.chosen,
            n_latents=features.n_latents,
            pooling=features.pooling,
            typical=standardised(features.latents[:, path.chosen.units])[2],
            names={i: names[i] for i in used} if names is not None else {},
            path=path.rows,
        )

    @property
    def latents(self) -> list[int]:
        """Latents that the classifier reads."""
        return [int(i) for i in self.head.units]

    def probabilities(self, features: TextFeatures) -> Floats:
        """Probability of each class, (n, n_classes)."""
        self._check(features)
        found: Floats = softmax(self.head.logits(features.latents), axis=1)
        return found

    def predict(self, features: TextFeatures) -> list[str]:
        """Class of each text."""
        return [self.classes[i] for i in self.probabilities(features).argmax(1)]

    def explain(
        self,
        features: TextFeatures,
        row: int = 0,
        *,
        top: int = 8,
        of: str | None = None,
        against: str | None = None,
    ) -> Explanation:
        """Which latents speak for a class in one text.

        Weights of all classes may be moved by one number without changing a prediction; to ask why
        one class and not another, name the other in `against`.

        Args:
            row: which text of `features`.
            top: contributions shown.
            of: class to explain; the predicted one by default.
            against: class that it is compared with.
        """
        self._check(features)
        z = self._row(features, row)
        probability = softmax(z @ self.head.weight + self.head.bias)
        best = int(probability.argmax())
        about = best if of is None else self._class(of)
        weight, bias = self.head.weight[:, about], float(self.head.bias[about])
        if against is not None:
            other = self._class(against)
            weight, bias = weight - self.head.weight[:, other], bias - self.head.bias[other]
        value = z * weight
        order = np.argsort(-np.abs(value), kind="stable")
        shown = [i for i in order[:top] if value[i] != 0]
        return Explanation(
            predicted=self.classes[best],
            probability=float(probability[best]),
            of=self.classes[about],
            against=against,
            contributions=tuple(
                Contribution(
                    int(self.head.units[i]),
                    self.name(int(self.head.units[i])),
                    float(z[i]),
                    float(weight[i]),
                    float(value[i]),
                )
                for i in shown
            ),
            rest=float(value.sum() - value[shown].sum()),
            bias=float(bias),
        )

    def intervene(
        self, features: TextFeatures, row: int, set_to: Mapping[int | str, float]
    ) -> Intervention:
        """Set latents of one text and predict again.

        Args:
            row: which text of `features`.
            set_to: new pooled activation by latent, or by name: all latents of that name.

        Raises:
            UnknownNameError: no such latent, or no latent in use is called so.
        """
        self._check(features)
        z = self._row(features, row)
        place = {int(latent): i for i, latent in enumerate(self.head.units)}
        wanted = {latent: float(v) for key, v in set_to.items() for latent in self._called(key)}
        new = z.copy()
        for latent, value in wanted.items():
            if latent in place:
                new[place[latent]] = value
        before, after = (softmax(at @ self.head.weight + self.head.bias) for at in (z, new))
        whole = features.latents[[row]]
        return Intervention(
            classes=self.classes,
            before=before,
            after=after,
            changed={latent: (float(whole[0, latent]), v) for latent, v in wanted.items()},
            unused=tuple(latent for latent in wanted if latent not in place),
        )

    def name(self, latent: int) -> str:
        """Name of a latent, or its number."""
        return self.names.get(latent) or f"latent {latent}"

    def save(self, folder: str | Path) -> Path:
        """Write a folder: config.json and bottleneck.safetensors."""
        folder = Path(folder)
        tensors = {
            "latents": self.head.units,
            "weight": self.head.weight,
            "bias": self.head.bias,
            "typical": self.typical,
        }
        content = {
            "format": _FORMAT,
            "classes": self.classes,
            "n_latents": self.n_latents,
            "pooling": self.pooling,
            "penalty": self.head.penalty,
            "names": {str(latent): name for latent, name in self.names.items()},
            "path": [vars(row) for row in self.path],
        }
        with whole_folder(folder, mark=_WEIGHTS, what="a bottleneck") as scratch:
            arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
            save_file(arrays, scratch / _WEIGHTS)
            write_json(scratch / _CONFIG, content)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "ConceptBottleneck":
        """Read what `save` wrote.

        Raises:
            FormatError: it is no such folder.
        """
        folder = Path(folder)
        if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
            raise FormatError(
                f"{folder} is no bottleneck: it lacks {_CONFIG} or {_WEIGHTS}; "
                "`ConceptBottleneck.save` writes both"
            )
        content = read_json(folder / _CONFIG, _FORMAT)
        try:
            held = load_file(folder / _WEIGHTS)
            head = Head(held["latents"], held["weight"], held["bias"], content["penalty"])
            return cls(
                classes=tuple(content["classes"]),
                head=head,
                n_latents=content["n_latents"],
                pooling=content["pooling"],
                typical=held["typical"],
                names={int(latent): name for latent, name in content["names"].items()},
                path=tuple(PathRow(**row) for row in content["path"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{folder} lacks a part of a bottleneck ({error})") from error

    def __repr__(self) -> str:
        return (
            f"ConceptBottleneck({len(self.classes)} classes by {len(self.latents)} of "
            f"{self.n_latents:,} latents)"
        )

    def _repr_html_(self) -> str:
        return bottleneck_html(self)

    def _check(self, features: TextFeatures) -> None:
        if features.n_latents != self.n_latents:
            raise ShapeError(
                f"the bottleneck reads an SAE of {self.n_latents:,} latents; these features have "
                f"{features.n_latents:,}; pool them with the SAE that it was fitted on"
            )
        if features.pooling != self.pooling:
            raise ConfigError(
                f"the bottleneck was fitted on {self.pooling}-pooled latents; these are "
                f"{features.pooling}-pooled; pool them with pooling={self.pooling!r}"
            )

    def _row(self, features: TextFeatures, row: int) -> Floats:
        found: Floats = np.asarray(
            features.latents[[row]][:, self.head.units].todense(), dtype=np.float64
        ).ravel()
        return found

    def _class(self, name: str) -> int:
        if name not in self.classes:
            raise UnknownNameError(
                f"the bottleneck has no class '{name}'; nearest: "
                f"{', '.join(nearest(name, self.classes))}"
            )
        return self.classes.index(name)

    def _called(self, key: int | str) -> list[int]:
        if isinstance(key, str):
            found = [latent for latent, name in self.names.items() if name == key]
            if not found:
                raise UnknownNameError(
                    f"no latent in use is called '{key}'; nearest: "
                    f"{', '.join(nearest(key, self.names.values())) or 'none has a name'}"
                )
            return found
        if not 0 <= int(key) < self.n_latents:
            raise UnknownNameError(
                f"there is no latent {key}: the SAE has those from 0 to {self.n_latents - 1:,}"
            )
        return [int(key)]


def fit_latents(
    features: TextFeatures,
    labels: Sequence[str],
    *,
    names: Mapping[int, str] | None = None,
    penalty: float | None = None,
    seed: int = 0,
) -> HeadPath:
    """Heads on latents that fire often enough, and have a name where names are given."""
    if len(labels) != len(features):
        raise ShapeError(f"{len(features)} texts and {len(labels)} labels; give each text one")
    classes, of_class = classes_of(labels)
    fires = np.bincount(features.latents.indices, minlength=features.n_latents)
    usable = fires >= _LEAST_FIRING
    if names is not None:
        usable &= np.isin(np.arange(features.n_latents), list(names))
    kept = np.flatnonzero(usable)
    if not len(kept):
        raise ConfigError(
            f"no latent to classify by: of {features.n_latents:,} latents "
            f"{int((fires >= _LEAST_FIRING).sum()):,} fire in {_LEAST_FIRING} of the {len(labels)} "
            f"texts, {0 if names is None else len(names):,} have a name, and none does both"
        )
    found = fit_path(
        features.latents[:, kept], of_class, n_classes=len(classes), penalty=penalty, seed=seed
    )
    heads = (Head(kept[h.units], h.weight, h.bias, h.penalty) for h in found.heads)
    return HeadPath(tuple(heads), found.rows)
