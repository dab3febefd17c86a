"""The planted world's tokenizer: byte-level BPE, so any text can be cut, and lossless.

Every word of the world is one token with the space before it. Every name is two: its head and its
tail, which other names share, so that no token is an entity.
"""

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from saetools.corpus.planted import KINDS, TREES, World
from saetools.corpus.planted.names import HEADS, TAILS
from saetools.errors import ConfigError

__all__ = ["train_tokenizer"]

_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
_N_TEXTS = 4000
# Pieces of names are learned before everything else: no later merge can then join a head's end to
# a tail's beginning.
_PIECE_WEIGHT = 2000


def train_tokenizer(
    world: World, *, vocab_size: int = 2048, ctx_len: int = 128
) -> PreTrainedTokenizerFast:
    """Learn merges from the words of a world; the names in it play no part.

    Args:
        world: whose texts are read.
        vocab_size: most entries, special tokens included.
        ctx_len: longest text of the model, in tokens.

    Raises:
        ConfigError: there is no room for every word.
    """
    words = _words(world)
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = [f" {head}" for head in HEADS] + list(TAILS)
    backend.train_from_iterator([*pieces * _PIECE_WEIGHT, *(f" {word}" for word in words)], trainer)
    # A text begins as if after a space, so that its first word is the same token as elsewhere.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    _check_room(backend, words, vocab_size)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=ctx_len, padding_side="right", **_SPECIAL
    )


def _words(world: World) -> list[str]:
    """Every word and mark that texts are made of, names left out, in order of the alphabet.

    Values that no entity happens to have are among them: they are options of questions.
    """
    names = {entity.name for entity in (*world.entities, *world.held_out_entities)}
    cut = pre_tokenizers.ByteLevel(add_prefix_space=True)
    found = {value for kind in KINDS for about in kind.attributes for value in about.values}
    found.update(word for tree in TREES for word in (tree.root, *tree.branches, *tree.leaves))
    for text in world.documents(_N_TEXTS, seed=0):
        found.update(text.text[a:b].strip() for _, (a, b) in cut.pre_tokenize_str(text.text))
    return sorted(found - names)


def _check_room(backend: Tokenizer, words: list[str], vocab_size: int) -> None:
    cut = [word for word in words if word[0].isalpha() and len(backend.encode(word).ids) > 1]
    if cut:
        raise ConfigError(
            f"a vocabulary of {vocab_size} entries has no room for {len(cut)} words of the planted "
            f"world, such as {', '.join(cut[:3])}; raise vocab_size"
        )
