"""Find a concept's latents in a run: its own documents or texts of files in, a ranking out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from saetools.cli.concept_texts import names_of, two_classes
from saetools.cli.output import Outcome
from saetools.cli.run import RunFolder
from saetools.errors import ConfigError

if TYPE_CHECKING:  # a type only: `--help` must not pay for torch
    from saetools.evaluate.concept_search import ConceptSearch

__all__ = ["run_find"]

_N_SHOWN = 10


def run_find(
    run: RunFolder,
    *,
    positive: Path | None = None,
    negative: Path | None = None,
    texts: Path | None = None,
    label: str | None = None,
    pooling: Literal["max", "mean"] = "max",
    n_latents: int = 8,
) -> Outcome:
    """Find a concept's latents in a run, from files or from its own documents."""
    from saetools.evaluate.concept_search import find_concept, find_label  # heavy: torch

    files = positive is not None and negative is not None
    if files == (label is not None) or (positive is None) != (negative is None):
        raise ConfigError(
            "give --positive FILE with --negative FILE, or --label NAME (of the run's documents, "
            "or of --texts FILE)"
        )
    names, sae, k = names_of(run), run.sae(), n_latents
    if label is not None and texts is None:
        with run.store() as store:
            found = find_label(
                sae, store, label=label, pooling=pooling, k=k, names=names, seed=run.config.seed
            )
    else:
        up, down = two_classes(positive, negative, texts, label)
        found = find_concept(
            run.model,
            sae,
            positive=up,
            negative=down,
            concept=label or (positive.name.split(".")[0] if positive else "concept"),
            pooling=pooling,
            k=k,
            names=names,
            ctx_len=run.config.harvest.ctx_len,
            seed=run.config.seed,
        )
    slug = re.sub(r"[^\w.-]+", "_", found.concept).strip("._") or "concept"
    path = found.save(run.path / "concepts" / f"{slug}.json")
    return _found(found, run, path)


def _found(found: "ConceptSearch", run: RunFolder, path: Path) -> Outcome:
    rows = [found[rank] for rank in range(min(_N_SHOWN, len(found)))]
    chosen = found.latents(by="difference", most=3)
    table = [
        {
            "latent": row.latent,
            "name": found.names.get(row.latent, ""),
            "AUROC": row.auroc,
            "low": row.auroc_low,
            "high": row.auroc_high,
            "difference": row.difference,
            "q": row.q,
        }
        for row in rows
    ]
    figures: dict[str, object] = {
        "latents that fire more with it (q <= 0.05)": len(found.latents()),
        "held-out texts with it, without": " and ".join(map(str, found.n_held_out)),
    }
    figures |= {
        f"AUROC of {r.name}": f"{r.auroc:.3f} [{r.auroc_low:.3f}, {r.auroc_high:.3f}]"
        for r in found.readers
    }
    steer = " ".join(f"--latent {latent}" for latent in chosen)
    return Outcome(
        title=f"searched {len(found):,} live latents for '{found.concept}'",
        figures=figures,
        table=table,
        text="\n".join([found.verdict, *(f"note: {note}" for note in found.notes)]),
        wrote=(path,),
        next=f'saetools steer {run.path} {steer} --prompt "..."' if chosen else "",
    )
