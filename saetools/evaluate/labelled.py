"""From characters of texts to rows of a store: where planted concepts are on."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from saetools.corpus import ConceptLabels, ConceptSpan
from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.store import ActivationStore

__all__ = ["labels_from_spans"]


def labels_from_spans(
    spans: Iterable[ConceptSpan],
    store: ActivationStore,
    texts: Mapping[int, str] | tuple[str, ...],
    model: SubjectModel,
    *,
    parents: Mapping[str, str] | None = None,
) -> ConceptLabels:
    """Label every row of a store whose token overlaps the characters of a concept.

    Args:
        spans: where concepts are on.
        store: harvested from `texts` without pooling; rows whose document has no span are off.
        texts: text of each document, by its index in the store.
        model: whose fast tokenizer says which characters a token is.
        parents: the parent of each concept that has one; it is on wherever its child is.

    Raises:
        ConfigError: the tokenizer does not know characters, or a token id of the store is not what
            it makes of the text.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        raise ConfigError(
            f"labels from characters need a fast tokenizer, and that of {model.name} is a "
            f"{type(model.tokenizer).__name__}; label rows instead: ConceptLabels(names, on)"
        )
    parents = dict(parents or {})
    by_doc: dict[int, list[ConceptSpan]] = defaultdict(list)
    for span in spans:
        by_doc[span.doc].append(span)
    found = dict.fromkeys(span.concept for doc in sorted(by_doc) for span in by_doc[doc])
    names = tuple(sorted({*found, *parents, *parents.values()}))
    on = np.zeros((store.n_tokens, len(names)), dtype=bool)
    for doc in sorted(by_doc):
        start, stop = (int(edge) for edge in store.doc_spans[doc])
        columns = store.columns(start, stop)
        edges = _characters(model, texts[doc], columns.pos, columns.token_ids, doc)
        for span in by_doc[doc]:
            touched = (edges[:, 0] < span.stop) & (edges[:, 1] > span.start)
            on[start:stop, names.index(span.concept)] |= touched
    for child in _children_first(parents):
        on[:, names.index(parents[child])] |= on[:, names.index(child)]
    return ConceptLabels(names, on, parents)


def _characters(model: SubjectModel, text: str, pos: Any, token_ids: Any, doc: int) -> Any:
    """First character and the one after the last of each row's token, (n, 2)."""
    plain = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = plain["input_ids"], plain["offset_mapping"]
    whole = model.tokenize([text])
    lead = int((whole.special[0] & whole.mask[0]).int().cummin(0).values.sum())  # BOS or CLS
    place = pos - lead
    fits = (place >= 0) & (place < len(ids))
    if not fits.all() or not np.array_equal(np.asarray(ids)[place], token_ids):
        raise ConfigError(
            f"the rows of document {doc} are not the tokens of its text by the tokenizer of "
            f"{model.name}; pass the model and the texts of the harvest"
        )
    return np.asarray(offsets)[place]


def _children_first(parents: Mapping[str, str]) -> list[str]:
    """Children ordered so that each comes before its own parent does."""

    def depth(name: str) -> int:
        return 0 if name not in parents else 1 + depth(parents[name])

    return sorted(parents, key=depth, reverse=True)
