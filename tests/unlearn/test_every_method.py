"""Promises that every method keeps, whichever it is; a new file in methods/ is tested at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.sae import SAE
from saetools.unlearn import METHODS, plan_unlearning, unlearn

FORGET = ["The dog came home.", "A dog was in the garden.", "My dog likes the water."]
RETAIN = ["The tree is old.", "She went to the house.", "We see the sun every day.", "He said no."]

QUICK = {
    "crisp": {"n_steps": 3, "lr": 1e-3, "k": 5, "min_ratio": 0.0, "layers": (0, 1)},
    "gradient_ascent": {"n_steps": 2, "lr": 1e-4},
    "npo": {"n_steps": 2, "lr": 1e-4},
    "pisces": {"k": 3, "min_ratio": 0.0, "strength": 1.0},
    "project": {"hooks": ("mlp_out.1", "attn_out.2")},
    "rmu": {"n_steps": 2, "lr": 1e-4},
    "rocr": {},
    "task_vector": {"n_steps": 2, "lr": 1e-4},
    "uce": {"layers": (1, 2)},
}

# Plain transformers and nothing of ours: what a stranger's process does with the folders.
READ = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
text, *folders = sys.argv[1:]
for folder in folders:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    torch.save(logits, folder + "/logits.pt")
assert not any(name.startswith("saetools") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def model():
    return st.load_model("tiny")


def saes_of(model, name: str) -> list[SAE]:
    """An untrained SAE where the method needs one: its latents mean nothing, but they fire."""
    hook = {"crisp": "resid_post.1", "pisces": "mlp_out.1"}.get(name)
    if hook is None:
        return []
    meta = {"hook_name": model.resolve(hook), "model_fingerprint": model.fingerprint}
    return [st.build_sae("topk", d_in=64, n_latents=128, k=8, meta=meta).requires_grad_(False)]


def make(model, name: str, **config):
    return unlearn(
        model,
        name,
        forget=FORGET,
        retain=RETAIN,
        saes=saes_of(model, name),
        max_perplexity_ratio=None,
        **{**QUICK[name], **config},
    )


def test_every_method_is_tried_here():
    assert sorted(QUICK) == METHODS.names()


def test_plain_transformers_loads_every_result_with_equal_logits(model, tmp_path: Path):
    made = {name: make(model, name) for name in METHODS.names()}
    folders = {name: edited.save(tmp_path / name) for name, edited in made.items()}
    done = subprocess.run(
        [sys.executable, "-c", READ, FORGET[0], *map(str, folders.values())],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    before = model.logits(model.tokenize([FORGET[0]]))[0, -1]
    for name, edited in made.items():
        ours = edited.model.logits(edited.model.tokenize([FORGET[0]]))[0, -1]
        plain = torch.load(folders[name] / "logits.pt")
        torch.testing.assert_close(plain, ours, rtol=0, atol=1e-6, msg=name)
        assert not torch.allclose(before, ours, atol=1e-6), name
        card = (folders[name] / "README.md").read_text()
        assert name in card
        assert model.fingerprint in card
        assert json.loads((folders[name] / "unlearning.json").read_text())["method"] == name


@pytest.mark.parametrize("name", METHODS.names())
def test_the_original_is_untouched_and_the_same_seed_gives_the_same_bits(name: str, model):
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    one, two = make(model, name), make(model, name)
    assert one.model.fingerprint == two.model.fingerprint != model.fingerprint
    after = model.hf.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    hooked = [m for m in one.model.hf.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooked


@pytest.mark.parametrize("name", METHODS.names())
def test_only_the_weights_that_the_plan_names_change(name: str, model):
    edited = make(model, name)
    planned = set(edited.report.plan.weights)
    assert planned
    # A folded eraser may need biases that were not there.
    named = {change.name for change in edited.report.changes}
    assert {n for n in named if not n.endswith(".bias")} <= planned
    assert edited.report.edit_norm > 0


@pytest.mark.parametrize("name", METHODS.names())
def test_a_plan_changes_nothing_and_says_what_will_be_done(name: str, model):
    config = QUICK[name]
    plan = plan_unlearning(
        model, name, forget=FORGET, retain=RETAIN, saes=saes_of(model, name), **config
    )
    assert plan.steps
    assert name in str(plan)
    assert json.dumps(plan.as_json())
    if METHODS.get(name).needs_sae:
        assert plan.latents
        assert plan.rejected
