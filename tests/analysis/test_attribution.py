"""The effect of a latent is what the answer's log-probability loses as it is turned down."""

import pytest
import torch

import saetools as st
from saetools.analysis.attribution import attribute_latents
from saetools.corpus import Question
from saetools.errors import ConfigError
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"
QUESTIONS = (
    Question("the dog saw the tree in the", " water"),
    Question("the girl", " saw the sun"),
)


@pytest.fixture(scope="module")
def model():
    return st.load_model("tiny")


@pytest.fixture(scope="module")
def sae(model) -> SAE:
    return build_sae(
        "topk", d_in=model.width(HOOK), n_latents=256, k=8, seed=0, meta={"hook_name": HOOK}
    )


def log_p(model, question: Question) -> torch.Tensor:
    whole = model.tokenize([question.prompt + question.answer])
    n_prompt = int(model.tokenize([question.prompt]).mask.sum())
    told = model.logits(whole)[0, :-1].double().log_softmax(-1)
    return told.gather(-1, whole.ids[0, 1:, None])[n_prompt - 1 :].sum()


def test_the_effect_is_the_slope_of_turning_a_latent_down(model, sae: SAE) -> None:
    effects = attribute_latents(model, sae, QUESTIONS)
    step = 1e-3
    for latent in effects.abs().argsort(descending=True)[:4].tolist():

        def turned_down(x, content, latent=latent):
            z = sae.encode(x[content]).dense()[:, latent, None]
            out = x.clone()
            out[content] -= step * z * sae.W_dec[latent]
            return out

        with torch.no_grad():
            before = sum(log_p(model, q) for q in QUESTIONS)
            with model.editing({HOOK: turned_down}):
                after = sum(log_p(model, q) for q in QUESTIONS)
        slope = float(before - after) / step / len(QUESTIONS)
        assert float(effects[latent]) == pytest.approx(slope, rel=0.03, abs=1e-4)


def test_latents_that_fire_nowhere_have_no_effect(model, sae: SAE) -> None:
    effects = attribute_latents(model, sae, QUESTIONS)
    x = model.activations(model.tokenize([q.prompt + q.answer for q in QUESTIONS]), [HOOK])[HOOK]
    fired = (sae.encode(x.flatten(0, 1)).dense() > 0).any(0)
    assert (effects[~fired] == 0).all()
    assert (effects != 0).sum() > 8


def test_it_leaves_no_gradient_and_no_hook_behind(model, sae: SAE) -> None:
    before = log_p(model, QUESTIONS[0])
    attribute_latents(model, sae, QUESTIONS)
    assert all(p.grad is None for p in model.hf.parameters())
    assert torch.equal(log_p(model, QUESTIONS[0]), before)


def test_no_question_and_no_hook_are_errors(model, sae: SAE) -> None:
    with pytest.raises(ConfigError, match="no question"):
        attribute_latents(model, sae, ())
    bare = build_sae("topk", d_in=64, n_latents=128, k=4)
    with pytest.raises(ConfigError, match="names no hook"):
        attribute_latents(model, bare, QUESTIONS)
