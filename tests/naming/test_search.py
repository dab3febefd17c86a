"""Names are found by their words, and no text of a user is taken for a query."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saetools.naming import Name, NameSearch, NamesTable


def table(*names):
    return NamesTable(Name(i, *row, namer="test") for i, row in enumerate(names))


FEW = table(
    ("days of the week", 0.9, "It fires on Monday and Tuesday."),
    ("Monday", 0.5, ""),
    ("turtle graphics", 0.9, "It fires on turtle, pen and draw."),
    ('the operator "!="', 0.2, "It fires on != and NOT on OR."),
    ("café", 0.2, "week"),
)


def found(text, names=FEW):
    return [hit.latent for hit in NameSearch(names).find(text)]


def test_names_come_before_rationales_and_beginnings_count():
    assert found("monday") == [1, 0]
    assert found("week") == [0, 4]
    assert found("turt") == [2]
    assert found("TURTLES") == [2]  # the stem
    assert found("cafe") == [4]
    assert found("pen turtle") == [2]
    assert found("turtle elephant") == [2]  # no latent has both
    assert found("elephant") == []
    hit = NameSearch(FEW).find("graphics")[0]
    assert hit.name == "turtle graphics"
    assert hit.score > 0


def test_claimed_words_labels_and_tokens_are_found():
    names = NamesTable(
        [
            Name(4, "one", 1, "", "t", unit="word", words=("whale", "dolphin")),
            Name(5, "two", 1, "", "t", label="zoology"),
            Name(6, "three", 1, "", "t", promotes=(" ocean",)),
        ]
    )
    assert found("dolphin", names) == [4]
    assert found("zoo", names) == [5]
    assert found("ocean", names) == [6]


@pytest.mark.parametrize(
    "text", ['"', "NOT", "turtle AND", "name:week", "week*", "(", "NEAR(a b)", "a^2 -b", "'; drop"]
)
def test_query_syntax_is_text(text):
    NameSearch(FEW).find(text)


def test_operators_are_words():
    assert set(found("week NOT monday")) == {0, 1, 3, 4}  # as an operator it would leave out 0
    assert found("operator OR") == [3]  # as an operator it would be an error


def test_text_without_letters_is_sought_as_it_is():
    assert found("!=") == [3]
    assert found("%") == []
    assert found("  ") == []


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_can_be_a_name_and_any_text_can_be_sought(name, text):
    search = NameSearch(table((name, 0.5, text)))
    assert {hit.latent for hit in search.find(text)} <= {0}


def test_more_names_than_asked_for_are_left_out():
    many = table(*(("weekday", 0.5, "") for _ in range(30)))
    assert len(NameSearch(many).find("weekday", top=7)) == 7
    assert NameSearch(NamesTable()).find("weekday") == []
