"""A folder that can be pushed to the hub as it is: one SAE in a folder of its own, and a card.

The card is for people: what the SAE reads, how to load it, what conversion changed and lost, and
the figures of the proof. Its head is the YAML that the hub indexes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from saetools.errors import FormatError
from saetools.formats.base import FORMATS
from saetools.formats.hooks import model_name
from saetools.sae import SAE
from saetools.sae.foreign import OWN_NAME

__all__ = ["card", "write_hub_folder"]

_REPORT = "conversion.json"


def write_hub_folder(
    sae: SAE, path: str | Path, *, sae_id: str, format: str = "saelens", repo_id: str | None = None
) -> Path:
    """Write `path/<sae_id>/` in a format, proved, and `path/README.md`, the card.

    With the default format, SAELens loads the folder once it is pushed:
    `SAE.from_pretrained(repo_id, sae_id)`. A card that is there is left alone, so that several SAEs
    can be written into one folder.

    Args:
        sae_id: folder of this SAE, e.g. "blocks.8.hook_resid_post".
        format: name of a format that writes folders, or "saetools" for our own.
        repo_id: where it will be pushed, for the card.

    Raises:
        FormatError: the format cannot hold this SAE, writes no folder, or the proof fails.
    """
    path = Path(path)
    if format != OWN_NAME and FORMATS.get(format).one_file:
        raise FormatError(
            f"{FORMATS.get(format).title} is one file, a hub folder needs a format of folders; "
            "saelens is the one that most tools load"
        )
    if not sae_id or sae_id.startswith("/") or ".." in sae_id.split("/"):
        raise FormatError(
            f"sae_id is {sae_id!r}; it is a folder below the repository, e.g. 'blocks.8'"
        )
    path.mkdir(parents=True, exist_ok=True)
    (path / sae_id).parent.mkdir(parents=True, exist_ok=True)
    sae.save(path / sae_id, format=format)
    if not (path / "README.md").exists():
        report = path / sae_id / _REPORT
        proof = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
        text = card(sae, sae_id=sae_id, format=format, repo_id=repo_id, report=proof)
        (path / "README.md").write_text(text, encoding="utf-8")
    return path


def card(
    sae: SAE, *, sae_id: str, format: str, repo_id: str | None, report: Mapping[str, Any]
) -> str:
    """The text of the card.

    Args:
        report: content of conversion.json; empty where nothing was converted.
    """
    model, repo = model_name(sae), repo_id or "OWNER/NAME"
    head: dict[str, Any] = {
        "library_name": "saelens" if format == "saelens" else OWN_NAME,
        "tags": ["sparse-autoencoder", "mechanistic-interpretability", "saetools", format],
    }
    if model:
        head["base_model"] = model
    return "\n\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# A {sae.config.type} sparse autoencoder" + (f" for {model}" if model else ""),
            _about(sae, model),
            "## How to load it",
            f"```python\n{_loading(format, repo, sae_id)}\n```",
            *_converted(report, format),
            "## Limits",
            "An SAE reconstructs a part of what the model computes and leaves the rest. Names of "
            "its latents are guesses until they are tested; steering and removing latents have "
            "side effects that need to be measured.\n",
        ]
    )


def _about(sae: SAE, model: str | None) -> str:
    rows = {
        "reads": f"`{sae.meta.get('hook_name', 'an unknown hook')}`, width {sae.config.d_in}",
        "writes": f"`{sae.target_hook_name}`, width {sae.d_out}" if sae.target_hook_name else None,
        "model": model,
        "latents": sae.config.n_latents,
        "active latents a token": sae.calibrated_l0 or sae.target_l0 or sae.meta.get("l0"),
        "k": getattr(sae.config, "k", None),
        "widths": list(sae.widths) if len(sae.widths) > 1 else None,
        "tokens trained on": sae.meta.get("n_tokens"),
    }
    cells = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None)
    return f"| | |\n|---|---|\n{cells}\n\nIt reads activations as the model has them, unscaled."


def _loading(format: str, repo: str, sae_id: str) -> str:
    lines = [
        "import saetools as st",
        "from saetools.formats import pull",
        "",
        f"sae = st.SAE.load(pull({repo + '/' + sae_id!r}, online=True).path)",
    ]
    if format == "saelens":
        lines += [
            "",
            "# or with SAELens",
            "from sae_lens import SAE",
            "",
            f"sae = SAE.from_pretrained({repo!r}, {sae_id!r})",
        ]
    return "\n".join(lines)


def _converted(report: Mapping[str, Any], format: str) -> list[str]:
    """What conversion changed, and the figures of its proof."""
    proof = report.get("proof")
    if not proof:
        return []
    notes = "\n".join(f"- **{note['what']}**: {note['done']}" for note in report["notes"])
    return [
        f"## How it was converted to {format}",
        f"Before it was written, it was compared with the original on "
        f"{proof['n_random'] + proof['n_real']} tokens ({proof['n_real']} of them real "
        f"activations): reconstructions differ by at most {proof['x_hat_error']:.1e} of the "
        f"token's largest number, latents by {proof['latent_error']:.1e}; {proof['n_wrong']} "
        f"latents are on in one and off in the other. All figures are in `{_REPORT}`.",
        notes,
    ]
