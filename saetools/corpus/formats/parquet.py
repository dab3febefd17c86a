"""Parquet tables, read group by group; only the columns that are needed."""

from collections.abc import Iterator
from pathlib import Path

from saetools.corpus.base import Document
from saetools.corpus.formats.settings import FilesConfig
from saetools.corpus.rows import document_of
from saetools.errors import FormatError

__all__ = ["read_parquet"]


def read_parquet(file: Path, config: FilesConfig) -> Iterator[Document]:
    """Yield a document a row.

    Raises:
        FormatError: the file is no Parquet, or is cut short.
    """
    # pyarrow takes half a second to import and is not needed for other files.
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    asked = {
        config.text_field,
        config.label_field,
        config.title_field,
        config.chat_field,
        config.tokens_field,
    }
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            # An empty row of all columns shows at once, and in full, what is missing.
            document_of(dict.fromkeys(names), config, where=file.name, title="")
            wanted = [name for name in names if name in asked]
            for batch in table.iter_batches(batch_size=1024, columns=wanted):
                for row in batch.to_pylist():
                    where, title = f"{file.name}, row {number}", f"{file.name}:{number}"
                    yield document_of(row, config, where=where, title=title)
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(
            f"{file.name}: cannot be read as Parquet ({str(error).splitlines()[0]}); fetch or "
            f"write the file again"
        ) from error
