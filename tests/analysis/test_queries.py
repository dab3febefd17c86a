"""Asking an index: by word, by text; and the file read as docs/formats.md says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from saetools.analysis import index_latents
from saetools.errors import ShapeError, UnknownNameError
from saetools.harvest import harvest
from saetools.sae import build_sae

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def _shares(known, wanted, shift):
    """Share of each latent's training activation on tokens whose `shift`th next word is wanted."""
    held = known.store.held_out[known.doc]
    first = np.arange(1440) % 97 % 3 != 2  # a piece that begins a word
    first |= np.arange(1440) % 16 == 0
    number = np.cumsum(first) - 1
    spelled = [
        "".join(f"w{r % 97}" for r in np.flatnonzero(number == n)) for n in range(number[-1] + 1)
    ]
    words = np.array(spelled)[number]
    doc_of_word = known.doc[np.flatnonzero(first)]
    other = np.clip(number + shift, 0, number[-1])
    around = np.where(doc_of_word[other] == known.doc, np.array(spelled)[other], "nothing")
    assert (words == around).all() == (shift == 0)
    on = np.where(((around == wanted) & ~held)[:, None], known.x, 0).sum(0)
    return on / np.maximum(known.x[~held].sum(0), 1e-9)


@pytest.mark.parametrize(("unit", "shift"), [("word", 0), ("previous", -1), ("next", 1)])
def test_latents_are_found_by_a_word_and_by_the_words_around(known, unit, shift):
    index = known.index()
    for word in ("w1w2", "w0"):
        wanted = _shares(known, word, shift)
        hits = index.on_word(word.upper(), unit=unit, top=12)
        assert len(hits) == (wanted > 0).sum() >= 5
        for hit in hits:
            assert hit.score == pytest.approx(wanted[hit.latent], rel=1e-5)
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    with pytest.raises(UnknownNameError, match=r"no units 'line'.*previous, word"):
        index.on_word("w1", unit="line")
    assert index.on_word("absent") == []


def test_a_text_shows_the_latents_that_fire_on_each_of_its_tokens(tiny_encoder, tmp_path):
    texts = [f"the cat number {i} sat on the mat and looked at the dog" for i in range(20)]
    store = harvest(
        tiny_encoder, texts, hook_name="resid_post.0", out=tmp_path / "a.h5", dtype="float32"
    )
    sae = build_sae("topk", d_in=store.d_in, n_latents=32, k=4, meta={"hook_name": store.hook_name})
    index = index_latents(sae, store, model=tiny_encoder)
    reading = index.fires_on(tiny_encoder, sae, texts[7])
    assert reading.tokens == index.tokens_of(7)
    for place, found in enumerate(reading.latents):
        assert [act for _, act in found] == sorted((act for _, act in found), reverse=True)
        row = int(store.doc_spans[7, 0]) + place
        wanted = sae.encode(store.rows(row, row + 1)).dense()[0]
        assert {latent for latent, _ in found} == set(wanted.nonzero().flatten().tolist())
        for latent, act in found:
            assert act == pytest.approx(float(wanted[latent]), rel=1e-3, abs=1e-5)
    latent, act, place = reading.strongest(top=1)[0]
    assert act == max(a for found in reading.latents for _, a in found)
    assert (latent, act) in reading.latents[place]
    assert index.fires_on(tiny_encoder, sae, "").tokens == []
    other = build_sae("topk", d_in=3, n_latents=4, k=1)
    with pytest.raises(ShapeError, match="reads width 3"):
        index.fires_on(tiny_encoder, other, "a")


def test_the_file_can_be_read_as_the_page_on_formats_says(known, tmp_path, monkeypatch):
    index = known.index(out=tmp_path / "index.h5")
    monkeypatch.chdir(tmp_path)
    page = FORMATS.read_text(encoding="utf-8")
    section = page[page.index("## Index of latents") :].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names = {}
    exec(compile(block, "formats.md", "exec"), names)
    found = index.postings(7)
    assert len(found.doc) > 50
    for column, wanted in zip(found, (names["doc"], names["place"], names["value"]), strict=True):
        np.testing.assert_allclose(column, wanted)


def test_a_direction_finds_the_latents_that_point_its_way(known):
    from saetools.analysis import nearest_to

    index = known.index()
    direction = torch.zeros(12)
    direction[5], direction[7] = 3, 1
    hits = nearest_to(direction, known.sae.W_dec, live=index.live, n=2)
    assert [latent for latent, _ in hits] == [5, 7]
    assert hits[0][1] == pytest.approx(3 / 10**0.5, rel=1e-5)
