"""From a row of named fields to a document: a text, a chat, or token ids, with label and title.

The rows of .jsonl, .csv, .tsv, .parquet and of data sets all go through here, so that one set of
settings means the same for each of them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from saetools.corpus.base import CorpusConfig, Document, Message
from saetools.errors import ConfigError, FormatError

__all__ = ["RowConfig", "document_of", "plain_chat"]

# The field's other spelling of a chat, {"from": "human", "value": "..."}.
_SPEAKERS = {"human": "user", "gpt": "assistant"}


class RowConfig(CorpusConfig):
    """Which fields of a row hold what."""

    text_field: str = Field(default="text", description="field or column that holds the text")
    label_field: str | None = Field(
        default=None, description="field or column that holds the label; none by default"
    )
    title_field: str | None = Field(
        default=None,
        description="field or column that holds the title; file and line, or row, by default",
    )
    chat_field: str | None = Field(
        default=None,
        description="field or column that holds a chat, a list of {role, content} messages; it is "
        "read in the place of the text",
    )
    chat_template: Literal["model", "plain"] = Field(
        default="model",
        description="model: a chat becomes text by the chat template of the model's tokenizer; "
        "plain: as `role: content`, with a blank line between messages, for any model",
    )
    tokens_field: str | None = Field(
        default=None,
        description="field or column that holds token ids, a list of whole numbers; they are read "
        "in the place of the text, which is compared with them where there is one",
    )
    tokenizer: str | None = Field(
        default=None,
        description="name or fingerprint of the tokenizer that made the token ids; needed with "
        "tokens_field, and checked against the model's",
    )

    @property
    def token_source(self) -> str | None:
        """Name or fingerprint of the tokenizer that made the token ids; None for texts."""
        return self.tokenizer

    @model_validator(mode="after")
    def _one_kind(self) -> "RowConfig":
        if self.chat_field and self.tokens_field:
            raise ValueError(
                "chat_field and tokens_field are both set, and a document is one of the two; "
                "leave one out"
            )
        if bool(self.tokens_field) != bool(self.tokenizer):
            there, absent = (
                ("tokens_field", "tokenizer")
                if self.tokens_field
                else ("tokenizer", "tokens_field")
            )
            raise ValueError(
                f"{there} is set and {absent} is not; token ids mean nothing without the tokenizer "
                f"that made them: set both, e.g. tokens_field: input_ids and tokenizer: gpt2"
            )
        return self


def document_of(row: Mapping[str, Any], config: RowConfig, *, where: str, title: str) -> Document:
    """Make a document of a row; a text that is missing (None) gives a blank one.

    Args:
        row: values by field.
        config: which fields to take.
        where: file and line, for messages.
        title: what the document is called unless it has a title of its own.

    Raises:
        ConfigError: the row has no such field.
        FormatError: a field holds what it should not.
    """
    label = _short(row, config.label_field, "label_field", where)
    title = _short(row, config.title_field, "title_field", where) or title
    if config.tokens_field is not None:
        ids = _token_ids(_field(row, config.tokens_field, "tokens_field", where), config, where)
        text = row.get(config.text_field)
        return Document(text if isinstance(text, str) else "", label, title, token_ids=ids)
    if config.chat_field is not None:
        chat = _messages(_field(row, config.chat_field, "chat_field", where), config, where)
        kept = chat if config.chat_template == "model" else None
        return Document(plain_chat(chat), label, title, messages=kept)
    text = _field(row, config.text_field, "text_field", where)
    if text is not None and not isinstance(text, str):
        raise FormatError(
            f"{where}: the field '{config.text_field}' holds {type(text).__name__}, not a text; "
            f"set text_field to another of: {', '.join(row)}{_hint(text, config.text_field)}"
        )
    return Document(text or "", label, title)


def plain_chat(messages: tuple[Message, ...]) -> str:
    """A chat as text for a model without a template of its own."""
    return "\n\n".join(f"{role}: {content}" for role, content in messages)


def _token_ids(value: Any, config: RowConfig, where: str) -> tuple[int, ...]:
    value = _parsed(value)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise FormatError(
            f"{where}: the field '{config.tokens_field}' must be a list of whole numbers, one a "
            f"token; it holds {_shown(value)}; set tokens_field to another field, or leave it out "
            f"and read the texts"
        )
    return tuple(value)


def _messages(value: Any, config: RowConfig, where: str) -> tuple[Message, ...]:
    chat = _parsed(value)
    if chat is None:
        return ()
    turns = chat if isinstance(chat, list) else [chat]
    found = [_message(turn) if isinstance(turn, dict) else None for turn in turns]
    messages = tuple(message for message in found if message is not None)
    if len(messages) < len(turns):
        raise FormatError(
            f"{where}: the field '{config.chat_field}' must be a list of messages, each with the "
            f"texts `role` and `content`; it holds {_shown(chat)}; set chat_field to another "
            f"field, or bring the messages into that form"
        )
    return messages


def _message(turn: Mapping[str, Any]) -> Message | None:
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    return Message(_SPEAKERS.get(role, role), content)


def _parsed(value: Any) -> Any:
    """A list that a table can only hold as text, as in "[1, 2]"."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except json.JSONDecodeError:
        return value


def _short(row: Mapping[str, Any], field: str | None, setting: str, where: str) -> str | None:
    value = None if field is None else _field(row, field, setting, where)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | dict):
        raise FormatError(
            f"{where}: the field '{field}' holds {value!r}; {setting} takes one text or number a "
            f"document; choose another field or keep one value"
        )
    return str(value)


def _field(row: Mapping[str, Any], field: str, setting: str, where: str) -> Any:
    if field not in row:
        raise ConfigError(
            f"{where}: no field '{field}'; fields found: {', '.join(row)}; set {setting} to one "
            f"of them"
        )
    return row[field]


def _hint(value: Any, field: str) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"; for a list of messages set chat_field: {field}"
    if isinstance(value, list) and value and isinstance(value[0], int):
        return f"; for token ids set tokens_field: {field} and tokenizer"
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
