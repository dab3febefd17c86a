"""A data set of Hugging Face `datasets`: by its hub name, or a folder of `save_to_disk`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from saetools.corpus.base import CORPORA, Document
from saetools.corpus.rows import RowConfig, document_of
from saetools.errors import ConfigError

__all__ = ["Hub", "HubConfig"]

# Rows among which a stream is shuffled; all of them are fetched before the first one is given out.
_STREAM_BUFFER = 10_000


class HubConfig(RowConfig):
    """Which data set, and which of its columns."""

    path: str = Field(description="a name on the hub, or a folder that `save_to_disk` wrote")
    subset: str | None = Field(
        default=None, description="configuration of the data set, where it has several"
    )
    split: str = Field(default="train", description="split to read")
    revision: str | None = Field(
        default=None,
        description="commit, tag or branch on the hub; pin it to make a run repeatable",
    )
    n_docs: int | None = Field(
        default=None,
        ge=1,
        description="keep this many rows, drawn over the whole split; all by default",
    )
    seed: int = Field(default=0, description="seed of that draw")
    streaming: bool = Field(
        default=False,
        description="fetch only as much of the data set as n_docs rows need, instead of all of it; "
        "the rows are then drawn from its beginning, shuffled in a buffer of 10,000 rows",
    )

    @property
    def source(self) -> str:
        """Last part of the name or folder."""
        return Path(self.path).name

    @model_validator(mode="after")
    def _streams_end(self) -> "HubConfig":
        if self.streaming and self.n_docs is None:
            raise ValueError(
                "streaming is on and n_docs is not set; a corpus is held in memory, so say how "
                "many rows to take, e.g. n_docs: 100000"
            )
        return self


@CORPORA.register("hub")
class Hub:
    """Documents of a data set; blank texts are left out."""

    Config = HubConfig

    @staticmethod
    def load(config: HubConfig) -> list[Document]:
        """Read the rows in their order; of a stream, in the order of the draw."""
        table = _open(config)
        if table.column_names is not None:
            empty = dict.fromkeys(table.column_names)
            # An empty row of all columns shows at once, and in full, what is missing.
            document_of(empty, config, where=_where(config), title="")
        documents = (
            document_of(
                row, config, where=f"{_where(config)}, row {i}", title=f"{config.split}[{i}]"
            )
            for i, row in enumerate(_rows(_drawn(table, config), config))
        )
        return [document for document in documents if not document.blank]


def _where(config: HubConfig) -> str:
    return f"corpus 'hub': data set '{config.path}'"


def _drawn(table: Any, config: HubConfig) -> Any:
    if config.n_docs is None:
        return table
    if not hasattr(table, "__len__"):
        return table.shuffle(seed=config.seed, buffer_size=_STREAM_BUFFER).take(config.n_docs)
    if config.n_docs >= len(table):
        return table
    rows = np.random.default_rng(config.seed).permutation(len(table))[: config.n_docs]
    return table.select(np.sort(rows).tolist())


def _rows(table: Iterable[dict[str, Any]], config: HubConfig) -> Iterator[Mapping[str, Any]]:
    """Rows with class names in the place of class numbers."""
    field = config.label_field
    kind = (getattr(table, "features", None) or {}).get(field)
    name_of: Callable[[int], str] | None = getattr(kind, "int2str", None)
    for row in table:
        if field is not None and name_of is not None and row.get(field) is not None:
            yield {**row, field: name_of(row[field])}
        else:
            yield row


def _open(config: HubConfig) -> Any:
    # datasets takes a second to import and is not needed for corpora from files.
    import datasets

    try:
        if Path(config.path).is_dir() and _is_saved(Path(config.path)):
            table = datasets.load_from_disk(config.path)
            return _pick(table, config) if isinstance(table, datasets.DatasetDict) else table
        return datasets.load_dataset(
            config.path,
            config.subset,
            split=config.split,
            revision=config.revision,
            streaming=config.streaming,
        )
    except (OSError, ValueError) as error:  # ConnectionError and DatasetNotFoundError are OSErrors
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"corpus 'hub': cannot read '{config.path}' (subset {config.subset}, split "
            f"'{config.split}'): {type(error).__name__}: {error}. Check the name; without network, "
            f"save the data set with `save_to_disk` and set `path` to that folder"
        ) from error


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _pick(splits: Any, config: HubConfig) -> Any:
    if config.split not in splits:
        raise ConfigError(
            f"corpus 'hub': '{config.path}' has no split '{config.split}'; "
            f"it has: {', '.join(splits)}"
        )
    return splits[config.split]
