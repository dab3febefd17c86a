"""What goes into the page: packed contexts and words, neighbours, figures, plots."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saetools.analysis import LatentIndex
from saetools.errors import FormatError, ShapeError
from saetools.evaluate import ConceptAblationReport, EvaluationReport, Figure, ProbeRow
from saetools.explore.bundle import NONE_16, NONE_32, Bundle
from saetools.explore.contexts import pack_contexts, pack_words
from saetools.explore.figures import evaluation_rows, facts, headline, label_of, training_rows
from saetools.explore.latents import concept_rows, label_columns, score_columns
from saetools.explore.plots import (
    ablation_chart,
    firing_histogram,
    read_training,
    training_curve,
    width_curve,
)
from saetools.explore.reading import pack_texts, read_documents
from saetools.explore.relations import pack_logits, pack_relations

IndexMaker = Callable[..., LatentIndex]


def test_packed_contexts_are_those_of_the_index(make_index: IndexMaker) -> None:
    index = make_index(60)
    packed = pack_contexts(index)
    arrays, texts = packed.arrays, packed.texts
    for latent in (0, 7, 24, 59):
        first, last = arrays["latent_start"][latent : latent + 2]
        wanted = index.examples(latent) + index.examples(latent, kind="spread")
        assert last - first == len(wanted)
        for place, context in zip(range(first, last), wanted, strict=True):
            part = slice(*arrays["context_start"][place : place + 2])
            tokens = [texts["vocab"][t] for t in arrays["token_ids"][part]]
            acts = arrays["acts"][part] / 255 * index.max_act[latent]
            assert tokens == context.tokens
            np.testing.assert_allclose(acts, context.acts, atol=index.max_act[latent] / 250)
            assert ((arrays["acts"][part] > 0) == (np.array(context.acts) > 0)).all()
            assert arrays["context_peak"][place] == context.peak
            assert texts["titles"][arrays["context_title"][place]] == context.title
            assert texts["labels"][arrays["context_label"][place]] == context.label


def test_held_out_contexts_stay_out_of_the_page(make_index: IndexMaker) -> None:
    index = make_index(10)
    index.contexts.kind[:] = 2
    assert len(pack_contexts(index).arrays["token_ids"]) == 0


def test_words_carry_their_share_of_the_activation(make_index: IndexMaker) -> None:
    packed = pack_words(make_index(30))
    start = packed.arrays["word_start"]
    assert packed.texts["words"][packed.arrays["word_ids"][start[5]]] == "planted5"
    assert packed.arrays["word_share"][start[5]] == 255
    assert start[25] == start[24]  # a dead latent has no words


def test_a_bundle_reads_back_with_every_array_aligned() -> None:
    arrays = {
        "bytes": np.arange(5, dtype=np.uint8),
        "wide": np.array([1.5, np.nan], dtype=np.float32),
        "ids": np.array([3, NONE_16], dtype=np.uint16),
    }
    head, body = Bundle({"value": np.float32("nan"), "text": "</script>\ud800"}, arrays).encoded()
    listing = json.loads(gzip.decompress(head))
    data = gzip.decompress(body)
    assert listing["value"] is None
    assert listing["text"] == "</script>\ud800"
    codes = {"f4": "<f4", "u4": "<u4", "u2": "<u2", "u1": "u1", "i1": "i1"}
    offset = 0
    for row in listing["arrays"]:
        dtype = np.dtype(codes[row["dtype"]])
        assert offset % dtype.itemsize == 0
        found = np.frombuffer(data, dtype, count=row["length"], offset=offset)
        np.testing.assert_array_equal(found, arrays[row["name"]])
        offset += found.nbytes
    assert offset == len(data)


def test_relations_are_those_of_the_index(make_rich_index: IndexMaker) -> None:
    index = make_rich_index(60)
    packed = pack_relations(index)
    sizes, arrays = packed.texts["relations"], packed.arrays
    tables = {"near": index.decoder_neighbours, "together": index.coactivation}
    for kind, table in {**tables, "parents": index.parents, "children": index.children}.items():
        ids = arrays[f"{kind}_ids"].reshape(60, sizes[kind])
        scores = arrays[f"{kind}_scores"].reshape(60, sizes[kind]) / 100
        for latent in (0, 1, 7, 24, 59):
            known = ids[latent] != NONE_16
            found = list(zip(ids[latent][known].tolist(), scores[latent][known], strict=True))
            assert found == [(i, pytest.approx(s)) for i, s in table.of(latent)], (kind, latent)


def test_relations_that_an_index_lacks_take_no_space(make_index: IndexMaker) -> None:
    packed = pack_relations(make_index(30))
    assert set(packed.texts["relations"]) == {"near"}
    assert set(packed.arrays) == {"near_ids", "near_scores"}
    assert pack_logits(make_index(30)).arrays == {}


def test_logit_tokens_are_those_of_the_index(make_rich_index: IndexMaker) -> None:
    packed = pack_logits(make_rich_index(60))
    promoted = packed.arrays["promoted_ids"]
    assert packed.texts["logit_tokens"][promoted[7]] == " likely7"
    assert packed.texts["logit_tokens"][packed.arrays["suppressed_ids"][7]] == " likely52"
    assert packed.arrays["promoted_z"][7] == 75  # tenths
    assert promoted[24] == NONE_32  # a dead latent makes nothing likelier


def test_documents_come_with_the_latents_of_each_token(make_rich_index: IndexMaker) -> None:
    index = make_rich_index(60)
    texts = read_documents(index, n=6)
    assert len(texts) == 6
    for text in texts:
        doc = int(text.title.split()[-1])
        assert not index.docs.held_out[doc]
        assert text.tokens[1] == f" planted{doc}"
        fires = [i for i in (doc, doc + 40) if i < 60 and i % 25 != 24]
        shares = [1.0 if i < 40 else 0.5 for i in fires]
        assert text.latents == [[], list(zip(fires, shares, strict=True)), [], [], []]


def test_reading_in_blocks_gives_the_same(
    make_rich_index: IndexMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_rich_index(60)
    whole = read_documents(index, n=40)
    monkeypatch.setattr("saetools.explore.reading._ENTRIES", 7)
    assert read_documents(index, n=40) == whole


def test_packed_texts_read_back(make_rich_index: IndexMaker) -> None:
    index = make_rich_index(60)
    texts = read_documents(index, n=40)
    packed = pack_texts(texts)
    arrays = packed.arrays
    assert [prompt["title"] for prompt in packed.texts["prompts"]] == [t.title for t in texts]
    for i, text in enumerate(texts):
        for place, at in enumerate(range(*arrays["prompt_start"][i : i + 2])):
            assert packed.texts["prompt_vocab"][arrays["prompt_tokens"][at]] == text.tokens[place]
            part = slice(*arrays["prompt_entry"][at : at + 2])
            wanted = [latent for latent, _ in text.latents[place]]
            assert arrays["prompt_latent"][part].tolist() == wanted


def test_scores_are_columns_and_the_callers_come_first() -> None:
    mine = {"fuzzing": np.array([0.5, np.nan, 1.0]), "empty": np.full(3, np.nan)}
    listed, arrays = score_columns(mine, {"Confidence": np.array([0.1, 0.2, np.nan])}, 3)
    assert [entry["name"] for entry in listed] == ["fuzzing", "Confidence"]
    np.testing.assert_array_equal(arrays[listed[0]["array"]], np.float32([0.5, np.nan, 1.0]))


def test_scores_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match="'fuzzing' has shape \\(2,\\)"):
        score_columns({"fuzzing": np.zeros(2)}, {}, 3)


def test_labels_near_chance_are_left_out(make_index: IndexMaker) -> None:
    columns = label_columns(make_index(30))
    ids = columns["label_ids"].reshape(30, -1)
    assert ids[1, 0] == 0  # animals
    assert ids[2, 0] == 1  # places
    assert columns["label_held_out"].reshape(30, -1)[1, 0] == pytest.approx(0.94)
    assert (ids[3:] == NONE_16).all()


def test_concepts_report_both_figures(make_index: IndexMaker) -> None:
    best = concept_rows(make_index(30))[0]
    assert (best["label"], best["latent"]) == ("animals", 1)
    assert best["train"] == pytest.approx(0.97)
    assert best["held_out"] == pytest.approx(0.94)


def test_headline_leads_with_fvu_and_keeps_to_six() -> None:
    names = ["n_tokens", "cosine", "l0", "fvu", "dead_fraction", "embedding_cosine",
             "embedding_recovered", "neighbour_overlap", "norm_ratio"]  # fmt: skip
    report = EvaluationReport(
        tuple(Figure(name, "what it is", "none", (0, 1)).measured(0.5) for name in names)
    )
    shown = headline(evaluation_rows(report))
    assert [row["name"] for row in shown[:3]] == ["fvu", "l0", "dead_fraction"]
    assert len(shown) == 6
    assert shown[0]["meaning"] == "What it is"


def test_figures_have_readable_headings() -> None:
    assert label_of("fvu_at_256") == "FVU at 256"
    assert label_of("ce_spliced") == "CE spliced"
    assert label_of("neighbour_overlap") == "Neighbour overlap"


def test_training_stands_in_for_a_missing_evaluation() -> None:
    shown = headline(training_rows({"fvu": 0.2, "l0": 31.0, "lr": 1e-3}))
    assert [(row["name"], row["value"]) for row in shown] == [("fvu", 0.2), ("l0", 31.0)]


def test_facts_name_model_hook_and_corpus(make_index: IndexMaker) -> None:
    report = EvaluationReport((), about={"split": "held_out", "n_docs": 1234})
    found = dict(facts(make_index(30), None, report))
    assert found["Model"] == "planted model"
    assert found["Hook"] == "blocks.1.hook_resid_post"
    assert found["SAE"] == "TopK"
    assert found["Corpus"] == "planted corpus"
    assert found["Evaluated on"] == "1,234 held-out documents"
    assert "Tokens trained on" not in found  # only the SAE knows


def test_training_rows_come_from_a_folder_or_a_file(tmp_path: Path) -> None:
    rows = [{"n_tokens": 10, "fvu": 0.5}, {"n_tokens": 20, "fvu": 0.4}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_training(path) == read_training(tmp_path) == read_training(rows) == rows


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no training metrics at .*metrics\.jsonl"):
        read_training(tmp_path)


def test_a_damaged_metrics_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"n_tokens": 10}\n{"n_tok')
    with pytest.raises(FormatError, match=r"line 2 of .*metrics\.jsonl"):
        read_training(path)


def test_a_repeated_step_counts_once_and_the_later_row_stands() -> None:
    curve = training_curve(
        [{"n_tokens": n, "fvu": fvu} for n, fvu in ((10, 0.9), (20, 0.5), (20, 0.4), (30, 0.3))]
    )
    assert curve is not None
    assert curve["n_tokens"] == [10, 20, 30]
    assert curve["series"]["fvu"]["values"] == [0.9, 0.4, 0.3]
    assert "loss" not in curve["series"]


def test_a_long_curve_is_thinned_by_averaging() -> None:
    curve = training_curve([{"n_tokens": n, "loss": float(n % 2)} for n in range(1, 4001)])
    assert curve is not None
    assert len(curve["n_tokens"]) == 400
    assert curve["n_tokens"][-1] == 4000
    assert set(curve["series"]["loss"]["values"]) == {0.5}


def test_firing_histogram_counts_every_live_latent_once() -> None:
    found = firing_histogram(np.array([0.0, 1e-5, 1e-3, 1e-3, 1.0]))
    assert found is not None
    assert sum(found["counts"]) == 4
    assert found["n_dead"] == 1
    assert firing_histogram(np.zeros(3)) is None


def test_width_curve_ends_with_the_whole_dictionary() -> None:
    values = {"fvu": 0.2, "fvu_at_64": 0.5, "fvu_at_8": 0.8}
    report = EvaluationReport(
        tuple(Figure(name, "", "lower", (0, 1)).measured(v) for name, v in values.items())
    )
    assert width_curve(report, 256) == [
        {"width": 8, "fvu": 0.8},
        {"width": 64, "fvu": 0.5},
        {"width": 256, "fvu": 0.2},
    ]
    assert width_curve(None, 256) == []


def test_ablation_shows_fresh_probes_with_their_intervals() -> None:
    rows = (
        ProbeRow("clean", "hook", "auroc", 0.9, 0.8, 0.95),
        ProbeRow("clean", "final", "auroc", 0.8, 0.7, 0.9),
        ProbeRow("ablated", "final", "auroc_drop", 0.2, 0.1, 0.3),
    )
    chart = ablation_chart(ConceptAblationReport("animals", "It is weaker.", rows, ()))
    assert [(row["group"], row["value"]) for row in chart["rows"]] == [
        ("Final vector", 0.8),
        ("At the hook", 0.9),
    ]
    assert chart["note"] == "It is weaker."
