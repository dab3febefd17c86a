"""`saetools convert`: an SAE from one tool's format to another's, proved at both ends."""

from pathlib import Path
from typing import Annotated

import typer

from saetools.cli.options import DryRun, Json, Quiet
from saetools.cli.output import Outcome, View

__all__ = ["command"]

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SRC",
        help="Folder or file of an SAE, of any format; or a run folder of ours.",
        show_default=False,
    ),
]
Target = Annotated[
    Path, typer.Argument(metavar="DST", help="Folder or file to write.", show_default=False)
]
To = Annotated[
    str,
    typer.Option("--to", help="Format to write; saetools is ours.", metavar="FORMAT"),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", help="Format of SRC; recognised by its files by default.", metavar="FORMAT"
    ),
]
Probe = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        help="A store (acts.h5): its first 256 activations are compared, too.",
        metavar="STORE",
    ),
]


def command(
    source: Source,
    target: Target,
    *,
    to: To,
    format: From = None,
    probe: Probe = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert an SAE between formats of other tools and ours, and prove that it computes the same.

    What a format does otherwise (b_dec taken off the input or not, decoder norms, thresholds,
    scales, hook names) is converted and listed. Then reconstruction, latents and the active set are
    compared with the original's own formula: on made-up tokens, and on real ones with --probe. If
    they differ, nothing is written and the figures are shown; if not, the report lies beside the
    weights as conversion.json. What each format keeps and loses is in docs/formats.md.

    Formats: circuit_tracer, dictionary_learning, saelens, sparsify and others; a wrong name shows
    all. Files of other people are never executed.

    \b
    Examples:
      saetools convert runs/demo dist/my_sae --to saelens
      saetools convert trainer_0 runs/theirs/sae --to saetools --probe runs/demo/acts.h5
      saetools convert layers.10 out --to saelens --dry-run
    """
    from saetools.formats.convert import convert, from_store  # heavy: torch

    done = convert(
        source,
        target,
        to=to,
        format=format,
        probe=None if probe is None else from_store(probe),
        dry_run=dry_run,
    )
    proofs = {
        f"{end}: {name}": value
        for end, proof in done.proofs.items()
        for name, value in {
            "tokens compared": proof.n_tokens,
            "of them real": proof.n_real,
            "active latents a token": proof.l0,
            "latents that fired": f"{proof.n_fired:,} of {proof.n_latents:,}",
            "reconstruction off by": proof.x_hat_error,
            "latents off by": proof.latent_error,
            "tokens with ties": proof.n_tied_tokens,
        }.items()
    }
    config = done.sae.config
    figures = {"architecture": config.type, "d_in": config.d_in, "n_latents": config.n_latents}
    verb = "would convert" if dry_run else "converted"
    View(as_json, quiet).show(
        Outcome(
            f"{verb} {source} ({done.source}) to {target} ({done.target})",
            figures | proofs,
            table=[note._asdict() for note in done.notes],
            wrote=() if dry_run else (target,),
            next="" if dry_run or to != "saetools" else f"saetools evaluate {target.parent}",
        )
    )
