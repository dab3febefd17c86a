"""ItD on a text encoder: five of thirty names are erased, fifteen were never seen by the fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import saetools as st
from saetools.erase import (
    Eraser,
    LabelledRows,
    apply_rows,
    collect_rows,
    erased,
    fit_labelled,
    random_control,
)
from saetools.models.base import TextEncoder
from saetools.sae import SAE

HOOK = "blocks.0.hook_resid_post"
# Every name is one token of the encoder.
# fmt: off
NAMES = [
    "boy", "child", "city", "dog", "fish", "friend", "garden", "girl", "house", "man",
    "mother", "story", "sun", "tree", "water", "world", "work", "name", "day", "time",
    "people", "play", "word", "thing", "way", "new", "old", "red", "big", "little",
]
# fmt: on
TARGETS, RETAIN, UNSEEN = NAMES[:5], NAMES[5:15], NAMES[15:30]
TEMPLATES = [
    " this is the {}", " we saw the {} there", " he said that the {} was good", " look at the {}",
    " they want to see the {} now", " and then the {} came back", " all of the {} is here",
    " she would like a {} too", " you could also go to the {}", " there was only one {}",
]  # fmt: skip
N_TRAIN = 6


def prompts(names: list[str], templates: list[str]) -> list[str]:
    return [template.format(name) for name in names for template in templates]


@pytest.fixture(scope="module")
def sae(tiny_encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> SAE:
    """An SAE trained on prompts about all names, as the paper's is on a large corpus."""
    folder: Path = tmp_path_factory.mktemp("itd")
    texts = prompts(NAMES, TEMPLATES)
    acts = st.harvest(tiny_encoder, texts, hook_name=HOOK, out=folder / "acts.h5")
    sae = st.build_sae("topk", d_in=acts.d_in, n_latents=512, k=6)
    config = st.TrainConfig(n_tokens=200_000, batch_tokens=512, seed=0, normalize="none")
    return st.train(sae, acts, config)


def pooled(x: torch.Tensor, rows: LabelledRows) -> np.ndarray:
    place = rows.place
    total = torch.zeros(place.n_texts, x.shape[1]).index_add_(0, place.text, x)
    return (total / torch.bincount(place.text).unsqueeze(1)).numpy()


class Names:
    """Which of the five names a target prompt has, by probes tested on templates of their own."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.rows = [
            collect_rows(
                encoder,
                forget=prompts(TARGETS, templates),
                retain=prompts(UNSEEN, templates),
                hook_name=HOOK,
            )
            for templates in (TEMPLATES[:N_TRAIN], TEMPLATES[N_TRAIN:])
        ]

    def accuracy(self, edit: Eraser, *, fresh: bool) -> float:
        """Of a probe made before the edit, or after it (fresh)."""
        train, test = self.rows
        x = pooled(apply_rows(edit, train) if fresh else train.x, train)
        y, truth = (np.repeat(np.arange(5), n) for n in (N_TRAIN, len(TEMPLATES) - N_TRAIN))
        probe = LogisticRegression(max_iter=2000).fit(x[: len(y)], y)
        after = pooled(apply_rows(edit, test), test)[: len(truth)]
        return float(probe.score(after, truth))


def fitted(encoder: TextEncoder, sae: SAE, *, value: float) -> tuple[Eraser, LabelledRows]:
    rows = collect_rows(
        encoder,
        forget=prompts(TARGETS, TEMPLATES[:N_TRAIN]),
        retain=prompts(RETAIN, TEMPLATES[:N_TRAIN]),
        hook_name=HOOK,
    )
    config = {"latents_by": "set_difference", "n_latents": 64, "top": 16, "value": value}
    return fit_labelled("itd", rows, sae=sae, **config), rows


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_itd_acts_on_its_names_and_leaves_names_that_it_never_saw(
    tiny_encoder: TextEncoder, sae: SAE, value: float
) -> None:
    eraser, _ = fitted(tiny_encoder, sae, value=value)
    test = Names(tiny_encoder).rows[1]
    counts = torch.bincount(test.place.text)
    scores = (
        torch.zeros(len(counts)).index_add_(0, test.place.text, eraser.scored(test.x).scores)
        / counts
    )
    target = test.text_labels > 0
    gaps = scores[target].unsqueeze(1) - scores[~target]
    assert float((gaps > 0).float().mean() + 0.5 * (gaps == 0).float().mean()) >= 0.95  # AUROC
    moved = (apply_rows(eraser, test) != test.x).any(1).float()
    changed = torch.zeros(len(counts)).index_add_(0, test.place.text, moved) > 0
    assert float((~changed[~target]).float().mean()) >= 0.95
    assert float(changed[target].float().mean()) >= 0.9


def test_itd_takes_the_names_from_a_probe_and_random_latents_do_not(
    tiny_encoder: TextEncoder, sae: SAE
) -> None:
    names = Names(tiny_encoder)
    eraser, rows = fitted(tiny_encoder, sae, value=0.0)
    control = random_control(eraser, rows, seed=0)
    assert names.accuracy(eraser, fresh=False) <= 1 / 5 + 0.1
    assert names.accuracy(control, fresh=False) > 0.8
    # A probe made after the edit reads what the SAE leaves unexplained: no promise is made there.
    fresh = names.accuracy(eraser, fresh=True)
    assert fresh < names.accuracy(control, fresh=True) - 0.3
    assert fresh > 1 / 5


def test_negative_values_are_read_by_a_fresh_probe(tiny_encoder: TextEncoder, sae: SAE) -> None:
    names = Names(tiny_encoder)
    eraser, _ = fitted(tiny_encoder, sae, value=-1.0)
    assert names.accuracy(eraser, fresh=False) <= 1 / 5 + 0.1
    assert names.accuracy(eraser, fresh=True) > 0.6


def test_in_the_running_encoder_other_names_keep_their_embedding_to_the_bit(
    tiny_encoder: TextEncoder, sae: SAE
) -> None:
    eraser, _ = fitted(tiny_encoder, sae, value=0.0)
    texts = prompts(TARGETS[:2] + UNSEEN[:2], TEMPLATES[:4])
    before = tiny_encoder.embed(texts)
    with erased(tiny_encoder, eraser) as probe:
        after = tiny_encoder.embed(texts)
    same = (before == after).all(1)
    assert not bool(same[:8].any())
    assert bool(same[8:].all())
    assert probe.summary().n_tokens > 0
    assert torch.equal(tiny_encoder.embed(texts), before)
