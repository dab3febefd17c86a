"""SAEs on the Hugging Face hub: fetched, loaded and pushed, with the commit and checksums recorded.

A place is `owner/name`, `owner/name/folder/within`, either with `@revision`. Loading looks into the
local cache and nowhere else; what is not there is fetched by `pull(place, online=True)`, and only
files of the one folder. Nothing here reads weights: what was fetched is a folder as any other.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError

from saetools.errors import FormatError, HubError
from saetools.formats.card import write_hub_folder
from saetools.sae import SAE

__all__ = ["Place", "Pulled", "Pushed", "place_of", "pull", "push"]

_PLACE = re.compile(
    r"(?:hf://)?(?P<repo_id>\w[\w.-]*/\w[\w.-]*)(?:/(?P<folder>[\w.-][\w./ -]*?))?/?"
    r"(?:@(?P<revision>[\w./-]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTINGS = ("config.json", "config.yaml", "cfg.json", "hyperparams.json")


class Place(NamedTuple):
    """Where on the hub an SAE is."""

    repo_id: str
    folder: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        return f"{self.repo_id}{folder}" + (f"@{self.revision}" if self.revision else "")


class Pulled(NamedTuple):
    """What was fetched: where it lies, of which commit, and the SHA-256 of each file."""

    path: Path
    place: Place
    commit: str
    checksums: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """What is kept in `sae.meta["hub"]`."""
        repo_id, folder, revision = self.place
        return {
            "repo_id": repo_id, "folder": folder, "revision": revision, "commit": self.commit,
            "checksums": dict(self.checksums),
        }  # fmt: skip


class Pushed(NamedTuple):
    """What was pushed: the place with the commit as its revision, and the SHA-256 of each file."""

    place: Place
    url: str
    checksums: Mapping[str, str]


def place_of(name: str | Path) -> Place | None:
    """The place that a name stands for; None where it can only be a path."""
    match = _PLACE.fullmatch(name) if isinstance(name, str) else None
    if match is None or ".." in (match["folder"] or "").split("/"):
        return None
    return Place(match["repo_id"], match["folder"], match["revision"])


def pull(
    place: Place | str, *, online: bool = False, cache: str | Path | None = None,
    endpoint: str | None = None,
) -> Pulled:  # fmt: skip
    """Fetch the files of one SAE, or find them in the cache.

    Args:
        place: as `google/gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_68@main`.
        online: whether the hub may be asked; by default only the cache is.
        cache: folder of the cache; that of huggingface_hub by default.
        endpoint: address of the hub, where it is another one.

    Raises:
        HubError: no such place, not in the cache, or the hub does not answer.
        FormatError: a file is not what the hub says it is.
    """
    where = place_of(place) if isinstance(place, str) else place
    if where is None:
        raise HubError(
            f"'{place}' is no place on the hub; write owner/name, owner/name/folder, with "
            "@revision if need be"
        )
    try:
        snapshot = snapshot_download(
            where.repo_id,
            revision=where.revision,
            allow_patterns=_patterns(where.folder),
            ignore_patterns=None if where.folder else ["*/*"],
            local_files_only=not online,
            cache_dir=cache,
            endpoint=endpoint,
        )
    except (OSError, HFValidationError) as error:  # every refusal of the hub is an OSError
        raise HubError(_unreached(where, online, error)) from error
    path = Path(snapshot) / (where.folder or "")
    if not path.exists():
        raise HubError(
            f"'{where.repo_id}' at commit {Path(snapshot).name} has no '{where.folder}'"
            + ("" if online else " in the cache; pull it with online=True")
            + "; its folders are on the page of the repository"
        )
    return Pulled(path, where, Path(snapshot).name, _verified(path))


def push(
    sae: SAE, repo_id: str, *, sae_id: str, format: str = "saelens", private: bool = True,
    revision: str | None = None, token: str | None = None, endpoint: str | None = None,
) -> Pushed:  # fmt: skip
    """Write an SAE in a format, prove it, and push it to a repository, which is made if need be.

    With the default format `sae_lens.SAE.from_pretrained(repo_id, sae_id)` loads it. A card is
    added to a repository that has none.

    Args:
        sae_id: folder within the repository, e.g. "blocks.8.hook_resid_post".
        private: of a repository that is made.
        revision: branch to push to; the main one by default.

    Raises:
        FormatError: the format cannot hold this SAE, or the proof fails; nothing is pushed.
        HubError: the hub refuses or does not answer.
    """
    api = HfApi(token=token, endpoint=endpoint)
    with tempfile.TemporaryDirectory(prefix="saetools-push-") as folder:
        root = write_hub_folder(
            sae, Path(folder) / "repository", sae_id=sae_id, format=format, repo_id=repo_id
        )
        checksums = _checksums(root)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            if api.file_exists(repo_id, "README.md", revision=revision):
                (root / "README.md").unlink()
                checksums.pop("README.md")
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=root,
                revision=revision,
                commit_message=f"Add {sae_id}: {sae.config.type} SAE, written by saetools",
            )
        except (OSError, HFValidationError) as error:
            raise HubError(
                f"could not push '{sae_id}' to '{repo_id}': {error!s:.400}. Check the name, that "
                "you are logged in (`hf auth login`) and may write there"
            ) from error
    return Pushed(Place(repo_id, sae_id, done.oid), str(done.commit_url), checksums)


def _patterns(folder: str | None) -> list[str] | None:
    """Files to fetch: those of the folder; of a single file also the settings beside it."""
    if folder is None:
        return None
    parent = folder.rpartition("/")[0]
    beside = [f"{parent}/{name}" if parent else name for name in _SETTINGS]
    return [folder, f"{folder}/*", *(beside if Path(folder).suffix in _FILES else [])]


_FILES = (".safetensors", ".npz", ".pt", ".pth")


def _unreached(place: Place, online: bool, error: Exception) -> str:
    if not online:
        return (
            f"'{place}' is neither a path nor in the hub's cache, and the hub is not asked unless "
            f"you say so; fetch it once with saetools.formats.pull('{place}', online=True), or "
            "check the path"
        )
    return (
        f"could not fetch '{place}' from the hub: {error!s:.400}. Check the name and the revision, "
        "that HF_HUB_OFFLINE is not set, and for gated repositories that you are logged in"
    )


def _verified(path: Path) -> dict[str, str]:
    """Checksums of what was fetched; large files lie in the cache under the one the hub states."""
    found = _checksums(path)
    root = path if path.is_dir() else path.parent
    for name, checksum in found.items():
        stated = (root / name).resolve().name
        if _SHA256.fullmatch(stated) and stated != checksum:
            raise FormatError(
                f"{root / name} has the checksum {checksum}, the hub states {stated}; the download "
                "is damaged: delete that file and fetch it again"
            )
    return found


def _checksums(path: Path) -> dict[str, str]:
    """SHA-256 of each file by its path below; of a single file, by its name."""
    root = path if path.is_dir() else path.parent
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found: dict[str, str] = {}
    for file in files:
        with file.open("rb") as opened:
            found[file.relative_to(root).as_posix()] = hashlib.file_digest(
                opened, "sha256"
            ).hexdigest()
    return found
