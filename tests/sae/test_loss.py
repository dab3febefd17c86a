"""What a loss promises beside its formula, and what bad fields and damaged folders are told."""

import pytest
import torch

from saetools.errors import ConfigError, FormatError, NotFittedError, ShapeError
from saetools.sae import SAE, Objective, build_sae


def test_aux_reaches_the_encoder_of_dead_latents() -> None:
    """sparsify's fused encoder gives AuxK a zero gradient; ours does not."""
    sae = build_sae("topk", d_in=16, n_latents=48, k=2)
    x = torch.randn(64, 16)
    dead = torch.zeros(48, dtype=torch.bool)
    dead[7] = True
    sae.b_enc.data[7] = -100  # never selected, so that only AuxK can move it
    sae.loss(x, Objective(16.0, dead=dead)).total.backward()
    assert sae.W_enc_rows.grad is not None
    assert sae.W_enc_rows.grad[7].abs().sum() == 0, "at -100 the ReLU of AuxK is off as well"
    sae.b_enc.data[7] = 0.5
    sae.zero_grad()
    sae.W_enc_rows.data[7] *= 1e-3  # small enough that top-2 rarely or never takes it
    loss = sae.loss(x, Objective(16.0, dead=dead))
    assert float(loss.counts[7]) == 0
    loss.total.backward()
    assert sae.W_enc_rows.grad[7].abs().sum() > 0


def test_without_dead_latents_aux_adds_nothing() -> None:
    sae = build_sae("topk", d_in=16, n_latents=48, k=4)
    x = torch.randn(64, 16)
    none_dead = torch.zeros(48, dtype=torch.bool)
    assert float(sae.loss(x, Objective(16.0, dead=none_dead)).aux) == 0
    with_mask = sae.loss(x, Objective(16.0, dead=none_dead)).total
    assert torch.equal(with_mask, sae.loss(x, Objective(16.0)).total)


def test_matryoshka_with_one_width_is_batch_topk() -> None:
    one = build_sae("matryoshka", d_in=16, n_latents=48, k=4, widths=(48,))
    plain = build_sae("batch_topk", d_in=16, n_latents=48, k=4)
    x = torch.randn(64, 16)
    torch.testing.assert_close(
        one.loss(x, Objective(16.0)).total, plain.loss(x, Objective(16.0)).total
    )


def test_encode_without_threshold_says_how_to_get_one() -> None:
    with pytest.raises(NotFittedError, match="calibrate"):
        build_sae("batch_topk", d_in=4, n_latents=8, k=2).encode(torch.randn(3, 4))


def test_wrong_width_names_both_widths() -> None:
    with pytest.raises(ShapeError, match=r"\(n, 4\).*\(3, 5\)"):
        build_sae("topk", d_in=4, n_latents=8, k=2).encode(torch.randn(3, 5))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": 9}, "k is 9 but the dictionary has only 8"),
        ({"k": 0}, "k = 0 is out of range; allowed: >= 1"),
        ({"kk": 2}, "did you mean 'k'"),
        ({"k": 2, "type": "matryoshka", "widths": (4, 4, 8)}, "strictly increasing"),
        ({"k": 2, "type": "matryoshka", "widths": (2, 4)}, r"end at n_latents \(8\)"),
        ({"k": 2, "type": "matryoshka", "widths": (0, 8)}, "must be positive"),
        (
            {"k": 2, "type": "matryoshka", "selection": "best"},
            "selection = 'best' is not one of 'topk' or 'batch_topk'",
        ),
        (
            {"k": 2, "type": "matryoshka", "prefixes": "random"},
            "prefixes = 'random' is not one of 'fixed' or 'sampled'",
        ),
        (
            {"k": 2, "type": "matryoshka", "prefixes": "sampled", "n_prefixes": 9},
            r"n_prefixes is 9 but the dictionary has only 8.*must lie in 1\.\.n_latents",
        ),
        (
            {"k": 2, "type": "matryoshka", "widths": (4, 8), "level_weights": (1.0,)},
            "level_weights are .*must be 2 positive numbers, one for each of the widths",
        ),
        (
            {"k": 2, "type": "matryoshka", "widths": (4, 8), "level_weights": (1.0, -1.0)},
            "must be 2 positive numbers",
        ),
        ({"k": 2, "type": "hierarchical_topk", "ranks": "odd"}, "ranks = 'odd' is not one of"),
        ({"k": 9, "type": "transcoder"}, "k is 9 but the dictionary has only 8"),
        ({"k": 2, "type": "transcoder", "d_out": 0}, "d_out = 0 is out of range; allowed: >= 1"),
        ({"type": "jumprelu", "target_l0": 9}, "target_l0 is 9 but the dictionary has only 8"),
        ({"type": "jumprelu", "target_l0": 2, "bandwidth": 0}, "bandwidth = 0 is out of range"),
        ({"type": "gated"}, "target_l0 is 32 but the dictionary has only 8"),
        ({"type": "standard", "target_l0": 2, "widths": (4, 2, 8)}, "strictly increasing"),
        ({"type": "standard", "target_l0": 2, "l1_coefficient": -1}, "l1_coefficient = -1 is out"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, object], words: str) -> None:
    kind = str(fields.pop("type", "topk"))
    with pytest.raises(ConfigError, match=words):
        build_sae(kind, d_in=4, n_latents=8, **fields)  # type: ignore[arg-type]


def test_a_transcoder_without_a_target_says_how_to_give_one() -> None:
    sae = build_sae("transcoder", d_in=4, n_latents=8, k=2)
    with pytest.raises(ShapeError, match=r"set sae\.target_hook_name.*or pass target="):
        sae.loss(torch.randn(3, 4), Objective(4.0))


@pytest.mark.parametrize("name", ["topk", "standard", "transcoder"])
def test_a_target_of_the_wrong_width_names_both_shapes(name: str) -> None:
    few = {"target_l0": 2} if name == "standard" else {"k": 2}
    sae = build_sae(name, d_in=4, n_latents=8, **few)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"shape \(3, 4\).*has \(3, 5\).*check d_out"):
        sae.loss(torch.randn(3, 4), Objective(4.0), target=torch.randn(3, 5))


def test_misspelt_architecture_gets_a_suggestion() -> None:
    with pytest.raises(KeyError, match="did you mean 'matryoshka'"):
        build_sae("matroyshka", d_in=4, n_latents=8)


@pytest.mark.parametrize("damage", ["config", "format", "truncate", "nan", "width"])
def test_damaged_folders_are_refused_by_name(damage: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    sae = build_sae("topk", d_in=4, n_latents=8, k=2)
    if damage == "nan":
        sae.W_dec.data[0, 0] = float("nan")
    folder = sae.save(tmp_path / "sae")
    config = folder / "config.json"
    if damage == "config":
        config.write_text("{")
    if damage == "format":
        config.write_text(config.read_text().replace("saetools-sae/1", "saetools-sae/9"))
    if damage == "width":
        config.write_text(config.read_text().replace('"n_latents": 8', '"n_latents": 16'))
    if damage == "truncate":
        weights = folder / "sae.safetensors"
        weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(FormatError, match="sae"):
        SAE.load(folder)


def test_saving_over_foreign_files_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FormatError, match="holds other files"):
        build_sae("topk", d_in=4, n_latents=8, k=2).save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
