"""Settings of the corpus source `files`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from saetools.corpus.rows import RowConfig

__all__ = ["FilesConfig"]


class FilesConfig(RowConfig):
    """Which files, and what in them is a document."""

    path: str = Field(
        description="a file, a folder with its sub-folders, or a glob such as data/*.jsonl.gz"
    )
    split: Literal["paragraph", "line", "file"] = Field(
        default="paragraph",
        description="what one document of a .txt is; a paragraph ends at a blank line",
    )
    errors: Literal["strict", "replace"] = Field(
        default="strict",
        description="`replace` turns bytes that are no UTF-8 into U+FFFD instead of stopping",
    )
    n_docs: int | None = Field(
        default=None,
        ge=1,
        description="keep this many documents, spread over all files; all by default",
    )

    @property
    def source(self) -> str:
        """Last part of the path."""
        return Path(self.path).name
