"""From format to format: all pairs, what is refused, and that a refusal leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saetools.errors import ConfigError, FormatError, UnknownNameError
from saetools.formats import FORMATS, convert, from_store
from saetools.formats.table import END, START, tables, with_tables
from saetools.sae import ARCHS, SAE

Trained = Callable[..., SAE]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", ["saelens", "dictionary_learning", "sparsify"])
@pytest.mark.parametrize("second", ["saelens", "dictionary_learning", "sparsify"])
def test_an_sae_goes_from_any_tool_to_any_other_and_back_to_ours(
    first: str, second: str, tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae = trained("topk", k=4)
    sae.save(tmp_path / "start")
    convert(tmp_path / "start", tmp_path / "first", to=first)
    done = convert(tmp_path / "first", tmp_path / "second", to=second)
    assert (done.source, done.target) == (first, second)
    assert set(done.proofs) == {"reading", "writing"}
    assert all(proof.holds for proof in done.proofs.values())
    convert(tmp_path / "second", tmp_path / "end", to="saetools")
    end = SAE.load(tmp_path / "end")
    assert torch.allclose(end(tokens), sae(tokens), atol=1e-5)
    assert torch.equal(end.W_dec, sae.W_dec)
    assert end.meta["hook_name"] == "blocks.3.hook_resid_post"
    assert (tmp_path / "end" / "conversion.json").exists()
    assert (tmp_path / "end" / "config.json").exists()


def test_the_first_rows_of_a_store_are_compared_too(
    tmp_path: Path, trained: Trained, make_store: Callable[..., Any]
) -> None:
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    store = make_store(x, hook_name="blocks.3.hook_resid_post", also={"blocks.4.hook_mlp_out": x})
    sae = trained("topk", k=4)
    sae.save(tmp_path / "sae", format="saelens")
    done = convert(
        tmp_path / "sae", tmp_path / "out", to="dictionary_learning", probe=from_store(store.path)
    )
    assert done.proofs["reading"].n_real == done.proofs["writing"].n_real == 256
    sae.meta["hook_name"] = "blocks.1.hook_resid_post"
    sae.save(tmp_path / "elsewhere", format="saelens")
    with pytest.raises(ConfigError, match="harvest a store of that hook alone"):
        convert(
            tmp_path / "elsewhere", tmp_path / "no", to="sparsify", probe=from_store(store.path)
        )


def test_a_dry_run_proves_and_leaves_nothing(tmp_path: Path, trained: Trained) -> None:
    trained("topk", k=4).save(tmp_path / "sae")
    done = convert(tmp_path / "sae", tmp_path / "out", to="saelens", dry_run=True)
    assert done.proofs["writing"].holds
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]


def test_a_fault_of_a_writer_is_found_and_nothing_is_left(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = FORMATS.get("saelens")
    honest = writer.write

    def forgetful(self: Any, sae: SAE, path: Path) -> Any:
        twin = sae.with_tensors({**sae.state_dict(), "b_dec": torch.zeros_like(sae.b_dec)})
        return honest(self, twin, path)

    monkeypatch.setattr(writer, "write", forgetful)
    with pytest.raises(FormatError, match=r"reconstructions differ by up to \d"):
        trained("topk", k=4).save(tmp_path / "out", format="saelens")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_a_reader_is_found(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("standard").save(tmp_path / "sae", format="saelens")
    path = tmp_path / "sae" / "cfg.json"
    said = '"apply_b_dec_to_input": '
    path.write_text(path.read_text().replace(f"{said}true", f"{said}false"))
    monkeypatch.setattr(
        "saetools.formats.dialects._saelens_reader.fold_centre",
        lambda W_enc, b_dec: torch.zeros(64).double(),
    )
    with pytest.raises(FormatError, match="refused, as the two do not compute the same"):
        SAE.load(tmp_path / "sae")


def test_a_folder_of_saes_is_told_to_name_one(tmp_path: Path, trained: Trained) -> None:
    for layer in (3, 4):
        trained("topk", k=4).save(tmp_path / "run" / f"layers.{layer}", format="sparsify")
    with pytest.raises(FormatError, match=r"folder of 2; name one of them: .*layers\.3"):
        SAE.load(tmp_path / "run")


def test_what_is_no_sae_of_anyone_is_refused_with_a_sentence(
    tmp_path: Path, trained: Trained
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("buy milk")
    with pytest.raises(FormatError, match=r"found: \['todo.txt'\]"):
        SAE.load(tmp_path / "notes")
    with pytest.raises(FormatError, match="of no format that is known here"):
        convert(tmp_path / "notes", tmp_path / "out", to="saelens")
    trained("topk", k=4).save(tmp_path / "sae")
    with pytest.raises(UnknownNameError, match="did you mean 'saelens'"):
        convert(tmp_path / "sae", tmp_path / "out", to="sealens")
    with pytest.raises(FormatError, match="holds something else"):
        convert(tmp_path / "sae", tmp_path / "notes", to="saetools")


def test_a_file_of_ours_goes_by_its_name_too(
    tmp_path: Path, trained: Trained, tokens: torch.Tensor
) -> None:
    sae = trained("topk", k=4)
    sae.save(tmp_path / "sae", format="saetools")
    assert torch.equal(SAE.load(tmp_path / "sae", format="saetools")(tokens), sae(tokens))


def test_the_tables_in_the_documents_are_those_of_the_registry() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert with_tables(page) == page, "run: python -m saetools.formats.table docs/formats.md"
    assert START in page
    assert END in page


def test_every_format_says_what_it_keeps_and_what_it_can_hold() -> None:
    for name in FORMATS.names():
        kind = FORMATS.get(name)
        assert kind.title
        assert kind.files
        assert kind.keeps
        assert set(kind.holds) <= set(ARCHS.names()), name
        assert bool(kind.holds) == kind.writes, name
        assert f"| `{name}` |" in tables()
