"""A training step as a GPU would be asked to take it, on tensors without numbers: see pretend_gpu.

Every wait of the host for the device leaves the GPU idle, so a step has none.
"""

import os
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (Linux has it)")

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton runs as an interpreter in this process", allow_module_level=True)

from saetools import build_sae
from saetools.sae import Affine
from saetools.train import TrainConfig
from saetools.train.scales import Scales
from saetools.train.state import TrainState, step
from tests.kernels.pretend_gpu import DEVICE, Trace, pretend_gpu

N, D_IN, N_LATENTS, K = 4096, 64, 1024, 8


def second_step(arch: str, compute_dtype: str, **fields: Any) -> Trace:
    sae = build_sae(arch, d_in=D_IN, n_latents=N_LATENTS, k=K, **fields).to(DEVICE)
    config = TrainConfig(
        n_tokens=1_000_000,
        batch_tokens=N,
        compute_dtype=compute_dtype,  # type: ignore[arg-type]
    )
    state = TrainState.fresh(sae, config)
    scale = Affine(scale=2.0)
    x = torch.empty(N, D_IN, device=DEVICE)
    for _ in range(2):  # small tables are copied to the device in the first
        with pretend_gpu() as trace:
            step(state, x, config, Scales(scale, scale, 1.0))
    return trace


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16", "mixed"])
@pytest.mark.parametrize(
    ("arch", "fields"),
    [
        ("topk", {}),
        ("topk", {"multi": True}),
        ("matryoshka", {"selection": "topk"}),
        ("hierarchical_topk", {}),
    ],
    ids=["topk", "multi", "matryoshka", "hierarchical"],
)
def test_a_step_that_selects_by_token_waits_for_nothing(
    arch: str, fields: dict[str, Any], compute_dtype: str
) -> None:
    trace = second_step(arch, compute_dtype, **fields)
    assert trace.waits == []
    kernels = {launch.kernel for launch in trace.launches}
    assert {"select_fwd_kernel", "prefix_decode_fwd_kernel", "adam_fwd_kernel"} <= kernels


def test_mixed_precision_reads_matrices_in_16_bits_and_writes_the_copies_with_the_step() -> None:
    trace = second_step("topk", "mixed")
    decode = next(x for x in trace.launches if x.kernel == "prefix_decode_fwd_kernel")
    assert decode.signature["W_ptr"] == decode.signature["sources_ptr"] == "*bf16"
    adam = [launch for launch in trace.launches if launch.kernel == "adam_fwd_kernel"]
    assert len(adam) == 2
    for launch in adam:
        assert launch.constants["HAS_SHADOW"]
        assert launch.signature["W_ptr"] == launch.signature["m_ptr"] == "*fp32"
        assert launch.signature["source_a"] == launch.signature["shadow_ptr"] == "*bf16"


def test_the_copies_of_mixed_precision_follow_the_weights() -> None:
    sae = build_sae("topk", d_in=8, n_latents=32, k=3)
    config = TrainConfig(n_tokens=1000, batch_tokens=100, compute_dtype="mixed")
    state = TrainState.fresh(sae, config)
    scale = Affine(scale=1.0)
    for seed in range(4):
        x = torch.randn(100, 8, generator=torch.Generator().manual_seed(seed))
        step(state, x, config, Scales(scale, scale, 8.0))
    assert set(state.shadows) == {"W_enc_rows", "W_dec"}
    for name, shadow in state.shadows.items():
        assert torch.equal(shadow, getattr(sae, name).detach().bfloat16())
