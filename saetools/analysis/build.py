"""Build an index: encode the store, turn the codes to lists by latent, look at ranges of latents.

Each step leaves finished pieces in a folder beside the index, so a run that was stopped goes on
from there. Memory holds one range of latents, some 100 bytes an activation, and the tables of the
index itself, whose size does not depend on the number of tokens; all else waits on disk: 16 bytes
an activation and 24 a token, deleted at the end.
"""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from saetools import progress
from saetools.analysis.coactivation import levels
from saetools.analysis.codes import CodeLists, Codes, CodeWriter, turn
from saetools.analysis.index import LatentIndex
from saetools.analysis.index_file import FORMAT, made_from
from saetools.analysis.join import join
from saetools.analysis.part import Found, Settings, find
from saetools.analysis.token_rows import TokenRows, read_rows
from saetools.analysis.work import WorkFolder
from saetools.errors import ConfigError, ShapeError
from saetools.models.base import SubjectModel
from saetools.models.weights import fingerprint_weights
from saetools.repro import fingerprint
from saetools.sae import SAE
from saetools.store import ActivationStore
from saetools.store.merge import checksum_of
from saetools.store.room import told

__all__ = ["index_latents", "room_for", "work_folder"]

_BATCH_TOKENS = 4096
_COMMIT_TOKENS = 64 * _BATCH_TOKENS


def index_latents(
    sae: SAE,
    store: ActivationStore,
    *,
    model: SubjectModel,
    n_examples: int = 12,
    window: int = 12,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
) -> LatentIndex:
    """Index what every latent of an SAE fires on.

        index = st.index_latents(sae, acts, model=model, out="index.h5")

    Examples, words, labels, co-activation and all else that a namer may look at come from training
    documents; held-out documents give a second, disjoint set of contexts, the words' held-out
    masses, and the AUROC that `concepts` reports.

    An index that is there and was made from the same is returned as it is; an unfinished one is
    gone on with, from the folder `work_folder(out)`.

    Args:
        sae: the SAE.
        store: activations of the hook it was trained at.
        model: the subject model; its tokenizer is used, and of a language model its unembedding.
        n_examples: documents shown of each latent, and as many kept for scoring names; half as
            many are drawn over its weaker documents.
        window: tokens shown on each side of a peak.
        seed: of that draw.
        out: HDF5 file to write, none by default.
        resume: False makes an index anew that is there, finished or not.

    Raises:
        ShapeError: the SAE reads another width than the store has.
        HookNotFoundError: the store lacks the SAE's hook.
        StoreError: the disk is full; finished pieces are kept.
    """
    if n_examples < 1 or window < 0:
        raise ConfigError(
            f"index_latents: n_examples must be at least 1 and window at least 0; "
            f"got n_examples={n_examples}, window={window}"
        )
    hook_name, settings = _check(sae, store, model), Settings(n_examples, window, seed)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="saetools-index-") as scratch:
            path = Path(scratch) / "index.h5"
            return _build(sae, store, model, hook_name, settings, path).in_memory()
    path = Path(out)
    if not resume:
        shutil.rmtree(work_folder(path), ignore_errors=True)
        path.unlink(missing_ok=True)
    return _build(sae, store, model, hook_name, settings, path)


def room_for(n_tokens: int, l0: float) -> int:
    """Bytes that the pieces of an index take until it is finished: 24 a token, 16 an activation."""
    return int(n_tokens * (24 + 16 * l0))


def work_folder(out: str | Path) -> Path:
    """Where the pieces of an index lie until it is finished."""
    out = Path(out)
    return out.with_name(out.name + ".work")


def _build(
    sae: SAE,
    store: ActivationStore,
    model: SubjectModel,
    hook_name: str,
    settings: Settings,
    out: Path,
) -> LatentIndex:
    identity = _identity(sae, store, model, hook_name, settings)
    if made_from(out) == identity:
        shutil.rmtree(work_folder(out), ignore_errors=True)  # killed while it was tidying up
        return LatentIndex.load(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    then = (
        f"What is finished is kept in {work_folder(out)}: make room, and the same call goes on "
        "from there"
    )
    with told(out, None, what=f"index into {out}", then=then):
        work = WorkFolder(work_folder(out), identity)
        _index(sae, store, model, hook_name, settings, work, identity, out)
        work.remove()
    return LatentIndex.load(out)


def _index(
    sae: SAE,
    store: ActivationStore,
    model: SubjectModel,
    hook_name: str,
    settings: Settings,
    work: WorkFolder,
    identity: str,
    out: Path,
) -> None:
    """Make all pieces and write the index; nothing of the work is mapped afterwards."""
    codes = _encode(sae, store, hook_name, work.path)
    rows = read_rows(store, model, work)
    lists = turn(codes, work.path)
    widths = list(sae.widths) if len(sae.widths) > 1 else []
    level = levels(sae.config.n_latents, widths)
    found = Found(codes, lists, rows, _fired_train(codes, rows), level, settings)
    pieces = _pieces(found, lists, work)
    index = join(
        pieces, found, work=work, sae=sae, model=model, hook_name=hook_name, widths=widths,
        source={
            "sae": sae.config.model_dump(mode="json"),
            "store": store.manifest,
            "made_from": identity,
        },
    )  # fmt: skip
    index.save(out)


def _check(sae: SAE, store: ActivationStore, model: SubjectModel) -> str:
    held = store.manifest["model"].get("tokenizer_fingerprint")
    if held is not None and held != model.tokenizer_fingerprint:
        raise ConfigError(
            f"{store.path} holds tokens of {store.manifest['model']['name']}, and {model.name} "
            "spells them otherwise (the tokenizers differ); index with the model that was harvested"
        )
    hook_name = str(sae.meta.get("hook_name") or store.hook_name)
    width = store.width(hook_name)
    if sae.config.d_in != width:
        raise ShapeError(
            f"the SAE reads activations of width {sae.config.d_in}; {store.path} holds width "
            f"{width} at {hook_name}; index with the store that the SAE was trained on"
        )
    return hook_name


def _identity(
    sae: SAE, store: ActivationStore, model: SubjectModel, hook_name: str, settings: Settings
) -> str:
    """What an index is made from, as a hash: SAE, store, model and settings."""
    return fingerprint(
        {
            "format": FORMAT,
            "sae": [fingerprint_weights(sae), sae.config.model_dump(mode="json"), hook_name],
            "store": [store.manifest, store.n_tokens, checksum_of(store)],
            "model": getattr(model, "fingerprint", None),
            "settings": vars(settings),
        }
    )


def _encode(sae: SAE, store: ActivationStore, hook_name: str, folder: Path) -> Codes:
    writer = CodeWriter(folder, n_latents=sae.config.n_latents)
    with progress.task("index", total=store.n_tokens, unit="tokens") as task, torch.no_grad():
        task.advance(writer.n_rows)
        for start in range(writer.n_rows, store.n_tokens, _BATCH_TOKENS):
            stop = min(start + _BATCH_TOKENS, store.n_tokens)
            x = store.rows(start, stop, hook_name=hook_name)
            writer.append(sae.encode(x.to(sae.device)))
            if stop % _COMMIT_TOKENS == 0:
                writer.commit()
            task.advance(stop - start)
    return writer.close()


def _fired_train(codes: Codes, rows: TokenRows) -> npt.NDArray[np.int64]:
    """Training tokens on which each latent fires."""
    fired = np.zeros(codes.n_latents, dtype=np.int64)
    for start, stop in codes.row_blocks(_COMMIT_TOKENS * 16):
        edges = codes.bounds[start : stop + 1]
        train = np.repeat(~rows.is_held_out(slice(start, stop)), np.diff(edges))
        latents = codes.latents[int(edges[0]) : int(edges[-1])]
        fired += np.bincount(latents[train], minlength=codes.n_latents)
    return fired


def _pieces(found: Found, lists: CodeLists, work: WorkFolder) -> list[Path]:
    """A file for each range of latents."""
    pieces, n_latents = [], found.codes.n_latents
    with progress.task("look at latents", total=n_latents, unit="latents") as task:
        for first, last in lists.parts():
            made = work.piece(f"latents-{first}", partial(find, found, first, last))
            pieces.append(made)
            task.advance(last - first)
    return pieces
