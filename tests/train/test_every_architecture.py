"""What the trainer promises holds for every architecture: resume, folding, target L0."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saetools.errors import ConfigError, ShapeError
from saetools.evaluate import evaluate
from saetools.sae import ARCHS, SAE, build_sae
from saetools.store import ActivationStore
from saetools.train import TrainConfig, train
from saetools.train.state import step

StoreMaker = Callable[..., ActivationStore]

READ, WRITTEN = "blocks.0.ln2.hook_normalized", "blocks.0.hook_mlp_out"
SHORT = TrainConfig(
    n_tokens=12_000, batch_tokens=500, checkpoint_tokens=4000, dead_after_tokens=2000
)
CASES = [(name, {}) for name in ARCHS.names()] + [
    ("matryoshka", {"prefixes": "sampled", "aux": "levels"}),
    ("topk", {"multi": True}),
    ("transcoder", {"skip": True, "selection": "batch_topk"}),
]


def _store(make_store: StoreMaker) -> ActivationStore:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3200, 16, generator=g), torch.randn(3200, 12, generator=g)
    return make_store(x, hook_name=READ, also={WRITTEN: y + x[:, :12] + 1})


def _built(name: str, fields: dict[str, object]) -> SAE:
    known = ARCHS.get(name).Config.model_fields
    few = {key: 4 for key in ("k", "target_l0") if key in known}
    if name == "transcoder":
        fields = {"d_out": 12, "target_hook_name": WRITTEN, **fields}
    return build_sae(name, d_in=16, n_latents=48, **few, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("normalize", ["scale", "whiten"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    name: str,
    fields: dict[str, object],
    normalize: str,
    make_store: StoreMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, sae = _store(make_store), _built(name, fields)
    config = SHORT.model_copy(update={"normalize": normalize})
    whole = train(sae, store, config)
    taken = 0

    def dying_step(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal taken
        taken += 1
        if taken == 12:
            raise SystemError("the power goes")
        return step(*args, **kwargs)

    monkeypatch.setattr("saetools.train.loop.step", dying_step)
    with pytest.raises(SystemError):
        train(sae, store, config, out=tmp_path / "run")
    resumed = train(sae, store, config, out=tmp_path / "run")
    assert taken == 12 + config.n_steps - 8, "the checkpoint at step 8 was used"
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key
    loaded = SAE.load(tmp_path / "run" / "sae")
    x = next(iter(store.batches(64, seed=1, hook_name=READ)))
    assert torch.equal(loaded(x), whole(x))


def test_a_transcoder_of_another_width_is_refused(make_store: StoreMaker) -> None:
    sae = build_sae("transcoder", d_in=16, d_out=9, n_latents=48, k=4, target_hook_name=WRITTEN)
    with pytest.raises(ShapeError, match=r"writes width 9.*width 12 at .*mlp_out.*d_out=12"):
        train(sae, _store(make_store), SHORT)


def test_a_transcoder_that_does_not_say_what_it_reads_is_not_evaluated(
    make_store: StoreMaker,
) -> None:
    with pytest.raises(ConfigError, match="the SAE reads an unknown hook"):
        evaluate(_built("transcoder", {}), _store(make_store))
