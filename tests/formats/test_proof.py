"""A conversion that does not compute the same is refused with figures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import saetools as st
from saetools.errors import FormatError, ShapeError
from saetools.formats import formulas
from saetools.formats.formulas import Formula, Reading
from saetools.formats.proof import Proof, probe_tokens, prove
from saetools.sae import SAE


def own_formula(sae: SAE, k: int) -> Formula:
    state = {name: tensor.detach() for name, tensor in sae.state_dict().items()}

    def formula(x: Tensor) -> Reading:
        centred = x - state["b_dec"].double()
        fired = formulas.top_k(formulas.linear(centred, state["W_enc_rows"].T, state["b_enc"]), k)
        x_hat = formulas.linear(fired.latents, state["W_dec"], state["b_dec"])
        return Reading(fired.latents, fired.margin, x_hat)

    return formula


def topk_sae(n_latents: int = 128) -> SAE:
    sae = st.build_sae("topk", d_in=24, n_latents=n_latents, k=5, seed=3)
    with torch.no_grad():
        sae.b_enc.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.1)
        sae.b_dec.normal_(generator=torch.Generator().manual_seed(2))
    return sae.requires_grad_(False)


def checked(sae: SAE, formula: Formula, real: Tensor | None = None) -> Proof:
    return prove(formula, sae, latent_scale=_one, real=real, what="a test")


def _one(x: Tensor) -> Tensor:
    return torch.ones(len(x), 1, dtype=torch.float64)


def test_an_sae_holds_against_its_own_formula() -> None:
    sae = topk_sae()
    proof = checked(sae, own_formula(sae, 5))
    assert proof.holds
    assert proof.l0 == pytest.approx(5, abs=0.5)
    assert proof.n_tokens == 30 + 128
    assert proof.n_fired == proof.n_latents == 128, "every latent of a small SAE is tried"
    assert proof.x_hat_error < 1e-5


FAULTS: dict[str, Callable[[SAE], Tensor]] = {
    "b_dec": lambda sae: sae.b_dec.data.mul_(1.01),
    "b_enc": lambda sae: sae.b_enc.data.add_(0.01),
    "decoder norms": lambda sae: sae.W_dec.data.mul_(1.001),
    "one latent": lambda sae: sae.W_dec.data[7].neg_(),
    "order of rows": lambda sae: sae.W_enc_rows.data.copy_(sae.W_enc_rows.flip(0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_small_fault_in_any_weight_is_found(fault: str) -> None:
    sae = topk_sae()
    formula = own_formula(topk_sae(), 5)
    FAULTS[fault](sae)
    with pytest.raises(FormatError, match="reconstructions differ by up to"):
        checked(sae, formula, torch.randn(200, 24, generator=torch.Generator().manual_seed(4)))


def test_another_k_is_found() -> None:
    sae = topk_sae()
    with pytest.raises(FormatError, match="without a tie"):
        checked(sae, own_formula(sae, 6))


def test_a_tie_that_rounding_turns_over_is_no_mismatch() -> None:
    # Two latents with the same encoder row: which of them is on is a matter of the last bit.
    sae = topk_sae(32)
    with torch.no_grad():
        sae.W_enc_rows[1], sae.b_enc[1] = sae.W_enc_rows[0], sae.b_enc[0]
    shifted = topk_sae(32)
    shifted.load_state_dict(sae.state_dict())
    shifted.b_enc[1] += 1e-7
    shifted.b_enc[0] -= 1e-7
    proof = checked(sae, own_formula(shifted, 1 + 4), 3 * sae.W_enc_rows[:1].expand(1, 24))
    assert proof.holds
    assert proof.n_wrong == 0


def test_a_proof_on_which_nothing_fires_is_no_proof() -> None:
    sae = st.build_sae("jumprelu", d_in=8, n_latents=16, target_l0=2.0).requires_grad_(False)
    sae.threshold.fill_(1e9)

    def silent(x: Tensor) -> Reading:
        none = torch.zeros(len(x), 16, dtype=torch.float64)
        return Reading(none, none + 1, sae.b_dec.double().expand(len(x), 8))

    with pytest.raises(FormatError, match="no latent of the original fires"):
        checked(sae, silent)


def test_real_activations_are_compared_besides_and_must_fit() -> None:
    sae = topk_sae()
    proof = checked(sae, own_formula(sae, 5), torch.randn(10, 24))
    assert (proof.n_random, proof.n_real) == (158, 10)
    with pytest.raises(ShapeError, match="width 24"):
        checked(sae, own_formula(sae, 5), torch.randn(10, 25))


def test_numbers_that_are_none_do_not_pass() -> None:
    sae = topk_sae()
    good = own_formula(sae, 5)

    def broken(x: Tensor) -> Reading:
        found = good(x)
        return found._replace(x_hat=torch.full_like(found.x_hat, torch.nan))

    with pytest.raises(FormatError, match="differ by up to inf"):
        checked(sae, broken)


def test_latents_of_every_scale_fire_on_made_up_tokens() -> None:
    for threshold in (0.01, 1.0, 100.0):
        sae = st.build_sae("jumprelu", d_in=24, n_latents=64, target_l0=4.0).requires_grad_(False)
        sae.threshold.fill_(threshold)
        assert int(sae.encode(probe_tokens(sae)).l0().max()) > 0


def test_the_report_is_plain_data(tmp_path: Path) -> None:
    sae = topk_sae()
    proof = checked(sae, own_formula(sae, 5))
    assert set(proof.as_dict()) == {f.name for f in dataclasses.fields(proof)} | {
        "tolerance",
        "holds",
    }
