"""Models that come with the package: found by name, verified, and refused when damaged."""

import shutil
from pathlib import Path

import pytest

from saetools.errors import ConfigError, FormatError
from saetools.models import LanguageModel, load_model, shipped

DATA = Path(shipped.__file__).with_name("data")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base model in a place where it may be damaged."""
    shutil.copytree(DATA / "planted" / "base", tmp_path / "planted" / "base")
    monkeypatch.setattr(shipped, "_DATA", tmp_path)
    return tmp_path / "planted" / "base"


def test_three_planted_models_ship_in_ten_megabytes() -> None:
    assert shipped.shipped_names() == ("planted", "planted:oracle-0", "planted:oracle-1")
    size = sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file())
    assert size <= 10 * 1000 * 1000


@pytest.mark.parametrize("name", ["planted", "planted:oracle-0", "planted:oracle-1"])
def test_a_shipped_model_loads_by_its_name(name: str) -> None:
    model = load_model(name)
    assert isinstance(model, LanguageModel)
    assert model.name == name
    assert next(model.hf.parameters()).dtype.itemsize == 4


def test_the_base_may_be_named_in_full() -> None:
    assert shipped.shipped_folder("planted:base") == shipped.shipped_folder("planted")


@pytest.mark.parametrize("name", ["planted:orakel-0", "planted:../base", "planted:"])
def test_an_unknown_variant_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Known: planted, planted:oracle-0, planted:oracle-1"):
        load_model(name)


@pytest.mark.parametrize("name", ["gpt2", "tiny", "../data", "org/planted", "/tmp"])
def test_other_names_are_none_of_its_business(name: str) -> None:
    assert shipped.shipped_folder(name) is None


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "recall.json"])
def test_a_damaged_file_is_refused_by_name(copied: Path, file: str) -> None:
    data = bytearray((copied / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / file).write_bytes(data)
    with pytest.raises(FormatError, match=rf"{file}' is damaged"):
        load_model("planted")


def test_a_lost_file_is_refused_by_name(copied: Path) -> None:
    (copied / "config.json").unlink()
    with pytest.raises(FormatError, match=r"lacks config\.json"):
        load_model("planted")


def test_lost_or_garbled_checksums_are_refused(copied: Path) -> None:
    (copied / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(FormatError, match="SHA256SUMS"):
        load_model("planted")


def test_checksums_are_written_as_sha256sum_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    shipped.write_sums(tmp_path)
    # The digest of "abc" is the example of FIPS 180-2.
    assert (tmp_path / "SHA256SUMS").read_text() == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.txt\n"
    )
    shipped.verify_sums(tmp_path)
