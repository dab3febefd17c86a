"""A fingerprint is equal for equal weights, and for those only."""

import torch

from saetools.models import LanguageModel, load_model
from saetools.models.weights import fingerprint_weights


def test_two_loads_have_one_fingerprint_and_two_seeds_have_two() -> None:
    one, again, other = load_model("tiny"), load_model("tiny"), load_model("tiny", seed=1)
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 16
    assert int(one.fingerprint, 16) >= 0
    same = zip(one.hf.parameters(), again.hf.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_making_a_tiny_model_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    load_model("tiny", seed=5)
    load_model("tiny-encoder", seed=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_changed_number_changes_the_fingerprint() -> None:
    model = load_model("tiny")
    before = model.fingerprint
    with torch.no_grad():
        model.hf.model.layers[2].mlp.up_proj.weight[3, 4] += 1e-3
    changed = model.fingerprint
    assert changed != before
    with torch.no_grad():
        model.hf.model.layers[2].mlp.up_proj.weight.copy_(
            load_model("tiny").hf.model.layers[2].mlp.up_proj.weight
        )
    assert model.fingerprint == before


def test_it_is_computed_once(tiny_lm: LanguageModel, monkeypatch: object) -> None:
    first = tiny_lm.fingerprint
    cached = tiny_lm._fingerprint  # type: ignore[attr-defined]
    assert tiny_lm.fingerprint == first
    assert tiny_lm._fingerprint is cached  # type: ignore[attr-defined]


def test_type_and_name_count_as_well_as_bytes() -> None:
    zeros = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.zeros_(zeros.weight)
    as_half = torch.nn.Linear(4, 4, bias=False, dtype=torch.bfloat16)
    torch.nn.init.zeros_(as_half.weight)
    wrapped = torch.nn.Sequential(zeros)
    prints = {fingerprint_weights(module) for module in (zeros, as_half, wrapped)}
    assert len(prints) == 3
