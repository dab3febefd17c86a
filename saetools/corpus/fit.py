"""Making a corpus fit a model: chats get its template, token ids are checked against its tokenizer.

A corpus of texts needs neither and is returned as it is. The tokenizer comes in as an argument;
nothing here loads one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, Protocol

from jinja2 import TemplateError

from saetools.corpus.base import Corpus, Document
from saetools.errors import ConfigError, FormatError

__all__ = ["HasTokenizer", "check_tokens", "for_model", "render_chats"]

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")

# Less than this share of equal tokens means that another tokenizer made them. The right one gives
# nearly 1: only where a text was cut inside a word does it differ.
_MIN_AGREEMENT = 0.9
_SAMPLE_DOCS = 64
_SAMPLE_TOKENS = 512
_DOCS_AT_ONCE = 256

_INSTEAD = "take the model that they were made for, or leave tokens_field out and read the texts"


class HasTokenizer(Protocol):
    """What is needed of a subject model."""

    name: str
    tokenizer: Any

    @property
    def tokenizer_fingerprint(self) -> str:
        """Hash of vocabulary and special tokens."""


def for_model(corpus: Corpus, model: HasTokenizer) -> Corpus:
    """Return the corpus as `model` reads it; done twice, the second time changes nothing.

    Chats become text by the chat template of the model's tokenizer. Token ids are checked, and
    their text filled in.

    Raises:
        ConfigError: the tokenizer has no chat template, or is not the one that made the token ids.
        FormatError: the template refuses a chat, or only some documents have token ids.
    """
    if any(document.messages is not None for document in corpus):
        corpus = render_chats(corpus, model.tokenizer)
    if any(document.token_ids is not None for document in corpus):
        check_tokens(corpus, model)
        corpus = replace(corpus, documents=tuple(_spelled(corpus, model.tokenizer)))
    return corpus


def render_chats(corpus: Corpus, tokenizer: Any) -> Corpus:
    """Return the corpus with each chat as text in the tokenizer's own chat template.

    Raises:
        ConfigError: the tokenizer has no template.
        FormatError: the template refuses a chat, e.g. because the speakers do not alternate.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"the corpus '{corpus.name}' holds chats, and the tokenizer "
            f"'{_name_of(tokenizer)}' has no chat template; take the tokenizer of a chat model, or "
            f"set chat_template: plain, which writes `role: content`"
        )
    return replace(corpus, documents=tuple(_rendered(corpus, tokenizer)))


def check_tokens(corpus: Corpus, model: HasTokenizer) -> float:
    """Refuse token ids that another tokenizer than the model's made.

    The corpus must state the tokenizer by the name of the model or by fingerprint, and ids must be
    in the vocabulary. Then the text of a sample of documents (the one beside the ids, else the one
    that the ids spell) is tokenized again, and must give the same ids.

    With a text beside the ids, or a fingerprint, nothing gets through. By ids and a name alone,
    ids that look like whole words or single characters to the wrong tokenizer can: they come back
    as they were.

    Args:
        corpus: documents with token ids.
        model: the subject model.

    Returns:
        Share of the sampled tokens that agree, 0.9 to 1.

    Raises:
        ConfigError: the tokenizer is not the one that made the ids, or the corpus names none.
        FormatError: only some documents have token ids.
    """
    _check_complete(corpus)
    _check_statement(corpus, model)
    _check_vocabulary(corpus, model)
    agreement = _agreement(corpus, model.tokenizer)
    if agreement < _MIN_AGREEMENT:
        raise ConfigError(
            f"the token ids of '{corpus.name}', said to be of '{corpus.tokenizer}', were not made "
            f"by the tokenizer of '{model.name}': turned into text and tokenized again, "
            f"{agreement:.0%} of the tokens agree, and {_MIN_AGREEMENT:.0%} must; {_INSTEAD}"
        )
    return agreement


def _check_complete(corpus: Corpus) -> None:
    without = [i for i, document in enumerate(corpus) if document.token_ids is None]
    if without:
        first = corpus[without[0]]
        raise FormatError(
            f"of the {len(corpus):,} documents of '{corpus.name}' {len(without):,} have no token "
            f"ids, the first is {first.title or first.text[:40]!r}; give all documents token ids, "
            f"or none"
        )


def _check_statement(corpus: Corpus, model: HasTokenizer) -> None:
    stated, own = corpus.tokenizer, model.tokenizer_fingerprint
    names = {_last(model.name), _name_of(model.tokenizer)}
    if stated is None:
        raise ConfigError(
            f"'{corpus.name}' holds token ids and does not say whose; state the tokenizer that "
            f"made them: `tokenizer` in the settings, or Corpus(..., tokenizer=...); that of "
            f"'{model.name}' has the fingerprint {own}"
        )
    if stated != own and (_FINGERPRINT.fullmatch(stated) or _last(stated) not in names):
        raise ConfigError(
            f"the token ids of '{corpus.name}' are said to be of the tokenizer '{stated}', and the "
            f"model's is '{model.name}' with fingerprint {own}; {_INSTEAD}. If it is the same "
            f"tokenizer by another name, state the fingerprint"
        )


def _check_vocabulary(corpus: Corpus, model: HasTokenizer) -> None:
    size = len(model.tokenizer)
    for index, document in enumerate(corpus):
        bad = [token for token in document.token_ids or () if not 0 <= token < size]
        if bad:
            raise ConfigError(
                f"document {index} ({document.title}) of '{corpus.name}' has the token id "
                f"{bad[0]}; the tokenizer of '{model.name}' has 0 to {size - 1}, so another one "
                f"made it; {_INSTEAD}"
            )


def _agreement(corpus: Corpus, tokenizer: Any) -> float:
    """Share of tokens of a sample that come back when their text is tokenized again."""
    step = max(1, len(corpus) // _SAMPLE_DOCS)
    agreeing = total = 0
    for document in corpus[::step]:
        # Special tokens may be text to the tokenizer, or not; they say nothing here.
        pieces = list(_pieces(document.token_ids or (), set(tokenizer.all_special_ids)))
        texts = [tokenizer.decode(piece, clean_up_tokenization_spaces=False) for piece in pieces]
        if document.text.strip():
            pieces, texts = [[token for piece in pieces for token in piece]], [document.text]
        for piece, text in zip(pieces, texts, strict=True):
            again = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            again = again[: len(piece)]
            matcher = SequenceMatcher(None, piece, again, autojunk=False)
            agreeing += sum(block.size for block in matcher.get_matching_blocks())
            total += len(piece)
    return agreeing / total if total else 1.0


def _pieces(ids: Sequence[int], specials: set[int]) -> Iterator[list[int]]:
    """Runs of ordinary tokens, out of the first few hundred tokens."""
    piece: list[int] = []
    for token in ids[:_SAMPLE_TOKENS]:
        if token not in specials:
            piece.append(token)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _spelled(corpus: Corpus, tokenizer: Any) -> Iterator[Document]:
    """Documents with the text that their ids spell, where they have none."""
    for start in range(0, len(corpus), _DOCS_AT_ONCE):
        part = corpus[start : start + _DOCS_AT_ONCE]
        texts = tokenizer.batch_decode(
            [list(document.token_ids or ()) for document in part],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        for document, text in zip(part, texts, strict=True):
            yield document if document.text else replace(document, text=text)


def _rendered(corpus: Corpus, tokenizer: Any) -> Iterator[Document]:
    for index, document in enumerate(corpus):
        if document.messages is None:
            yield document
            continue
        chat = [message._asdict() for message in document.messages]
        try:
            text = tokenizer.apply_chat_template(chat, tokenize=False)
        except TemplateError as error:
            raise FormatError(
                f"document {index} ({document.title}) of '{corpus.name}': the chat template of "
                f"'{_name_of(tokenizer)}' refuses it ({error}); its roles are "
                f"{', '.join(message.role for message in document.messages[:6])}; repair or remove "
                f"it, or set chat_template: plain"
            ) from error
        yield replace(document, text=text)


def _name_of(tokenizer: Any) -> str:
    return _last(str(getattr(tokenizer, "name_or_path", ""))) or type(tokenizer).__name__


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
