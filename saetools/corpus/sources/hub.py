"""A data set of Hugging Face `datasets`: by its hub name, or a folder of `save_to_disk`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from saetools.corpus.base import CORPORA, CorpusConfig, Document
from saetools.errors import ConfigError, FormatError, nearest

__all__ = ["Hub", "HubConfig"]


class HubConfig(CorpusConfig):
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
    text_field: str = Field(default="text", description="column of the texts")
    label_field: str | None = Field(
        default=None,
        description="column of the labels; class numbers become class names. None by default",
    )
    n_docs: int | None = Field(
        default=None,
        ge=1,
        description="keep this many rows, drawn over the whole split; all by default",
    )
    seed: int = Field(default=0, description="seed of that draw")

    @property
    def source(self) -> str:
        """Last part of the name or folder."""
        return Path(self.path).name


@CORPORA.register("hub")
class Hub:
    """Documents of a data set; blank texts are left out."""

    Config = HubConfig

    @staticmethod
    def load(config: HubConfig) -> list[Document]:
        """Read the rows in their order."""
        table = _open(config)
        for setting in ("text_field", "label_field"):
            _check_column(table.column_names, getattr(config, setting), setting, config.path)
        if config.n_docs is not None and config.n_docs < len(table):
            rows = np.random.default_rng(config.seed).permutation(len(table))[: config.n_docs]
            table = table.select(np.sort(rows).tolist())
        texts = list(table[config.text_field])
        if texts and not isinstance(texts[0], str):
            raise FormatError(
                f"corpus 'hub': the column '{config.text_field}' of '{config.path}' holds "
                f"{type(texts[0]).__name__}, not texts; columns: {', '.join(table.column_names)}"
            )
        labels = _labels(table, config.label_field)
        return [
            Document(text, label=label, title=f"{config.split}[{row}]")
            for row, (text, label) in enumerate(zip(texts, labels, strict=True))
            if text and text.strip()
        ]


def _open(config: HubConfig) -> Any:
    # datasets takes a second to import and is not needed for corpora from files.
    import datasets

    try:
        if Path(config.path).is_dir() and _is_saved(Path(config.path)):
            table = datasets.load_from_disk(config.path)
            return _pick(table, config) if isinstance(table, datasets.DatasetDict) else table
        return datasets.load_dataset(
            config.path, config.subset, split=config.split, revision=config.revision
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


def _check_column(columns: Sequence[str], field: str | None, setting: str, path: str) -> None:
    if field is not None and field not in columns:
        raise ConfigError(
            f"corpus 'hub': '{path}' has no column '{field}'; it has: {', '.join(columns)}; "
            f"set {setting} to one of them, perhaps '{nearest(field, columns, n=1)[0]}'"
        )


def _labels(table: Any, field: str | None) -> list[str | None]:
    if field is None:
        return [None] * len(table)
    name_of = getattr(table.features[field], "int2str", str)
    values = list(table[field])
    return [None if value is None else str(name_of(value)) for value in values]
