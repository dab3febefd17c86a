"""An SAE is let into a model only where both fit."""

import pytest
import torch

from saetools.errors import ConfigError, HookNotFoundError, ShapeError
from saetools.intervene.base import activations_of, edit_content_rows, find_site
from saetools.models.base import LanguageModel
from saetools.sae import SAE, build_sae
from saetools.types import SparseLatents


def test_the_hook_comes_from_the_sae_or_from_the_caller(tiny_lm: LanguageModel, sae: SAE) -> None:
    assert find_site(tiny_lm, sae).hook_name == "blocks.1.hook_resid_post"
    assert find_site(tiny_lm, sae, hook_name="resid_post.2").hook_name == "blocks.2.hook_resid_post"
    with pytest.raises(HookNotFoundError):
        find_site(tiny_lm, sae, hook_name="resid_post.40")
    sae.meta.pop("hook_name")
    with pytest.raises(ConfigError, match="hook_name="):
        find_site(tiny_lm, sae)


def test_another_width_is_refused_with_both_widths_and_the_hook(tiny_lm: LanguageModel) -> None:
    narrow = build_sae("topk", d_in=48, n_latents=96, k=4, meta={"hook_name": "resid_post.1"})
    with pytest.raises(ShapeError, match=r"width 48.*blocks\.1\.hook_resid_post.*width 64"):
        find_site(tiny_lm, narrow)


def test_another_model_is_refused_unless_asked_for(tiny_lm: LanguageModel, sae: SAE) -> None:
    sae.meta["model"] = {"fingerprint": "0123456789abcdef"}
    with pytest.raises(ConfigError, match=r"0123456789abcdef.*strict=False"):
        find_site(tiny_lm, sae)
    assert find_site(tiny_lm, sae, strict=False).sae is sae
    del sae.meta["model"]
    assert find_site(tiny_lm, sae).sae is sae


def test_activations_of_chosen_latents_are_those_of_the_dense_table() -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.stack([torch.randperm(20, generator=generator)[:5] for _ in range(30)])
    values = torch.rand(30, 5, generator=generator)
    values[values < 0.3] = 0.0  # empty slots, whose index means nothing
    latents = SparseLatents(values, indices, 20)
    chosen = torch.tensor([13, 2, 7])
    acts, slots = activations_of(latents, chosen)
    assert torch.equal(acts, latents.dense()[:, chosen])
    assert torch.equal(slots, torch.isin(indices, chosen))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_an_edit_leaves_alone_keep_their_bits_in_every_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.to(dtype)
    content = torch.tensor([[False, True, True], [True, True, False]])

    def first_row_only(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[:1] + 1, rows[1:]])

    out = edit_content_rows(x, content, first_row_only, device=torch.device("cpu"))
    changed = torch.zeros(2, 3, dtype=torch.bool)
    changed[0, 1] = True
    assert torch.equal(out[~changed], x[~changed])
    assert torch.allclose(out[0, 1], x[0, 1] + 1, rtol=1e-2)


def test_a_batch_without_content_is_returned_as_it_is() -> None:
    x, content = torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.bool)
    out = edit_content_rows(x, content, lambda rows: rows / 0, device=torch.device("cpu"))
    assert out is x
