"""Two small models made from a config, with random weights and a tokenizer built in code.

They need no file and no network, and equal seeds give equal weights, so tests, examples and a first
try of every command run on them. They know nothing: for text that makes sense, use a trained model.
"""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

__all__ = ["tiny_bert", "tiny_llama"]

# Words that become one token each (with a space before them); the rest is spelled in pieces.
_WORDS = """
a about after all also an and any are as at back be because been before big boy but by called came
can child city come could day did do dog down each even every fish for found friend from garden get
girl go good had happy has have he her here him his house how i if in into is it its just know large
like little live long look lot made make man many may me more most mother my name new no not now of
off old on once one only open or other our out over people play red said saw say see she small so
some story sun than that the their them then there they thing this time to together too tree two up
upon us very walk want was water way we went were what when where which who will with word work
world would year you your
"""

_CTX_LEN = 128


def tiny_llama(seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return a random Llama of 4 layers and d_model 64, and its tokenizer."""
    tokenizer = _tokenizer({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=128,
        max_position_embeddings=_CTX_LEN,
        # Wide enough that layers and tokens differ visibly; 0.02 gives nearly uniform logits.
        initializer_range=0.08,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForCausalLM"],
    )
    return _seeded(LlamaForCausalLM, config, seed), tokenizer


def tiny_bert(seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return a random BERT encoder of 3 layers and d_model 64, and its tokenizer."""
    tokenizer = _tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"})
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=_CTX_LEN,
        initializer_range=0.08,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["BertModel"],
    )
    return _seeded(BertModel, config, seed), tokenizer


def _seeded(kind: type[PreTrainedModel], config: object, seed: int) -> PreTrainedModel:
    # Hugging Face draws initial weights from the global generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).eval()


def _tokenizer(special: dict[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, lossless for any text, that knows some words whole.

    Merges grow each word from its left end, so a text is cut at the longest known prefixes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    spelled = [space + word for word in _WORDS.split()]
    prefixes = sorted({word[:n] for word in spelled for n in range(2, len(word) + 1)})
    pieces = [*special.values(), *alphabet, *prefixes]
    merges = [(prefix[:-1], prefix[-1]) for prefix in sorted(prefixes, key=len)]
    backend = Tokenizer(BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=_CTX_LEN, padding_side="right", **special
    )
