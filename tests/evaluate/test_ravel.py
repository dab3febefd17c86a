"""Attributes have known latents: exchanging them moves the attribute and leaves the others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import saetools as st
from saetools import progress
from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.evaluate import evaluate
from saetools.evaluate.metrics.ravel import Ravel
from saetools.evaluate.ravel import RavelConfig, ravel
from saetools.evaluate.ravel.exchange import Exchanger
from saetools.evaluate.ravel.facts import known_facts
from saetools.evaluate.ravel.masks import variance_between
from saetools.evaluate.ravel.pairs import attribute_pairs, split_entities
from saetools.models.base import LanguageModel
from saetools.models.load import from_hf
from saetools.sae import SAE, build_sae
from saetools.types import SparseLatents

HOOK = "blocks.0.hook_resid_pre"
VALUES = {
    "country": ("Albia", "Borland", "Corvia", "Dorn"),
    "craft": ("baker", "potter", "smith", "weaver"),
}
FORMS = {
    "country": ("{} lives in", "the home of {} is"),
    "craft": ("{} works as", "the craft of {} is"),
}
D = 32
ENTITIES = [f"entity{i}" for i in range(64)]
FAST = RavelConfig(pairs_per_attribute=240)


def value_of(entity: int, attribute: str) -> int:
    return entity % 4 if attribute == "country" else (entity // 4) % 4


def questions() -> tuple[Question, ...]:
    return tuple(
        Question(
            form.format(name),
            f" {VALUES[attribute][value_of(number, attribute)]}",
            tuple(f" {value}" for value in VALUES[attribute]),
            name,
            attribute,
            form,
        )
        for number, name in enumerate(ENTITIES)
        for attribute in VALUES
        for form in FORMS[attribute]
    )


def directions() -> torch.Tensor:
    """Of the eight values: orthonormal."""
    g = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(D, D, generator=g))[0]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Two layers that read two attributes off fixed entity embeddings, trained in seconds."""
    words = ["the", "home", "of", "is", "craft", "lives", "in", "works", "as"]
    words = ["<pad>", *words, *VALUES["country"], *VALUES["craft"], *ENTITIES]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=D, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=16,
        initializer_range=0.08, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = LlamaForCausalLM(config)
    basis = directions()
    own = [vocab[name] for name in ENTITIES]
    table = hf.get_input_embeddings().weight
    with torch.no_grad():
        for number, row in enumerate(own):
            own_part = 0.3 * basis[8 + number % 24]
            table[row] = basis[value_of(number, "country")] + own_part
            table[row] += basis[4 + value_of(number, "craft")]
    fixed = table[own].detach().clone()
    asked = questions()
    ids = [tokenizer(q.prompt)["input_ids"] for q in asked]
    answers = torch.tensor([vocab[q.answer.strip()] for q in asked])
    optimizer = torch.optim.Adam(hf.parameters(), lr=5e-3)
    by_length: dict[int, list[int]] = {}
    for number, tokens in enumerate(ids):
        by_length.setdefault(len(tokens), []).append(number)
    for _ in range(150):
        loss = torch.zeros(())
        for rows in by_length.values():
            logits = hf(input_ids=torch.tensor([ids[i] for i in rows])).logits[:, -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, answers[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            table[own] = fixed
    subject = from_hf(hf.eval(), tokenizer, name="facts")
    assert isinstance(subject, LanguageModel)
    return subject


def attribute_sae(mix: float = 0.0) -> SAE:
    """Latent j fires for value j; with `mix`, for a rotation of a country with a craft."""
    rows = directions()[:8].clone()
    if mix:
        country, craft = rows[:4].clone(), rows[4:].clone()
        rows[:4] = (country + mix * craft) / (1 + mix**2) ** 0.5
        rows[4:] = (craft - mix * country) / (1 + mix**2) ** 0.5
    both_ways = torch.cat([rows, -rows])
    sae = build_sae("standard", d_in=D, n_latents=16, target_l0=4, meta={"hook_name": HOOK})
    with torch.no_grad():
        sae.W_dec.copy_(both_ways)
        sae.W_enc_rows.copy_(both_ways)
    return sae


def test_the_model_of_these_tests_knows_its_facts(model: LanguageModel) -> None:
    known = known_facts(model, HOOK, questions(), limit=1000, seed=0)
    assert (len(known.facts), known.n_asked, known.n_untold) == (256, 256, 0)
    for fact, x in list(zip(known.facts, known.x, strict=True))[:20]:
        number = int(fact.question.entity.removeprefix("entity"))
        assert float(x @ directions()[value_of(number, "country")]) == pytest.approx(1.0, abs=1e-5)


def test_latents_that_are_the_attributes_have_cause_and_isolation_near_1(
    model: LanguageModel,
) -> None:
    found = ravel(model, attribute_sae(), questions(), config=FAST)
    assert found.attributes == ("country", "craft")
    for arm in ("learned", "selected"):
        assert found.arms[arm].cause > 0.97, arm
        assert found.arms[arm].isolation > 0.97, arm
    assert found.n_latents["selected"] == {"country": 4, "craft": 4}


def test_baselines_are_at_their_known_ends(model: LanguageModel) -> None:
    arms = ravel(model, attribute_sae(), questions(), config=FAST).arms
    assert (arms["none"].cause, arms["none"].isolation) == (0.0, 1.0)
    assert arms["full"].cause > 0.99
    assert arms["full"].isolation < 0.01
    assert arms["full"].score == pytest.approx(0.5, abs=0.01)
    assert arms["reconstructed"].cause < 0.03
    assert arms["reconstructed"].isolation > 0.97
    assert arms["none"].cause_stderr == 0.0


def test_latents_that_mix_two_attributes_cannot_keep_them_apart(model: LanguageModel) -> None:
    arms = ravel(model, attribute_sae(mix=1.0), questions(), config=FAST).arms
    assert arms["reconstructed"].isolation > 0.97, "it reconstructs as well as the other"
    for arm in ("learned", "selected"):
        assert arms[arm].score < 0.8, arm
        assert arms[arm].score_stderr > 0


def test_what_the_sae_loses_is_lost_unless_the_error_is_kept(model: LanguageModel) -> None:
    sae = attribute_sae()
    with torch.no_grad():
        sae.W_dec[4:8] = 0.0  # crafts are encoded and not decoded
    without, kept = (
        ravel(
            model, sae, questions(),
            config=RavelConfig(pairs_per_attribute=240, keep_error=keep),
        ).arms["reconstructed"].isolation
        for keep in (False, True)
    )  # fmt: skip
    assert without < 0.8
    assert kept > 0.99


def test_the_metric_gives_the_same_and_is_left_out_without_questions(
    model: LanguageModel, tmp_path: Path
) -> None:
    texts = [q.prompt for q in questions()]
    with st.harvest(model, texts, hook_name=HOOK, out=tmp_path / "a.h5") as store:
        sae = attribute_sae()
        asked = questions()
        ctx_values = evaluate(
            sae, store, model=model, corpus=texts, metrics=["ravel"], questions=asked[:128]
        ).values
        assert list(ctx_values) == [figure.name for figure in Ravel.figures]
        assert ctx_values["ravel_score_learned"] > 0.9
        assert ctx_values["ravel_attributes"] == 2
        assert ctx_values["ravel_known_fraction"] == 1.0
        with pytest.raises(ConfigError, match="needs questions= with entities"):
            evaluate(sae, store, model=model, corpus=texts, metrics=["ravel"])


def test_a_model_that_knows_too_little_is_left_out_with_the_reason(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    sae = build_sae("topk", d_in=64, n_latents=32, k=4)
    found = ravel(tiny_lm, sae, questions(), hook_name="blocks.1.hook_resid_post")
    assert found.arms == {}
    assert found.skipped is not None
    assert "questions rightly" in found.skipped
    with pytest.raises(ConfigError, match="none of 1 questions has an entity"):
        ravel(tiny_lm, sae, (Question("a", " b"),), hook_name="blocks.1.hook_resid_post")


def test_pairs_stay_on_their_side_and_ask_what_they_should(model: LanguageModel) -> None:
    known = known_facts(model, HOOK, questions(), limit=1000, seed=0)
    train, test = split_entities(known.facts, train_fraction=0.7, seed=1)
    assert not train & test
    assert len(train) == 45
    pairs = attribute_pairs(known.facts, "craft", test, n=100, seed=0)
    assert len({(pair.base, pair.source) for pair in pairs}) == len(pairs)
    for pair in pairs:
        base, source = known.facts[pair.base], known.facts[pair.source]
        assert {base.question.entity, source.question.entity} <= test
        assert source.question.attribute == "craft"
        numbers = [int(f.question.entity.removeprefix("entity")) for f in (base, source)]
        asked = base.question.attribute
        assert value_of(numbers[0], asked) != value_of(numbers[1], asked)
        assert (asked == "craft") == (pair.kind == "cause")
        assert pair.answer == (source.answer if pair.kind == "cause" else base.answer)


def test_variance_between_groups_is_that_of_numpy() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.rand(200, 7, generator=g)
    groups = np.random.default_rng(0).integers(-1, 4, size=200)
    indices = torch.arange(7).expand(200, 7).contiguous()
    found = variance_between(SparseLatents(z, indices, 9), groups).numpy()
    rows, kept = z.double().numpy()[groups >= 0], groups[groups >= 0]
    means = np.stack([rows[kept == group].mean(0) for group in kept])
    assert np.allclose(found[:7], ((means - rows.mean(0)) ** 2).mean(0))
    assert np.allclose(found[7:], 0)


def exchanger_of(model: LanguageModel, sae: SAE) -> Exchanger:
    known = known_facts(model, HOOK, questions(), limit=1000, seed=0)
    with progress.task("test") as task:
        return Exchanger(model, sae, HOOK, known, keep_error=False, task=task)


def test_what_was_said_is_kept_and_is_what_the_model_says_again(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = attribute_sae(mix=1.0)
    exchanger = exchanger_of(model, sae)
    known = known_facts(model, HOOK, questions(), limit=1000, seed=0)
    train, _ = split_entities(known.facts, train_fraction=0.7, seed=1)
    pairs = attribute_pairs(known.facts, "craft", train, n=200, seed=0)
    mask = torch.zeros(16)
    mask[4:6] = 1.0
    found = exchanger.right(pairs, exchanger.masked(mask))
    assert 0 < found.sum() < len(pairs)
    by_hand = []
    for pair in pairs:
        z_base, z_source = (sae.encode(known.x[[i]]).dense() for i in (pair.base, pair.source))
        new = ((1 - mask) * z_base + mask * z_source) @ sae.W_dec + sae.b_dec
        fact = known.facts[pair.base]

        def put(x: torch.Tensor, _content: torch.Tensor, at=fact.place, new=new) -> torch.Tensor:
            return torch.cat([x[:, :at], new.detach()[None], x[:, at + 1 :]], dim=1)

        with model.editing({HOOK: put}):
            said = model.logits(model.tokenize([fact.ids]))[0, -1].argmax()
        by_hand.append(int(said) == pair.answer)
    assert found.tolist() == by_hand
    monkeypatch.setattr(model.hf, "forward", None)
    assert (exchanger.right(pairs, exchanger.masked(mask)) == found).all(), "without the model"


def test_the_bar_counts_pairs_up_to_its_total(
    model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.use("jsonl"):
        ravel(model, attribute_sae(), questions(), config=FAST)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    bar = [line for line in lines if line["task"] == "ravel"]
    assert len(bar) > 5
    assert {line["unit"] for line in bar} == {"pairs"}
    assert bar[-1]["done"] == bar[-1]["total"] > 0
    assert {line.get("attribute") for line in bar} == {None, "country", "craft"}


def test_an_interrupted_measurement_leaves_the_model_as_it_was(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Exchanger._answered

    def interrupted(self: Exchanger, n_pairs: int) -> None:
        answered(self, n_pairs)
        if self.n_answered > 300:
            raise KeyboardInterrupt

    tokens = model.tokenize([questions()[0].prompt])
    before = model.logits(tokens)
    monkeypatch.setattr(Exchanger, "_answered", interrupted)
    model.hf.train()
    with pytest.raises(KeyboardInterrupt):
        ravel(model, attribute_sae(), questions(), config=FAST)
    assert all(module.training for module in model.hf.modules())
    model.hf.eval()
    assert torch.equal(model.logits(tokens), before)
