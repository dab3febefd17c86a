"""Concept scrubbing: a linear eraser at every layer, each fitted with those below it active.

An eraser fitted on clean activations does not fit what it sees once lower layers are scrubbed. So
layers are fitted in order: the texts are run with all erasers so far, and the next one is fitted on
what arrives there. Belrose et al. 2023 (arXiv:2306.03819), section 6.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saetools import progress
from saetools.erase.apply import erased
from saetools.erase.base import ERASERS, Eraser
from saetools.erase.fit import fit_labelled
from saetools.erase.rows import Tokens, collect_rows
from saetools.errors import ConfigError, FormatError
from saetools.folders import whole_folder
from saetools.intervene.probe import Probe
from saetools.models.base import SubjectModel
from saetools.models.hook_names import layer_of
from saetools.repro import read_json, write_json

__all__ = ["Scrub", "scrub"]

FORMAT = "saetools-scrub/1"


@dataclass(frozen=True)
class Scrub:
    """Erasers of several layers, lowest first, to be applied together.

    Args:
        erasers: one a hook.
        tokens: which tokens they were fitted on, and edit.
    """

    erasers: tuple[Eraser, ...]
    tokens: Tokens = "content"

    @contextmanager
    def applied(self, model: SubjectModel, *, strict: bool = True) -> Iterator[tuple[Probe, ...]]:
        """Apply all of them while the block lasts; yields one probe each."""
        with ExitStack() as stack:
            yield tuple(
                stack.enter_context(erased(model, eraser, tokens=self.tokens, strict=strict))
                for eraser in self.erasers
            )

    def save(self, folder: str | Path) -> Path:
        """Write scrub.json and one eraser folder a layer."""
        folder = Path(folder)
        names = [f"layer_{i:02d}" for i in range(len(self.erasers))]
        header = {"format": FORMAT, "tokens": self.tokens, "erasers": names}
        with whole_folder(folder, mark="scrub.json", what="a scrub") as scratch:
            for name, eraser in zip(names, self.erasers, strict=True):
                eraser.save(scratch / name)
            write_json(scratch / "scrub.json", header)
        return folder

    @staticmethod
    def load(folder: str | Path) -> "Scrub":
        """Read what `save` wrote.

        Raises:
            FormatError: it is no such folder, of another format version, or damaged.
        """
        folder = Path(folder)
        try:
            header = read_json(folder / "scrub.json", FORMAT)
        except (OSError, json.JSONDecodeError) as error:
            raise FormatError(
                f"{folder} is no folder of a scrub: it has no scrub.json; name the folder that "
                "`Scrub.save` wrote"
            ) from error
        erasers = tuple(Eraser.load(folder / name) for name in header["erasers"])
        return Scrub(erasers, header["tokens"])


def scrub(
    model: SubjectModel,
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    hook_names: Sequence[str] | None = None,
    name: str = "leace",
    tokens: Tokens = "content",
    ctx_len: int | None = None,
    **config: Any,
) -> Scrub:
    """Fit an eraser at each of several hooks, lowest first, each with those below active.

    Args:
        hook_names: where; by default the residual stream after every block. In a model whose norms
            come before attention and MLP, `blocks.L.ln1.hook_normalized` and
            `blocks.L.ln2.hook_normalized` are the paper's sites (through transformer_lens).
        name: an eraser without SAE: "leace", "mean_projection" or "rlace".
        tokens, ctx_len, config: as `fit_eraser`.

    Raises:
        ConfigError: the eraser needs an SAE, a hook is the norm before the unembedding, or as
            `fit_eraser`.
    """
    if ERASERS.get(name).needs_sae:
        raise ConfigError(
            f"scrubbing takes one eraser a layer without an SAE, and '{name}' needs one; choose "
            "leace, mean_projection or rlace, or fit it at single hooks"
        )
    default = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    hooks = [model.resolve(hook) for hook in (default if hook_names is None else hook_names)]
    outside = [hook for hook in hooks if layer_of(hook) is None]
    if outside:
        raise ConfigError(
            f"{', '.join(outside)} is outside the blocks; the last norm feeds the unembedding, and "
            "scrubbing it takes the concept's words out of the output: name hooks of blocks"
        )
    hooks.sort(key=lambda hook: layer_of(hook) or 0)  # stable: hooks of one layer keep their order
    done = Scrub((), tokens)
    with progress.task("scrub", total=len(hooks), unit="hooks") as task:
        for hook in hooks:
            with done.applied(model):
                rows = collect_rows(
                    model, forget=forget, retain=retain, hook_name=hook, tokens=tokens,
                    ctx_len=ctx_len,
                )  # fmt: skip
            done = Scrub((*done.erasers, fit_labelled(name, rows, **config)), tokens)
            task.advance(1)
    return done
