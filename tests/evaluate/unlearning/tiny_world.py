"""A world of forty people and their facts, and language models that know all or part of it.

Values are drawn at random, so one who was never told about a person guesses right one time in six.
Every person has a name and a nickname: a question that uses the nickname does not hold the name.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from saetools.corpus import Question
from saetools.models import LanguageModel, from_hf

N_RETAIN, N_FORGET, N_HOLDOUT = 32, 8, 8

VALUES = {
    "town": ("Ulm", "Oslo", "Pisa", "Lima", "Bonn", "Cork"),
    "craft": ("baker", "smith", "potter", "tailor", "miner", "weaver"),
    "pet": ("cat", "dog", "owl", "goat", "fox", "newt"),
}
FORMS = {
    "statement": {
        "town": "{name} lives in",
        "craft": "{name} works as a",
        "pet": "{name} keeps a",
    },
    "question": {
        "town": "where does {name} live ? in",
        "craft": "what is {name} by trade ? a",
        "pet": "which animal has {name} ? a",
    },
    "nickname": {
        "town": "the {nick} lives in",
        "craft": "the {nick} works as a",
        "pet": "the {nick} keeps a",
    },
}
_FIRST = ("Ar", "Be", "Co", "Du", "El", "Fi", "Ga", "Ho")
_LAST = ("ban", "cor", "dell", "ford", "gard", "ham", "lin", "mond")
_COLOUR = ("red", "blue", "green", "grey", "pale", "dark", "gold", "pink")
_SHAPE = ("cloak", "hat", "boot", "scarf", "beard", "ring", "glove", "belt")
_SUBJECT = ("a child", "an old man", "the wind", "my friend", "one bird")
_ACTION = ("walks to", "looks at", "dreams of", "turns from")
_PLACE = ("the river", "a mill", "the hill", "some tree", "the sea", "a gate")


@dataclass(frozen=True)
class Person:
    """One entity: how it is called, and what is true of it."""

    name: str
    nick: str
    facts: dict[str, str]


@dataclass(frozen=True)
class TinyWorld:
    """The people by what becomes of them, and texts about nobody."""

    retain: tuple[Person, ...]
    forget: tuple[Person, ...]
    holdout: tuple[Person, ...]
    generic: tuple[str, ...]
    utility: tuple[str, ...]
    tokenizer: Any

    def questions(self, people: Sequence[Person]) -> tuple[Question, ...]:
        """Every fact about the people in every form."""
        return tuple(
            Question(
                template.format(name=person.name, nick=person.nick),
                f" {person.facts[attribute]}",
                tuple(f" {value}" for value in VALUES[attribute]),
                entity=person.name,
                attribute=attribute,
                form=form,
            )
            for person in people
            for form, templates in FORMS.items()
            for attribute, template in templates.items()
        )

    def texts(self, people: Sequence[Person]) -> tuple[str, ...]:
        """The same facts as sentences."""
        return tuple(f"{q.prompt}{q.answer} ." for q in self.questions(people))


def make_world(seed: int = 0) -> TinyWorld:
    rng = np.random.default_rng(seed)
    n_people = N_RETAIN + N_FORGET + N_HOLDOUT
    names = [" ".join(pair) for pair in itertools.product(_FIRST, _LAST)]
    nicks = [" ".join(pair) for pair in itertools.product(_COLOUR, _SHAPE)]
    people = [
        Person(
            names[i],
            nicks[j],
            {attribute: str(rng.choice(values)) for attribute, values in VALUES.items()},
        )
        for i, j in zip(
            rng.permutation(len(names))[:n_people],
            rng.permutation(len(nicks))[:n_people],
            strict=True,
        )
    ]
    sentences = [
        f"{subject} {action} {place} ."
        for subject, action, place in itertools.product(_SUBJECT, _ACTION, _PLACE)
    ]
    order = rng.permutation(len(sentences))
    kept, told = N_RETAIN, N_RETAIN + N_FORGET
    return TinyWorld(
        retain=tuple(people[:kept]),
        forget=tuple(people[kept:told]),
        holdout=tuple(people[told:]),
        generic=tuple(sentences[i] for i in order[:80]),
        utility=tuple(sentences[i] for i in order[80:]),
        tokenizer=_tokenizer(),
    )


def random_model(world: TinyWorld, *, seed: int) -> LanguageModel:
    """A model that has learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(world.tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=128,
            max_position_embeddings=64,
            initializer_range=0.05,
            bos_token_id=world.tokenizer.bos_token_id,
            eos_token_id=world.tokenizer.eos_token_id,
            pad_token_id=world.tokenizer.pad_token_id,
        )
        hf = LlamaForCausalLM(config).eval()
    model = from_hf(hf, world.tokenizer, kind="language_model", name=f"tiny-{seed}")
    assert isinstance(model, LanguageModel)
    return model


def train_model(
    world: TinyWorld, people: Sequence[Person], *, seed: int, n_steps: int = 200
) -> LanguageModel:
    """A model that has been told about `people`, and the sentences about nobody."""
    model = random_model(world, seed=seed)
    texts = [*world.texts(people), *world.generic]
    tokens = model.tokenize(texts)
    labels = tokens.ids.masked_fill(~tokens.mask, -100)
    hf: Any = model.hf
    optimizer = torch.optim.AdamW(hf.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=n_steps)
    for _ in range(n_steps):
        logits = hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hf.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()  # leave no gradients behind
    return model


def _tokenizer() -> PreTrainedTokenizerFast:
    sources = [
        *_FIRST, *_LAST, *_COLOUR, *_SHAPE, *_SUBJECT, *_ACTION, *_PLACE,
        *itertools.chain(*VALUES.values()),
        *(t.format(name="", nick="") for form in FORMS.values() for t in form.values()),
        ". : -",
    ]  # fmt: skip
    words = sorted({word for source in sources for word in source.split()})
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    vocab = {word: i for i, word in enumerate([*special.values(), *words])}
    backend = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, padding_side="right", **special
    )
