"""Directions are what their papers' formulas give, and do in a model what they are for."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from saetools.errors import ConfigError, ShapeError, UnknownNameError
from saetools.intervene import AddDirection, Direction, Positions, Request, SetProjection, intervene
from saetools.intervene.directions import (
    Relation,
    difference_of_means,
    exchange,
    fit_relation,
    latent_direction,
    latents_named,
    mean_jacobian,
    repit,
    rows_of_texts,
    text_contrast,
    unembedding,
)
from saetools.models.base import LanguageModel
from saetools.sae import SAE

HOOK = "blocks.1.hook_resid_post"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_difference_of_means_is_the_planted_one_whatever_the_class_sizes() -> None:
    planted = 3 * torch.nn.functional.normalize(noise(32, seed=1), dim=0)
    high, low = noise(4000, 32, seed=2) + planted, noise(500, 32, seed=3)
    found = difference_of_means(high, low, hook_name=HOOK)
    assert torch.allclose(found.tensor, high.mean(0) - low.mean(0), atol=1e-5)
    assert found.cosine(Direction(planted)) > 0.99
    assert found.hook_name == HOOK
    assert found.info["positive_mean"] - found.info["negative_mean"] == pytest.approx(
        float(found.tensor.norm()), rel=1e-5
    )


def test_the_affine_ablation_brings_both_classes_to_the_negative_mean(
    tiny_lm: LanguageModel,
) -> None:
    dogs = ["the dog ran", "her dog said no", "a big dog"]
    others = ["the tree", "a girl said no", "we play"]
    found = text_contrast(tiny_lm, dogs, others, hook_name="resid_post.1", at="all")
    level = found.info["negative_mean"]
    with intervene(tiny_lm, [Request(SetProjection(level), direction=found)]):
        rows = rows_of_texts(tiny_lm, [*dogs, *others], hook_name=HOOK, at="all")
    assert torch.allclose(rows @ found.unit, torch.full((len(rows),), level), atol=1e-4)


def test_rows_of_texts_are_the_last_all_or_mean_content_rows(tiny_lm: LanguageModel) -> None:
    texts = ["the dog ran over", "we play", "no"]
    tokens = tiny_lm.tokenize(texts)
    x = tiny_lm.activations(tokens, [HOOK])[HOOK]
    content = tokens.content
    found = {at: rows_of_texts(tiny_lm, texts, hook_name=HOOK, at=at) for at in ("last", "mean")}  # type: ignore[arg-type]
    for i in range(3):
        mine = x[i][content[i]]
        assert torch.allclose(found["last"][i], mine[-1])
        assert torch.allclose(found["mean"][i], mine.mean(0), atol=1e-6)
    every = rows_of_texts(tiny_lm, texts, hook_name=HOOK, at="all", batch=3)
    assert torch.equal(every, x[content])
    with pytest.raises(ConfigError, match="text 1"):
        rows_of_texts(tiny_lm, ["a", ""], hook_name=HOOK)


def related(cosine: float, m: int = 5) -> tuple[Direction, list[Direction], Direction]:
    """A target with a given cosine to the first of m related directions, and its own part."""
    shared, own = noise(64, seed=1), noise(64, seed=2)
    own = own - (own @ shared) / (shared @ shared) * shared
    others = [Direction(shared + 0.3 * noise(64, seed=10 + i)) for i in range(m)]
    low, high = 0.0, 10.0
    for _ in range(60):  # the cosine grows with the shared part
        mix = (low + high) / 2
        target = Direction(own + mix * shared)
        low, high = (mix, high) if target.cosine(others[0]) < cosine else (low, mix)
    return target, others, Direction(own)


def test_repit_removes_the_share_that_rho_says() -> None:
    target, others, own = related(0.761)
    assert torch.equal(repit(target, others, rho=0).tensor, target.tensor)
    at = {rho: repit(target, others, rho=rho) for rho in (0.0, 0.75, 1.0)}
    cosines = [at[rho].cosine(others[0]) for rho in (0.0, 0.75, 1.0)]
    assert cosines == pytest.approx([0.761, 0.516, 0.0], abs=0.02)  # the published trial
    assert max(abs(at[1.0].cosine(other)) for other in others) < 1e-5
    for before, after in zip(
        at[0.75].info["cosines_before"], at[0.75].info["cosines_after"], strict=True
    ):
        assert after / before == pytest.approx(2 / 3, abs=0.05)
    assert at[1.0].cosine(own) > 0.93
    assert at[0.0].cosine(own) < 0.7


def test_repit_of_one_direction_halves_its_component_at_three_quarters() -> None:
    target, (other,), _ = related(0.761, m=1)
    found = repit(target, [other], rho=0.75)
    along = float(target.tensor @ other.unit)
    expected = target.tensor - 0.5 * along * other.unit
    assert torch.allclose(found.tensor, expected, atol=1e-4)


def test_repit_refuses_what_has_no_meaning() -> None:
    target, others, _ = related(0.5)
    with pytest.raises(ConfigError, match="0 to 1"):
        repit(target, others, rho=1.5)
    with pytest.raises(ConfigError, match="at least one"):
        repit(target, [])
    with pytest.raises(ShapeError, match="one width"):
        repit(target, [Direction(torch.ones(3))])


def test_the_euclidean_direction_is_the_gradient_of_the_observable(
    tiny_lm: LanguageModel,
) -> None:
    found = unembedding(tiny_lm, {" dog": 1.0, " tree": -1.0})
    assert found.hook_name == "blocks.3.hook_resid_post"
    ids = [
        tiny_lm.tokenizer.encode(word, add_special_tokens=False)[0] for word in (" dog", " tree")
    ]
    tokens = tiny_lm.tokenize(["the girl said no"])
    last = int(tokens.mask.sum()) - 1
    plain = tiny_lm.logits(tokens)[0, last]
    request = Request(AddDirection(1e-2), direction=found, positions="last")
    with intervene(tiny_lm, [request]):
        after = tiny_lm.logits(tokens)[0, last]
    change = float((after[ids[0]] - after[ids[1]]) - (plain[ids[0]] - plain[ids[1]]))
    x = tiny_lm.activations(tokens, [found.hook_name])[found.hook_name][0, last]
    hf: Any = tiny_lm.hf
    rms = (x.square().mean() + hf.model.norm.variance_epsilon).sqrt()
    # Along x the RMS norm takes back what is added.
    exact = found.tensor @ found.unit - (found.tensor @ x) * (found.unit @ x) / x.square().sum()
    assert change == pytest.approx(float(exact / rms) * 1e-2, rel=0.05)
    assert change > 0


def test_the_causal_direction_moves_other_words_less(tiny_lm: LanguageModel) -> None:
    from saetools.intervene.directions import unembedding_matrix

    rows = unembedding_matrix(tiny_lm).double()
    pair = {" dog": 1.0, " tree": -1.0}
    moved = {}
    for inner in ("euclidean", "causal"):
        vector = unembedding(tiny_lm, pair, inner=inner).tensor.double()  # type: ignore[arg-type]
        change = (rows - rows.mean(0)) @ vector
        ids = [tiny_lm.tokenizer.encode(w, add_special_tokens=False)[0] for w in pair]
        moved[inner] = float(change.square().mean().sqrt() / (change[ids[0]] - change[ids[1]]))
    assert moved["causal"] < moved["euclidean"]


def test_a_word_of_two_tokens_is_no_observable(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        unembedding(tiny_lm, {" crocodile": 1.0})


def planted_relation() -> tuple[Relation, Tensor, list[str], Tensor]:
    """Subjects of four objects, each reading its object through one linear map."""
    weight = noise(24, 32, seed=4) / 32**0.5
    bias = noise(24, seed=5)
    centres = 2 * noise(4, 32, seed=6)
    labels = [f"object {i % 4}" for i in range(80)]
    subjects = centres[torch.arange(80) % 4] + 0.3 * noise(80, 32, seed=7)
    objects = subjects @ weight.T + bias
    jacobians = weight + 1e-4 * noise(10, 24, 32, seed=8)
    return fit_relation(jacobians, subjects[:10], objects[:10]), subjects, labels, objects


def test_a_planted_linear_relation_is_recovered_classified_and_exchanged() -> None:
    relation, subjects, labels, objects = planted_relation()
    weight = noise(24, 32, seed=4).double() / 32**0.5
    assert (relation.weight - weight).abs().max() < 1e-3
    assert (relation.bias - noise(24, seed=5)).abs().max() < 2e-3
    concepts = relation.concepts(objects[:16], labels[:16], rank=12)
    names = list(concepts)
    table = torch.stack([concepts[name].tensor for name in names])
    said = [names[i] for i in (subjects[16:] @ table.T).argmax(1).tolist()]
    right = sum(a == b for a, b in zip(said, labels[16:], strict=True)) / len(said)
    assert right >= 0.95
    direction, strength = exchange(concepts, "object 0", "object 1")
    mine = subjects[[i for i, label in enumerate(labels) if label == "object 0"]]
    swapped = mine + strength * mine.norm(dim=-1, keepdim=True) * direction.unit
    flipped = [names[i] for i in (swapped @ table.T).argmax(1).tolist()]
    assert flipped.count("object 1") / len(flipped) >= 0.9
    with pytest.raises(ConfigError, match="object 9"):
        exchange(concepts, "object 0", "object 9")
    with pytest.raises(ConfigError, match="rank 99"):
        relation.concepts(objects, labels, rank=99)


def test_the_jacobian_of_a_model_is_what_small_steps_show(tiny_lm: LanguageModel) -> None:
    prompt = "the big dog ran to"
    relation, (subject,), (found,) = mean_jacobian(
        tiny_lm, [prompt], ["dog"], subject_hook="resid_post.0", object_hook="resid_post.3"
    )
    assert torch.allclose(relation.weight @ subject.double() + relation.bias, found.double())
    step = 1e-2 * noise(64, seed=9)
    place = int(tiny_lm.tokenize(["the big dog"]).mask.sum()) - 1
    request = Request(
        AddDirection(1.0, "own_length"),
        direction=Direction(step),
        hook_name="resid_post.0",
        positions=Positions(spans=((place, place + 1),)),
    )
    tokens = tiny_lm.tokenize([prompt])
    with intervene(tiny_lm, [request]):
        after = tiny_lm.activations(tokens, ["resid_post.3"])["resid_post.3"][0, -1]
    predicted = relation.weight.float() @ step
    assert torch.allclose(after - found, predicted, atol=2e-2 * float(predicted.norm()))
    with pytest.raises(ConfigError, match="later layer"):
        mean_jacobian(
            tiny_lm, [prompt], ["dog"], subject_hook="resid_post.3", object_hook="resid_post.0"
        )
    with pytest.raises(ConfigError, match="does not contain"):
        mean_jacobian(tiny_lm, [prompt], ["cat"], subject_hook="resid_post.0", object_hook=HOOK)


def test_latents_are_found_by_name_and_are_their_decoder_rows(sae: SAE) -> None:
    rows = [
        SimpleNamespace(latent=3, name="dogs"),
        SimpleNamespace(latent=7, name="big dogs"),
        SimpleNamespace(latent=9, name="trees"),
    ]
    assert latents_named(rows, "Dogs") == [3]
    assert latents_named(rows, "dog") == [3, 7]
    with pytest.raises(UnknownNameError, match=r"nearest names are.*trees"):
        latents_named(rows, "treez")
    found = latent_direction(sae, {3: 2.0, 7: -1.0})
    assert torch.allclose(found.tensor, 2 * sae.W_dec[3] - sae.W_dec[7], atol=1e-6)
    assert found.hook_name == HOOK
    with pytest.raises(UnknownNameError, match="256"):
        latent_direction(sae, [256])
