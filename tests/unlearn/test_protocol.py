"""Bad input is refused in words, and an edit that breaks the model before it can be saved."""

import pytest

import saetools as st
from saetools.corpus import Question
from saetools.errors import ConfigError, DamageError, UnknownNameError
from saetools.unlearn import PlannedLatent, plan_unlearning, unlearn
from saetools.unlearn.rows import check_apart, make_batch, rows_of

RETAIN = ["The tree is old.", "She went to the house."]


@pytest.fixture(scope="module")
def model():
    return st.load_model("tiny")


def test_sets_that_overlap_are_an_error_that_names_the_duplicates(model):
    with pytest.raises(ConfigError, match=r"1 texts are to be forgotten and .* 'The dog  ran\.'"):
        unlearn(model, "npo", forget=["The dog  ran."], retain=["the dog ran.", *RETAIN])


def test_an_entity_on_both_sides_is_an_error_that_names_it():
    one = Question("Zed lives in", " Ulm", entity="Zed")
    other = Question("Zed keeps a", " cat", entity="Zed")
    with pytest.raises(ConfigError, match="'Zed'"):
        check_apart([one], [other])


def test_one_side_that_is_empty_is_an_error(model):
    with pytest.raises(ConfigError, match="0 retain"):
        unlearn(model, "npo", forget=["The dog ran."], retain=[])


def test_an_edit_that_breaks_the_model_is_refused(model):
    with pytest.raises(DamageError, match=r"refused.*nothing was saved.*fewer steps"):
        unlearn(
            model, "gradient_ascent", forget=["The dog ran."], retain=RETAIN, lr=0.05, n_steps=20
        )


def test_an_unknown_method_is_told_its_nearest_name(model):
    with pytest.raises(UnknownNameError, match="crisp"):
        unlearn(model, "crips", forget=["a"], retain=["b"])


def test_an_unknown_setting_is_told_its_nearest_name(model):
    with pytest.raises(ConfigError, match="n_steps"):
        unlearn(model, "npo", forget=["The dog ran."], retain=RETAIN, nsteps=4)


def test_a_method_that_acts_through_saes_says_that_it_lacks_one(model):
    with pytest.raises(ConfigError, match="saes="):
        plan_unlearning(model, "crisp", forget=["The dog ran."], retain=RETAIN)


def test_an_sae_of_another_model_is_refused(model):
    meta = {"hook_name": model.resolve("resid_post.1"), "model_fingerprint": "0" * 16}
    sae = st.build_sae("topk", d_in=64, n_latents=64, k=4, meta=meta)
    with pytest.raises(ConfigError, match="fingerprint"):
        plan_unlearning(model, "crisp", forget=["The dog ran."], retain=RETAIN, saes=[sae])


def test_an_empty_selection_says_which_threshold_excluded_how_many(model):
    meta = {"hook_name": model.resolve("resid_post.1")}
    sae = st.build_sae("topk", d_in=64, n_latents=64, k=4, meta=meta)
    with pytest.raises(ConfigError, match=r"\d+ ratio below 1e\+09.*lower min_ratio"):
        plan_unlearning(
            model, "crisp", forget=["The dog ran."], retain=RETAIN, saes=[sae], min_ratio=1e9
        )


def test_a_model_under_an_intervention_is_refused(model):
    with (
        model.editing({"resid_post.1": lambda x, content: x * 0.5}),
        pytest.raises(ConfigError, match="intervention is open"),
    ):
        unlearn(model, "npo", forget=["The dog ran."], retain=RETAIN)


def test_an_encoder_is_told_which_methods_take_it():
    encoder = st.load_model("tiny-encoder")
    with pytest.raises(ConfigError, match="uce"):
        unlearn(encoder, "npo", forget=["The dog ran."], retain=RETAIN)


def test_a_question_counts_from_its_answer_on_and_a_text_from_its_first_token(model):
    question = Question("The dog went", " home")
    rows = rows_of(model, [question, "The dog went home"])
    batch = make_batch(model, rows)
    spelled = [
        model.tokenizer.decode(ids[counted])
        for ids, counted in zip(batch.tokens.ids, batch.counted, strict=True)
    ]
    assert spelled == [" home", "The dog went home"]


def test_a_plan_without_latents_is_refused(model):
    meta = {"hook_name": model.resolve("resid_post.1")}
    sae = st.build_sae("topk", d_in=64, n_latents=64, k=4, meta=meta)
    plan = plan_unlearning(
        model, "crisp", forget=["The dog ran."], retain=RETAIN, saes=[sae], min_ratio=0.0
    )
    with pytest.raises(ConfigError, match="at least one"):
        plan.with_latents(())


def test_a_changed_plan_is_checked_again(model):
    hook = model.resolve("resid_post.1")
    sae = st.build_sae("topk", d_in=64, n_latents=64, k=4, meta={"hook_name": hook})
    shared = {"forget": ["The dog ran."], "retain": RETAIN, "saes": [sae], "min_ratio": 0.0}
    plan = plan_unlearning(model, "crisp", **shared)
    outside = plan.with_latents((PlannedLatent(hook, 64, 0.1, 0.0, 9.0),))
    with pytest.raises(UnknownNameError, match="0 to 63"):
        unlearn(model, "crisp", plan=outside, **shared)
    elsewhere = plan.with_latents((PlannedLatent("blocks.0.hook_mlp_out", 1, 0.1, 0.0, 9.0),))
    with pytest.raises(ConfigError, match=r"acts on latents at blocks\.0\.hook_mlp_out"):
        unlearn(model, "crisp", plan=elsewhere, **shared)
    with pytest.raises(ConfigError, match="plan of crisp"):
        unlearn(model, "npo", plan=plan, forget=["The dog ran."], retain=RETAIN)
