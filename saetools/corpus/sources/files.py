"""Text files: .txt, .jsonl, .csv, .tsv (plain or gzipped) and .parquet; a file, a folder, a glob.

What a format is and how it is read is in `saetools.corpus.formats`.
"""

import glob
from pathlib import Path

from saetools.corpus.base import CORPORA, Document
from saetools.corpus.formats import SUFFIXES, FilesConfig, read_file
from saetools.corpus.split import sample
from saetools.errors import ConfigError, nearest

__all__ = ["Files", "FilesConfig"]

# Marks of a folder that `save_to_disk` of the package datasets wrote.
_SAVED = ("dataset_info.json", "dataset_dict.json")


@CORPORA.register("files")
class Files:
    """Documents of files, in the order of file names and lines."""

    Config = FilesConfig

    @staticmethod
    def load(config: FilesConfig) -> list[Document]:
        """Read all documents; empty ones are left out."""
        files = _find(config.path)
        read = (document for file in files for document in read_file(file, config))
        documents = [document for document in read if not document.blank]
        if not documents:
            names = ", ".join(file.name for file in files[:5])
            raise ConfigError(
                f"corpus 'files': {len(files)} files match '{config.path}' ({names}) and none "
                f"holds a text that is not blank; point `path` at other files"
            )
        return sample(documents, config.n_docs)


def _find(asked: str) -> list[Path]:
    path = Path(asked)
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise ConfigError(
                f"corpus 'files' reads {', '.join(SUFFIXES)}; '{asked}' is none of them; "
                f"rename or convert it"
            )
        return [path]
    if path.is_dir():
        found = [entry for entry in path.rglob("*") if entry.is_file()]
    elif glob.has_magic(asked):
        found = [Path(name) for name in glob.glob(asked, recursive=True) if Path(name).is_file()]
    else:
        raise ConfigError(_absent(path))
    files = sorted(file for file in found if file.name.endswith(SUFFIXES))
    if not files:
        raise ConfigError(
            f"corpus 'files' looked for {', '.join(SUFFIXES)} in '{asked}' and found none "
            f"among {len(found)} files; {_advice(found)}"
        )
    return files


def _absent(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"corpus 'files': there is no '{path}', nor its folder '{folder}'; check the path"
    near = nearest(path.name, [entry.name for entry in folder.iterdir()])
    found = f"nearest names: {', '.join(near)}" if near else "the folder is empty"
    return f"corpus 'files': there is no '{path.name}' in '{folder}'; {found}"


def _advice(found: list[Path]) -> str:
    if any(file.name in _SAVED for file in found):
        return "`save_to_disk` wrote that folder: read it with type: hub"
    return "check the path"
