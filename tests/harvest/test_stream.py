"""A stream trains as a store does: the same rows, an order of (seed, epoch) alone, exact resume."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from saetools.errors import ConfigError, HookNotFoundError
from saetools.harvest import ActivationStream, harvest
from saetools.models.base import TextEncoder
from saetools.sae import build_sae
from saetools.store import ActivationSource, ActivationStore
from saetools.train import TrainConfig, train
from saetools.train.state import step

TEXTS = [f"document {i} speaks of " + "birds and stones " * (i % 7 + 1) for i in range(200)]
HOOK = "blocks.1.hook_resid_post"


def _stream(model: TextEncoder, **settings: object) -> ActivationStream:
    settings = {"hook_name": HOOK, "buffer_tokens": 2048, **settings}
    return ActivationStream(model, TEXTS, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tiny_encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    out = tmp_path_factory.mktemp("stream") / "acts.h5"
    return harvest(tiny_encoder, TEXTS, hook_name=HOOK, out=out, dtype="float32")


def _fingerprint(batches: list[torch.Tensor]) -> torch.Tensor:
    """The same for the same rows in another order."""
    directions = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    return (torch.cat(batches) @ directions).sort(dim=0).values


def test_an_epoch_has_the_training_rows_of_a_store(
    tiny_encoder: TextEncoder, store: ActivationStore
) -> None:
    stream = _stream(tiny_encoder)
    assert isinstance(stream, ActivationSource)
    assert isinstance(store, ActivationSource)
    assert (stream.n_tokens, stream.n_rows("train")) == (store.n_tokens, store.n_rows("train"))
    assert np.array_equal(stream.held_out, store.held_out)
    ours = list(stream.batches(500, seed=0))
    assert [len(x) for x in ours] == [500] * stream.n_batches(500)
    whole = list(stream.batches(stream.n_rows("train"), seed=0))
    theirs = [batch.x for batch in store.stream(split="train")]
    torch.testing.assert_close(_fingerprint(whole), _fingerprint(theirs), atol=1e-4, rtol=1e-4)


def test_order_is_a_function_of_seed_and_epoch_and_any_batch_can_be_reached(
    tiny_encoder: TextEncoder,
) -> None:
    stream = _stream(tiny_encoder)
    first = list(stream.batches(300, seed=3, epoch=1))
    again = list(_stream(tiny_encoder).batches(300, seed=3, epoch=1))
    late = list(stream.batches(300, seed=3, epoch=1, start=7))
    assert all(map(torch.equal, first, again))
    assert len(late) == len(first) - 7
    assert all(map(torch.equal, first[7:], late))
    assert not torch.equal(first[0], next(stream.batches(300, seed=3, epoch=2)))
    assert not torch.equal(first[0], next(stream.batches(300, seed=4, epoch=1)))


def test_moments_of_a_sample_are_near_those_of_the_store(
    tiny_encoder: TextEncoder, store: ActivationStore
) -> None:
    found, whole = _stream(tiny_encoder).moments(), store.moments()
    assert found.mean_sq_norm == pytest.approx(whole.mean_sq_norm, rel=0.02)
    np.testing.assert_allclose(found.mean, whole.mean, atol=0.02)


def test_held_out_rows_come_in_the_order_of_the_store(
    tiny_encoder: TextEncoder, store: ActivationStore
) -> None:
    ours = list(_stream(tiny_encoder).stream(split="held_out", batch_tokens=300))
    theirs = next(store.stream(split="held_out", batch_tokens=10**6))
    for name in ("row", "token_ids", "doc", "pos"):
        joined = np.concatenate([getattr(batch, name) for batch in ours])
        assert np.array_equal(joined, getattr(theirs, name)), name
    torch.testing.assert_close(torch.cat([b.x for b in ours]), theirs.x, atol=2e-5, rtol=1e-5)


def test_training_on_a_stream_goes_on_after_a_signal_to_the_same_weights(
    tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(n_tokens=12_000, batch_tokens=500)
    sae = build_sae("batch_topk", d_in=64, n_latents=128, k=4)
    whole = train(sae, _stream(tiny_encoder), config)
    steps = 0

    def signalled_step(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        if steps == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args, **kwargs)

    monkeypatch.setattr("saetools.train.loop.step", signalled_step)
    with pytest.raises(KeyboardInterrupt):
        train(sae, _stream(tiny_encoder), config, out=tmp_path)
    resumed = train(sae, _stream(tiny_encoder), config, out=tmp_path)
    assert steps == config.n_steps
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_what_a_stream_cannot_do_is_refused_with_the_way_out(tiny_encoder: TextEncoder) -> None:
    with pytest.raises(ConfigError, match=r"max_norm_multiple=3.0.*harvest to a store"):
        _stream(tiny_encoder, max_norm_multiple=3.0)
    with pytest.raises(HookNotFoundError, match="name that hook"):
        _stream(tiny_encoder).width("blocks.0.hook_resid_post")
