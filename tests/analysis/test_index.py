"""An index survives the disk, chooses without held-out documents, and escapes what it shows."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from saetools.analysis import LatentIndex, PromptReading
from saetools.errors import FormatError, UnknownNameError


def test_save_and_load_give_the_same_bits(known, tmp_path):
    index = known.index(out=tmp_path / "index.h5")
    again = LatentIndex.load(tmp_path / "index.h5")
    for name in ("stats", "label_table", "contexts", "docs"):
        for field in fields(getattr(index, name)):
            a, b = (getattr(getattr(i, name), field.name) for i in (index, again))
            assert type(a) is type(b)
            assert np.array_equal(a, b), field.name
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
    for unit, table in index.units.items():
        for field in fields(table):
            assert np.array_equal(
                getattr(table, field.name), getattr(again.units[unit], field.name)
            )
    for name in ("hook_name", "n_tokens", "n_tokens_train", "window", "source", "token_texts"):
        assert getattr(index, name) == getattr(again, name)
    assert index[5] == again[5]
    assert index.concepts() == again.concepts()


def test_tokens_that_hdf5_strings_cannot_hold_survive(known, tmp_path):
    index = replace(known.index(), token_texts=["\x00", "\ud800", "é", "a\nb"])
    index.save(tmp_path / "i.h5")
    assert LatentIndex.load(tmp_path / "i.h5").token_texts == index.token_texts


def test_files_that_are_no_index_are_refused_by_name(known, tmp_path):
    with pytest.raises(FormatError, match="no index at"):
        LatentIndex.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(FormatError, match="cannot be opened as HDF5"):
        LatentIndex.load(tmp_path / "text.h5")
    with pytest.raises(FormatError, match="'saetools-acts/1'"):
        LatentIndex.load(known.store.path)
    known.index(out=tmp_path / "i.h5")
    with h5py.File(tmp_path / "i.h5", "a") as file:
        file.attrs["format"] = "saetools-index/9"
    with pytest.raises(FormatError, match="newer saetools"):
        LatentIndex.load(tmp_path / "i.h5")
    with h5py.File(tmp_path / "i.h5", "a") as file:
        file.attrs["format"] = "saetools-index/1"
    with pytest.raises(FormatError, match="an older saetools wrote it"):
        LatentIndex.load(tmp_path / "i.h5")
    with h5py.File(tmp_path / "i.h5", "a") as file:
        file.attrs["format"] = "saetools-index/2"
        del file["stats/max_act"]
    with pytest.raises(FormatError, match="damaged"):
        LatentIndex.load(tmp_path / "i.h5")


def test_a_failed_save_leaves_the_old_index(known, tmp_path):
    known.index(out=tmp_path / "i.h5")
    before = (tmp_path / "i.h5").read_bytes()
    broken = replace(known.index(), units={"word": object()})
    with pytest.raises(AttributeError):
        broken.save(tmp_path / "i.h5")
    assert (tmp_path / "i.h5").read_bytes() == before


def test_concepts_are_chosen_on_training_documents_only(known):
    index = known.index()
    hit = index.concepts(top=1)[0]
    assert (hit.label, hit.latent) == ("label1", 0)
    assert hit.auroc_train > 0.8
    assert hit.auroc_held_out == index.auroc_held_out[0, 1]
    assert hit.n_docs_train + hit.n_docs_held_out == 30
    table = replace(index.label_table, auroc_held_out=1 - index.auroc_held_out)
    turned = replace(index, label_table=table)
    assert [(h.label, h.latent) for h in turned.concepts()] == [
        (h.label, h.latent) for h in index.concepts()
    ]


def test_concepts_never_choose_a_dead_latent(known):
    index = known.index()
    scores = index.auroc_train.copy()
    scores[3] = 1.0
    index = replace(index, label_table=replace(index.label_table, auroc_train=scores))
    assert 3 not in [hit.latent for hit in index.concepts(per_label=12, top=99)]
    assert len(index.concepts(per_label=2, top=99)) == 6
    assert len(index.concepts(per_label=2, top=4)) == 4


def test_unknown_latents_and_labels_are_named(known):
    index = known.index()
    with pytest.raises(UnknownNameError, match=r"no latent 12.*0 to 11"):
        index[12]
    with pytest.raises(UnknownNameError, match="no latent -1"):
        index[-1]
    with pytest.raises(UnknownNameError, match=r"no label 'lable1'.*nearest: label1"):
        index.best_latents("lable1")


def test_iterating_gives_every_latent_once(known):
    assert [view.latent for view in known.index()] == list(range(12))


def test_search_finds_words_and_labels(known):
    index = known.index()
    word = index.units["word"].of(5).text[0]
    hits = {hit.latent: hit for hit in index.search(word.upper(), top=12)}
    mass = index.units["word"].of(5).mass[0] / index.stats.mass_train[5]
    assert hits[5].score == pytest.approx(mass)
    assert index.search("label1")[0].latent == 0
    assert "label1" in index.search("label1")[0].reason
    assert index.search("nosuchword") == []


def test_jupyter_shows_texts_escaped(known):
    index = known.index()
    index = replace(index, token_texts=["<script>alert(1)</script>"] * len(index.token_texts))
    shown = index._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    latent = index[int(index.live[0])]._repr_html_()
    read = PromptReading(["<script>"], [[(3, 1.5)]])._repr_html_()
    assert "<script>" not in latent + read
    assert "&lt;script&gt;" in latent
    assert "3 (1.5)" in read
