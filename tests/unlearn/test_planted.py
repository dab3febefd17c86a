"""Unlearning of two entities of the planted world, whose facts are known: what is promised of it.

What the methods come to on the whole world is in docs/unlearning.md, by benchmarks/unlearning.py.
"""

import json
from pathlib import Path

import pytest
import torch

from saetools.evaluate.unlearning import (
    RelearnSettings,
    UnlearningData,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.unlearn import judge, plan_unlearning, unlearn
from saetools.unlearn.control import random_latents
from saetools.unlearn.rows import rows_of
from saetools.unlearn.select import read_latents

FIT, TEST = ("statement", "reversed"), ("cloze", "paraphrase_1")
PARTS = ("efficacy", "form_robustness", "neighbours_kept", "utility")


@pytest.fixture(scope="module")
def forget(asked, two):
    return asked(FIT, two)


@pytest.fixture(scope="module")
def retain(asked, world, two, near):
    others = [name for name in world.retain_entities if name not in near][:25]
    texts = [t.text for t in world.documents(40, 9, without=[*world.forget_entities, *near])]
    sentences = [s for text in texts for s in text.split(". ") if len(s) > 15]
    return (*asked(FIT, others), *dict.fromkeys(sentences))


@pytest.fixture(scope="module")
def data(asked, world, two, near):
    texts = [t.text for t in world.documents(10, 77, without=world.forget_entities)]
    return UnlearningData(forget=asked(TEST, two), retain=asked(TEST, near[:6]), texts=tuple(texts))


def settings(*measures: str) -> UnlearningSettings:
    relearn = RelearnSettings(lr=1e-4, n_steps=4, every=2, fraction=0.5)
    return UnlearningSettings(measures=measures, n_draws=20, relearn=relearn)


def accuracy(judgement, group: str) -> float:
    return judgement.evaluation.row("accuracy", detail=group).value


def test_npo_forgets_in_other_forms_and_keeps_neighbours_it_never_saw(
    planted, oracle, forget, retain, data
):
    edited = unlearn(planted, "npo", forget=forget, retain=retain, lr=5e-4, n_steps=30)
    found = judge(edited, original=planted, data=data, oracles=[oracle], settings=settings(*PARTS))
    assert found.evaluation.row("efficacy").value > 0.9
    assert found.evaluation.row("neighbours_kept").value > 0.8
    # Probes and relearning were not asked for, and so it cannot be called removed.
    assert found.verdict.word == "suppressed"
    assert "probes, relearning not measured" in found.verdict.sentence


def test_crisp_silences_its_latents_for_good(planted, forget, retain, sae_at):
    sae = sae_at("resid_post.0")
    edited = unlearn(
        planted,
        "crisp",
        forget=forget,
        retain=retain,
        saes=[sae],
        k=20,
        beta=0.9,
        lr=2e-3,
        n_steps=25,
        max_perplexity_ratio=None,
    )
    rows = rows_of(planted, forget)
    chosen = [one.latent for one in edited.report.plan.latents]
    before, after = (
        read_latents(model, sae, rows, hook_name="resid_post.0")[1][chosen].sum()
        for model in (planted, edited.model)
    )
    assert after < 0.1 * before  # without a hook: in the merged weights


def test_pisces_changes_only_rows_that_write_its_latents(planted, forget, retain, sae_at):
    sae = sae_at("mlp_out.0")
    edited = unlearn(
        planted,
        "pisces",
        forget=forget,
        retain=retain,
        saes=[sae],
        k=5,
        strength=1.0,
        threshold=0.8,
        max_perplexity_ratio=None,
    )
    assert [change.name for change in edited.report.changes] == [
        "model.layers.0.mlp.down_proj.weight"
    ]
    n = edited.report.facts["rows rewritten"]["blocks.0.hook_mlp_out"]
    before, after = (
        m.hf.get_submodule("model.layers.0.mlp.down_proj").weight for m in (planted, edited.model)
    )
    assert int((before != after).any(0).sum()) == n
    assert 0 < n < 50


def test_rocr_redirects_the_entity_and_leaves_others(planted, forget, retain, data, near, two):
    edited = unlearn(planted, "rocr", forget=forget, retain=retain, layers=(0,), match="residual")
    found = judge(
        edited, original=planted, data=data, settings=settings("neighbours_kept", "utility")
    )
    assert found.evaluation.row("neighbours_kept").value > 0.95
    assert found.evaluation.row("utility").value > 0.95
    assert edited.report.facts["relative change of keys' outputs"]["mlp_out.0"] > 0.1


def test_requests_one_after_the_other_add_up(planted, asked, two, retain, data):
    model = planted
    for name in two:
        model = unlearn(
            model, "npo", forget=asked(FIT, [name]), retain=retain, lr=5e-4, n_steps=20
        ).model
    found = judge_accuracy(model, planted, data)
    assert found < 0.5


def judge_accuracy(model, planted, data) -> float:
    report = evaluate_unlearning(model, original=planted, data=data, settings=settings("accuracy"))
    return report.row("accuracy", detail="forget").value


def test_an_sae_of_the_first_model_serves_later_requests_when_asked_to(
    planted, asked, two, retain, sae_at
):
    sae = sae_at("resid_post.0")
    config = {"retain": retain, "saes": [sae], "k": 10, "n_steps": 2, "lr": 1e-4}
    once = unlearn(planted, "crisp", forget=asked(FIT, two[:1]), **config)
    twice = unlearn(once.model, "crisp", forget=asked(FIT, two[1:]), strict=False, **config)
    assert twice.model.fingerprint != once.model.fingerprint


def test_a_judgement_is_one_json_file_with_the_latents_and_answers_before_and_after(
    planted, oracle, forget, retain, data, sae_at, tmp_path: Path
):
    sae = sae_at("resid_post.0")
    shared = {"forget": forget, "retain": retain, "saes": [sae], "k": 10, "n_steps": 10, "lr": 1e-3}
    edited = unlearn(planted, "crisp", **shared)
    other = random_latents(edited.report.plan, planted, saes=[sae], forget=forget)
    found = judge(
        edited,
        original=planted,
        data=data,
        oracles=[oracle],
        controls={"random latents": unlearn(planted, "crisp", plan=other, **shared).model},
        saes=[sae],
        settings=settings(*PARTS, "relearn_resistance"),
    )
    content = json.loads(found.save(tmp_path / "judgement.json").read_text())
    assert content["format"] == "saetools-judgement/1"
    assert content["verdict"]["sentence"] == found.verdict.sentence
    assert len(content["latents"]) == len(edited.report.plan.latents) == 10
    assert sum(c["after"] for c in content["latents"]) < sum(
        c["before"] for c in content["latents"]
    )
    assert all(change["words"] for change in content["latents"]), "each says what it writes"
    assert content["edit"]["request"]["saes"][0]["n_latents"] == sae.config.n_latents
    (control,) = content["controls"].values()
    assert {row["name"] for row in control["rows"]} >= {"efficacy", "neighbours_kept", "utility"}
    asked = [one for one in content["examples"] if one["group"] == "forget"]
    assert {one["form"] for one in asked} == {q.form for q in data.forget}
    for one in asked:
        assert set(one["replies"]) == {"original", "edited", "oracle-0"}
    told = [one["replies"]["original"].strip().startswith(one["answer"].strip()) for one in asked]
    assert sum(told) > len(told) / 2, "the original knows what is to be forgotten"
    assert torch.is_grad_enabled()


def test_random_latents_are_others_that_fire_as_often(planted, forget, retain, sae_at):
    sae = sae_at("resid_post.0")
    plan = plan_unlearning(planted, "crisp", forget=forget, retain=retain, saes=[sae], k=10)
    other = random_latents(plan, planted, saes=[sae], forget=forget)
    chosen, dealt = ({one.latent for one in p.latents} for p in (plan, other))
    assert len(dealt) == 10
    assert not chosen & dealt
    rates = [sum(one.forget_rate for one in p.latents) for p in (plan, other)]
    assert rates[1] == pytest.approx(rates[0], rel=0.5)
