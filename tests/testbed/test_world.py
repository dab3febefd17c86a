"""The planted world: drawn from a seed, uniform, and written as its labels say."""

import hashlib
import re
from collections import Counter

import pytest
from scipy import stats

from saetools.corpus import load_corpus
from saetools.corpus.planted import DIRECT_FORMS, FORMS, KINDS, TREES, LabelledText, World
from saetools.corpus.planted.names import HEADS, TAILS
from saetools.errors import ConfigError


@pytest.fixture(scope="module")
def world() -> World:
    return World.build()


@pytest.fixture(scope="module")
def texts(world: World) -> tuple[LabelledText, ...]:
    return world.documents(800, seed=3)


def test_the_same_seed_gives_the_same_world_and_texts(world: World, texts) -> None:
    again = World.build(seed=0)
    assert again == world
    assert again.documents(800, seed=3) == texts
    assert again.questions() == world.questions()


def test_the_world_that_the_shipped_models_have_read_stays_as_it_is(world: World) -> None:
    # Whoever changes a word of the grammar must train the shipped models anew.
    texts = [world.training_text(i, seed=seed) for seed in (0, 1) for i in range(200)]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "df7c87bced19f7bd"
    assert world.corpus(200).fingerprint == "dc39a7c1a3da4e46"


def test_another_seed_gives_another_world_and_other_texts(world: World, texts) -> None:
    assert World.build(seed=1).facts != world.facts
    assert world.documents(20, seed=4) != texts[:20]
    assert not set(world.texts_for_training(300)) & {text.text for text in texts}


def test_it_has_the_entities_asked_for_of_every_kind(world: World) -> None:
    counts = Counter(entity.kind for entity in world.entities)
    assert sum(counts.values()) == 200
    assert counts == {"person": 60, "town": 50, "animal": 50, "tool": 40}
    assert len(world.forget_entities) == 10
    forget = Counter(world.kind(name) for name in world.forget_entities)
    held = Counter(entity.kind for entity in world.held_out_entities)
    assert held == {kind: 2 * n for kind, n in forget.items()}
    assert set(forget) == {kind.name for kind in KINDS}


@pytest.mark.parametrize("n", [39, 1001])
def test_a_world_of_a_size_it_cannot_have_is_refused(n: int) -> None:
    with pytest.raises(ConfigError, match=f"{n} entities; it takes 40"):
        World.build(n_entities=n)


def test_no_name_is_part_of_another(world: World) -> None:
    every = [head + tail for head in HEADS for tail in TAILS]
    assert len(set(every)) == len(every)
    for some in (HEADS, TAILS):
        assert not [(a, b) for a in some for b in some if a != b and b.startswith(a)]


def test_no_value_belongs_to_two_attributes() -> None:
    values = [v for kind in KINDS for a in kind.attributes for v in a.values]
    assert len(set(values)) == len(values)
    assert all(5 <= len(a.values) <= 20 for k in KINDS for a in k.attributes if a.values)


def test_attributes_are_drawn_with_equal_chances() -> None:
    # One chi-square over all attributes of a large world: a skewed draw of any shows.
    large = World.build(seed=5, n_entities=1000)
    statistic, freedom = 0.0, 0
    by_attribute: dict[tuple[str, str], list[str]] = {}
    options = {}
    for fact in large.facts:
        by_attribute.setdefault((fact.kind, fact.attribute), []).append(fact.value)
        options[fact.kind, fact.attribute] = fact.options
    for key, values in by_attribute.items():
        counts = Counter(values)
        observed = [counts[option] for option in options[key]]
        assert sum(observed) == len(values)
        statistic += stats.chisquare(observed).statistic
        freedom += len(observed) - 1
    assert 0.001 < stats.chi2.sf(statistic, freedom) < 0.999


def test_chance_is_one_in_the_number_of_options(world: World) -> None:
    for question in world.questions():
        assert question.chance == 1 / len(question.options)
        assert len(set(question.options)) == len(question.options)
        assert question.options.count(question.answer) == 1


def test_answers_follow_from_the_facts(world: World) -> None:
    """Sentences are read back by rules written here, not by those that wrote them."""
    truth = {(f.entity, f.attribute): f.value for f in world.all_facts}
    noun_of = {a.noun: a.name for kind in KINDS for a in kind.attributes}
    read = 0
    for question in world.questions():
        whole = question.prompt + question.answer
        if question.form == "two_hop":
            noun, name = re.fullmatch(
                r"The (.+) of the town where (\w+) (?:lives|is kept|was made) is \w+", whole
            ).groups()
            link = next(a for (e, a), v in truth.items() if e == name and a in LINKS)
            town = truth[name, link]
            assert question.answer == f" {truth[town, noun_of[noun]]}"
        elif question.form == "question":
            noun, name = re.fullmatch(
                r"Question: What is the (.+) of (\w+)\? Answer: \w+", whole
            ).groups()
            assert question.answer == f" {truth[name, noun_of[noun]]}"
        elif question.form == "reversed":
            noun, value, name = re.fullmatch(
                r"One \w+ whose (.+) is (\w+) is (\w+)", whole
            ).groups()
            assert truth[name, noun_of[noun]] == value
            right = [o for o in question.options if truth[o[1:], noun_of[noun]] == value]
            assert right == [question.answer]
        elif question.form == "paraphrase_1":
            noun, name = re.fullmatch(r"The (.+) of (\w+) is \w+", whole).groups()
            assert question.answer == f" {truth[name, noun_of[noun]]}"
        else:
            assert question.entity in question.prompt
            assert question.answer == f" {truth[question.entity, question.attribute]}"
        read += 1
    assert read == 6 * len(world.facts) + len(world.two_hop_facts)


LINKS = {"home", "shelter", "origin"}


def test_no_link_leads_to_a_town_that_is_forgotten(world: World) -> None:
    ends = {f.value for f in world.all_facts if f.attribute in LINKS}
    assert len(ends) == 10
    assert not ends & set(world.forget_entities)


def test_spans_are_the_characters_that_they_name(texts) -> None:
    seen: Counter[str] = Counter()
    for text in texts:
        for span in text.spans:
            seen[span.layer] += 1
            piece = text.text[span.start : span.end]
            if span.layer in ("entity", "value"):
                assert piece == span.name
            elif span.layer == "concept":
                assert piece in LEVELS[span.name]
            elif span.layer in ("fact", "form", "topic", "sentiment", "register"):
                assert piece[0].isupper()
                assert piece[-1] in ".!"
            if span.layer == "fact":
                assert span.name.split(".")[0] in piece
    assert set(seen) == {
        "entity", "kind", "attribute", "value", "fact", "form", "concept", "topic", "sentiment",
        "register",
    }  # fmt: skip


LEVELS: dict[str, set[str]] = {}
for tree in TREES:
    LEVELS[tree.root] = {tree.root, *tree.branches, *tree.leaves}
    for branch, leaves in tree.branches.items():
        LEVELS[branch] = {branch, *leaves}
        LEVELS.update({leaf: {leaf} for leaf in leaves})


def test_every_mention_of_an_entity_has_its_span(world: World, texts) -> None:
    names = {entity.name for entity in world.entities}
    for text in texts:
        found = {(m.start(), m.end()) for m in re.finditer(r"\w+", text.text) if m[0] in names}
        assert found >= {(s.start, s.end) for s in text.layer("entity")}
        values = {(s.start, s.end) for s in text.layer("value")}
        assert found - values == {(s.start, s.end) for s in text.layer("entity")}


def test_a_mention_of_a_level_brings_all_levels_above_it(texts) -> None:
    by_place: dict[tuple[int, int, int], set[str]] = {}
    for i, text in enumerate(texts):
        for span in text.layer("concept"):
            by_place.setdefault((i, span.start, span.end), set()).add(span.name)
    words = {texts[i].text[a:b]: levels for (i, a, b), levels in by_place.items()}
    assert words["owl"] == {"owl", "bird", "animal"}
    assert words["bird"] == {"bird", "animal"}
    assert words["animal"] == {"animal"}
    assert len(words) == sum(1 + len(t.branches) + len(t.leaves) for t in TREES)


def test_every_character_of_a_sentence_has_topic_mood_and_register(texts) -> None:
    for text in texts[:200]:
        for layer, name in (
            ("topic", text.topic),
            ("sentiment", text.sentiment),
            ("register", text.register),
        ):
            spans = text.layer(layer)
            assert {span.name for span in spans} == {name}
            covered = {c for span in spans for c in range(span.start, span.end)}
            assert {text.text[c] for c in set(range(len(text.text))) - covered} <= {" "}


def test_leaving_entities_out_takes_their_sentences_and_nothing_else(world: World) -> None:
    without = world.forget_entities
    whole = world.documents(600, seed=9)
    less = world.documents(600, seed=9, without=without)
    changed = 0
    for full, part in zip(whole, less, strict=True):
        assert not any(name in part.text for name in without)
        kept = [s for s in _sentences(full) if not any(name in s for name in without)]
        assert " ".join(kept) == part.text
        changed += full.text != part.text
    assert 50 < changed < 250


def _sentences(text: LabelledText) -> list[str]:
    return [text.text[s.start : s.end] for s in sorted(set(text.layer("topic")))]


def test_what_an_oracle_reads_never_names_a_forget_entity(world: World) -> None:
    read = world.texts_for_training(1500, without=world.forget_entities)
    words = set(re.findall(r"\w+", " ".join(read)))
    assert not words & set(world.forget_entities)
    assert words >= set(world.retain_entities)


def test_held_out_entities_are_in_no_training_text(world: World) -> None:
    words = set(re.findall(r"\w+", " ".join(world.texts_for_training(1500))))
    assert words >= set(world.forget_entities)
    assert not words & {entity.name for entity in world.held_out_entities}


def test_what_is_held_back_is_in_no_training_text_and_all_else_is() -> None:
    world = World.build(seed=2, n_entities=40)
    read: Counter[tuple[str, str]] = Counter()
    for text in world.documents(8000):
        forms = {(s.start, s.end): s.name for s in text.layer("form")}
        for span in text.layer("fact"):
            read[span.name, forms[span.start, span.end]] += 1
    assert not read.keys() & world.held_back
    every = {
        (f.key, form)
        for f in (*world.facts, *world.two_hop_facts)
        for form in f.forms
        if world.is_trained(f, form)
    }
    assert read.keys() <= every
    assert len(read) > 0.999 * len(every)


def test_forget_facts_are_read_in_every_form_and_a_fifth_of_the_others_not(world: World) -> None:
    assert not world.questions(entities=world.forget_entities, trained=False)
    held = [key for key, form in world.held_back if form in DIRECT_FORMS]
    direct = [f for f in world.facts if f.entity in set(world.retain_entities)]
    assert len(held) == len(set(held)) == round(len(direct) / 5)
    assert {form for _, form in world.held_back} == set(FORMS) - {"statement"}
    for entity in world.held_out_entities[:3]:
        assert not world.questions(entities=[entity.name], trained=True)


def test_texts_of_forget_and_held_out_entities_differ_in_their_names_alone(world: World) -> None:
    forget = world.texts_about(world.forget_entities, n_each=20)
    held = world.texts_about([e.name for e in world.held_out_entities], n_each=10)
    lengths = [[len(t.text.split()) for t in some] for some in (forget, held)]
    assert stats.ks_2samp(*lengths).pvalue > 0.01
    forms = [Counter(s.name for t in some for s in t.layer("form")) for some in (forget, held)]
    both = [[counts[form] for form in FORMS] for counts in forms]
    assert stats.chi2_contingency(both).pvalue > 0.01


def test_neighbours_are_retain_entities_of_the_same_kind(world: World) -> None:
    for name in world.forget_entities:
        near = world.neighbours(name)
        assert len(near) >= 38
        assert {world.kind(other) for other in near} == {world.kind(name)}
        assert not set(near) & set(world.forget_entities)


@pytest.mark.parametrize(("form", "who"), [("sung", None), (None, ["Nobody"])])
def test_an_unknown_form_or_entity_is_refused_by_name(world: World, form, who) -> None:
    with pytest.raises(ConfigError, match=r"'sung'; forms are|named Nobody"):
        world.questions(form, who)


def test_it_is_a_corpus_like_any_other(world: World) -> None:
    corpus = load_corpus({"type": "planted_world", "n_docs": 300, "seed": 3})
    assert corpus.documents == world.corpus(300, 3).documents
    assert len(corpus.label_counts) == 8
    moods = load_corpus({"type": "planted_world", "n_docs": 300, "label": "sentiment"})
    assert set(moods.label_counts) == {"positive", "negative", "neutral"}
    less = load_corpus({"type": "planted_world", "n_docs": 300, "without_forget": True})
    assert not any(name in doc.text for doc in less for name in world.forget_entities)
