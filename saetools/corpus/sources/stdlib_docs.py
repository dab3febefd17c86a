"""The documentation inside Python's own standard library: real English about ~200 topics, offline.

Docstrings of modules, classes and functions, and the language reference of `pydoc_data.topics`,
read from the source files with `ast`. Nothing is imported or run, so `this` prints no poem and
`antigravity` opens no browser. The texts are those of the running interpreter: another Python
version gives a slightly different corpus, and another fingerprint.
"""

import ast
import inspect
import logging
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from saetools.corpus.base import CORPORA, CorpusConfig, Document
from saetools.corpus.split import sample
from saetools.errors import ConfigError

__all__ = ["StdlibDocs", "StdlibDocsConfig"]

_log = logging.getLogger(__name__)

_NOT_DOCUMENTATION = {
    "__pycache__",
    "dist-packages",
    "idle_test",
    "lib-dynload",
    "site-packages",
    "test",
    "tests",
}
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class StdlibDocsConfig(CorpusConfig):
    """Which docstrings to keep."""

    n_docs: int | None = Field(
        default=None,
        ge=1,
        description="keep this many documents, spread over all labels; all by default",
    )
    min_chars: int = Field(
        default=40, ge=1, description="shorter texts say too little to have a topic"
    )


@CORPORA.register("stdlib_docs")
class StdlibDocs:
    """Docstrings of the running interpreter; the label is the top-level module."""

    Config = StdlibDocsConfig

    @staticmethod
    def load(config: StdlibDocsConfig) -> list[Document]:
        """Read all docstrings, sorted by title, each text once."""
        root = Path(sysconfig.get_path("stdlib"))
        files = sorted(_source_files(root))
        if not files:
            raise ConfigError(
                f"the corpus 'stdlib_docs' reads Python source files under {root} and found none; "
                f"this Python ships its library without sources: use the corpus 'files' instead"
            )
        found = [document for file in files for document in _documents(file, root)]
        found.sort(key=lambda document: (document.title or "", document.text))
        first = {document.text: document for document in reversed(found)}
        kept = [d for d in found if first[d.text] is d and len(d.text) >= config.min_chars]
        return sample(kept, config.n_docs)


def _source_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name not in _NOT_DOCUMENTATION and entry.name.isidentifier():
                yield from _source_files(entry)
        elif entry.suffix == ".py":
            yield entry


def _documents(file: Path, root: Path) -> Iterator[Document]:
    parts = file.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in old modules
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        _log.debug("left out %s: %s", file, error)
        return
    if module == "pydoc_data.topics":
        yield from _topics(tree)
        return
    for title, text in _docstrings(tree, module):
        yield Document(text, label=parts[0], title=title)


def _docstrings(node: _Documented, title: str) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node, clean=True)
    if text is not None and text.strip():
        yield title, text.strip()
    for child in _definitions(node):
        yield from _docstrings(child, f"{title}.{child.name}")


def _definitions(
    node: ast.AST,
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Definitions directly inside `node`, those under `if`, `try` and `with` included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(child)


def _topics(tree: ast.Module) -> Iterator[Document]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for name, text in ast.literal_eval(statement.value).items():
                yield Document(inspect.cleandoc(text).strip(), label="topics", title=name)
