"""Erasing in running models: which tokens, how long, with a cache, at every layer, and refusals."""

from pathlib import Path

import pytest
import torch

from saetools.erase import (
    LabelledRows,
    Scrub,
    apply_rows,
    collect_rows,
    erased,
    fit_eraser,
    fit_labelled,
    scrub,
    text_means,
)
from saetools.errors import ConfigError, FormatError, ShapeError
from saetools.models.base import LanguageModel, SubjectModel, TextEncoder
from saetools.sae import SAE, build_sae

HOOK = "blocks.1.hook_resid_post"
SEA = [f"the water was {w} and we saw a fish {p}" for w in ("good", "little", "red", "old", "big")
       for p in ("there", "again", "now", "once")]  # fmt: skip
HOME = [f"the house was {w} and we saw a dog {p}" for w in ("good", "little", "red", "old", "big")
        for p in ("there", "again", "now", "once")]  # fmt: skip


@pytest.fixture(scope="module")
def sae(tiny_lm: LanguageModel) -> SAE:
    meta = {"hook_name": HOOK, "model": {"fingerprint": tiny_lm.fingerprint}}
    return build_sae("topk", d_in=tiny_lm.d_model, n_latents=256, k=8, meta=meta)


def class_gap(rows: LabelledRows) -> float:
    means = [rows.x[side].double().mean(0) for side in (rows.forget, ~rows.forget)]
    return float((means[0] - means[1]).abs().max())


def rows_of(model: SubjectModel, hook: str = HOOK, **options: object) -> LabelledRows:
    return collect_rows(model, forget=SEA, retain=HOME, hook_name=hook, **options)


def test_rows_are_those_of_content_tokens_text_by_text(tiny_lm: LanguageModel) -> None:
    rows = rows_of(tiny_lm)
    batch = tiny_lm.tokenize(SEA[3:4])
    x = tiny_lm.activations(batch, [HOOK])[HOOK][0][batch.content[0]]
    assert torch.allclose(rows.x[rows.text == 3], x, atol=1e-5)
    assert rows.text_labels.tolist() == [1] * len(SEA) + [0] * len(HOME)
    every = rows_of(tiny_lm, tokens="all")
    assert len(every.x) == len(rows.x) + len(SEA) + len(HOME)  # BOS
    means = text_means(rows)
    assert torch.allclose(means.x[3], x.mean(0), atol=1e-5)


def test_a_running_model_sees_erased_rows_and_nothing_remains(tiny_lm: LanguageModel) -> None:
    eraser = fit_eraser("leace", tiny_lm, forget=SEA, retain=HOME, hook_name="resid_post.1")
    before, loss = rows_of(tiny_lm), tiny_lm.loss(SEA)
    with erased(tiny_lm, eraser) as probe:
        inside = rows_of(tiny_lm)
        assert tiny_lm.loss(SEA) != loss
    assert torch.allclose(inside.x, apply_rows(eraser, before), atol=1e-5)
    assert class_gap(before) > 0.05
    assert class_gap(inside) < 1e-5
    assert tiny_lm.loss(SEA) == loss
    assert torch.equal(rows_of(tiny_lm).x, before.x)
    summary = probe.summary()
    assert summary.kind == "erase"
    assert summary.mean_relative_change > 0


def test_special_tokens_are_edited_where_all_are_asked_for(tiny_encoder: TextEncoder) -> None:
    options = {"forget": SEA, "retain": HOME, "hook_name": HOOK}
    eraser = fit_eraser("leace", tiny_encoder, tokens="all", level="text", **options)
    gaps = {}
    for tokens in ("content", "all"):
        with erased(tiny_encoder, eraser, tokens=tokens):
            gaps[tokens] = class_gap(text_means(rows_of(tiny_encoder, tokens="all")))
    assert gaps["all"] < 1e-5
    assert gaps["content"] > 1e-3


@pytest.mark.parametrize(
    ("name", "config"),
    [("zero", {}), ("steerer", {"strength": -2.0}),
     ("clamp", {"variant": "guarded", "score": "importance", "max_retain_rate": 1.0,
                "gate_percentile": 0.0})],
)  # fmt: skip
def test_generated_tokens_are_erased_with_and_without_a_cache(
    tiny_lm: LanguageModel, sae: SAE, name: str, config: dict[str, object]
) -> None:
    eraser = fit_eraser(name, tiny_lm, forget=SEA, retain=HOME, sae=sae, n_latents=4, **config)
    plain = tiny_lm.generate(SEA[0], 12)
    with erased(tiny_lm, eraser) as probe:
        cached = tiny_lm.generate(SEA[0], 12)
        n_prompt = int(tiny_lm.tokenize([SEA[0]]).content.sum())
        assert probe.summary().n_tokens >= n_prompt + 10
        uncached = tiny_lm.generate(SEA[0], 12, use_cache=False)
    assert cached == uncached
    assert cached != plain or name in ("zero", "clamp")
    assert tiny_lm.generate(SEA[0], 12) == plain


def test_a_gate_remembers_the_prompt_under_a_cache(tiny_lm: LanguageModel, sae: SAE) -> None:
    eraser = fit_eraser("itd", tiny_lm, forget=SEA, retain=HOME, sae=sae, n_latents=4, value=-4.0)
    scores = []

    class Watched(type(eraser)):  # type: ignore[misc]
        def apply(self, x, place):  # type: ignore[no-untyped-def]
            scores.append((len(x), None if place.before is None else float(place.before[0, 1])))
            return super().apply(x, place)

    watched = Watched(eraser.config, eraser.tensors, eraser.report, eraser.sae)
    with erased(tiny_lm, watched):
        tiny_lm.generate(SEA[0], 4)
        tiny_lm.generate(HOME[0], 2)
    n = int(tiny_lm.tokenize([SEA[0]]).content.sum())
    sizes, seen = zip(*scores, strict=True)
    assert sizes[0] == n
    assert seen[0] == 0
    assert seen[1:4] == (n, n + 1, n + 2)
    second = sizes.index(int(tiny_lm.tokenize([HOME[0]]).content.sum()), 1)
    assert seen[second] == 0  # a new text


def test_scrubbing_fits_each_layer_with_those_below_active(tiny_encoder: TextEncoder) -> None:
    done = scrub(tiny_encoder, forget=SEA, retain=HOME, tokens="all", level="text")
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in range(tiny_encoder.n_layers)]
    assert [eraser.hook_name for eraser in done.erasers] == hooks
    with done.applied(tiny_encoder) as probes:
        gaps = [class_gap(text_means(rows_of(tiny_encoder, h, tokens="all"))) for h in hooks]
    assert max(gaps) < 1e-5
    assert len(probes) == len(hooks)
    apart = Scrub(
        tuple(
            fit_eraser(
                "leace", tiny_encoder, forget=SEA, retain=HOME, hook_name=hook, tokens="all",
                level="text",
            )
            for hook in hooks
        ),
        "all",
    )  # fmt: skip
    with apart.applied(tiny_encoder):
        last = class_gap(text_means(rows_of(tiny_encoder, hooks[-1], tokens="all")))
    assert last > 1e-3  # fitted on what does not arrive there


def test_the_norms_before_attention_and_mlp_can_be_scrubbed(tiny_lm: LanguageModel) -> None:
    hooks = ["blocks.1.ln2.hook_normalized", "blocks.0.ln1.hook_normalized"]
    done = scrub(tiny_lm, forget=SEA, retain=HOME, hook_names=hooks)
    assert [eraser.hook_name for eraser in done.erasers] == hooks[::-1]
    with done.applied(tiny_lm):
        assert class_gap(rows_of(tiny_lm, hooks[0])) < 1e-4
    with pytest.raises(ConfigError, match="unembedding"):
        scrub(tiny_lm, forget=SEA, retain=HOME, hook_names=["ln_final.hook_normalized"])


def test_a_scrub_survives_its_folder(tiny_encoder: TextEncoder, tmp_path: Path) -> None:
    done = scrub(tiny_encoder, forget=SEA, retain=HOME, name="mean_projection")
    loaded = Scrub.load(done.save(tmp_path / "scrub"))
    with done.applied(tiny_encoder):
        expected = tiny_encoder.embed(SEA)
    with loaded.applied(tiny_encoder):
        assert torch.equal(tiny_encoder.embed(SEA), expected)
    with pytest.raises(FormatError, match="no scrub"):
        Scrub.load(tmp_path)


def test_what_cannot_be_erased_is_refused(
    tiny_lm: LanguageModel, tiny_encoder: TextEncoder, sae: SAE
) -> None:
    options = {"forget": SEA, "retain": HOME}
    with pytest.raises(ConfigError, match="no hook to erase at"):
        fit_eraser("leace", tiny_lm, **options)
    with pytest.raises(ConfigError, match="retain texts too"):
        fit_eraser("leace", tiny_lm, forget=SEA, retain=[*HOME, SEA[0]], hook_name=HOOK)
    with pytest.raises(ConfigError, match="texts of both sorts"):
        fit_eraser("leace", tiny_lm, forget=SEA, retain=[], hook_name=HOOK)
    with pytest.raises(ConfigError, match="works through an SAE"):
        fit_eraser("zero", tiny_lm, hook_name=HOOK, **options)
    with pytest.raises(ConfigError):  # the SAE of another model
        fit_eraser("zero", tiny_encoder, sae=sae, **options)
    with pytest.raises(ConfigError, match="without an SAE"):
        scrub(tiny_lm, name="zero", **options)
    eraser = fit_eraser("leace", tiny_lm, hook_name=HOOK, **options)
    with pytest.raises(ConfigError, match="was fitted in a model"), erased(tiny_encoder, eraser):
        pass
    narrow = fit_labelled(
        "leace", LabelledRows(torch.randn(8, 5), torch.arange(8) % 2, torch.arange(8))
    )
    with pytest.raises(ShapeError, match="width 5"), erased(tiny_lm, narrow, hook_name=HOOK):
        pass
    with pytest.raises(ConfigError, match="no hook to erase at"), erased(tiny_lm, narrow):
        pass


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    eraser = fit_eraser("leace", tiny_lm, forget=SEA, retain=HOME, hook_name=HOOK)
    folder = eraser.save(tmp_path / "eraser")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(FormatError, match="other files"):
        eraser.save(tmp_path / "notes")
    header = folder / "eraser.json"
    for text, message in (
        (header.read_text().replace("eraser/1", "eraser/2"), "a newer saetools wrote it"),
        (header.read_text().replace('"leace"', '"lease"', 1), "does not describe an eraser"),
        ("{", "not JSON"),
    ):
        header.write_text(text)
        with pytest.raises(FormatError, match=message):
            type(eraser).load(folder)
        eraser.save(folder)
    (folder / "eraser.safetensors").write_bytes(b"none")
    with pytest.raises(FormatError, match="cannot read"):
        type(eraser).load(folder)
    with pytest.raises(FormatError, match=r"no eraser\.json"):
        type(eraser).load(tmp_path / "notes")
