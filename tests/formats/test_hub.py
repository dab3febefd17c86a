"""The hub: nothing is asked for unless said so, and what came from where is recorded."""

import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from format_weights import loaded, tokens, trained
from hub_stub import Hub, hub_stub

from saetools.errors import FormatError, HubError
from saetools.formats import pull, push, write_hub_folder
from saetools.formats.hub import Place, Pulled, place_of
from saetools.sae import INPUT_NORMS, SAE

SAE_ID = "blocks.3/k4"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this process in the place of the real one, with an empty cache."""
    with hub_stub() as stub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield stub


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def fetch(hub: Hub, place: str) -> Pulled:
    return pull(place, online=True, endpoint=hub.address)


def stored(hub: Hub, tmp_path: Path, sae: SAE, format: str = "saelens") -> str:
    """Put an SAE into a repository of the stub; return the id of the commit."""
    folder = write_hub_folder(sae, tmp_path / "folder", sae_id=SAE_ID, format=format)
    commit = hub.add("me/saes", files_of(folder))
    shutil.rmtree(folder)
    return commit


def test_what_is_not_in_the_cache_is_not_asked_for_unless_said_so(hub: Hub, tmp_path: Path):
    stored(hub, tmp_path, trained("topk", k=4))
    with pytest.raises(HubError, match=r"pull\('me/saes/blocks.3/k4', online=True\)"):
        SAE.load(f"me/saes/{SAE_ID}")
    assert hub.asked == []


@pytest.mark.parametrize("format", ["saelens", "saetools", "llamascopium"])
def test_what_was_pulled_once_is_loaded_without_the_hub(hub: Hub, tmp_path: Path, format: str):
    sae, x = trained("topk", k=4), tokens()
    commit = stored(hub, tmp_path, sae, format)
    pulled = fetch(hub, f"me/saes/{SAE_ID}")
    n_asked = len(hub.asked)
    back = SAE.load(f"me/saes/{SAE_ID}")
    assert len(hub.asked) == n_asked
    assert torch.allclose(back(x), sae(x), atol=1e-5)
    record = back.meta["hub"]
    assert record["commit"] == pulled.commit == commit
    assert (record["repo_id"], record["folder"], record["revision"]) == ("me/saes", SAE_ID, None)
    weights = next(p for p in pulled.path.iterdir() if p.suffix == ".safetensors")
    expected = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["checksums"][weights.name] == expected


def test_only_the_files_of_the_folder_are_fetched(hub: Hub, tmp_path: Path):
    stored(hub, tmp_path, trained("topk", k=4))
    hub.add("me/saes", {"blocks.4/k4/cfg.json": b"{}", "blocks.3/k40/cfg.json": b"{}"})
    pulled = fetch(hub, f"me/saes/{SAE_ID}")
    assert set(pulled.checksums) == {"cfg.json", "sae_weights.safetensors", "conversion.json"}
    fetched = [path for method, path in hub.asked if method == "GET" and "/resolve/" in path]
    assert len(fetched) == 3


def test_an_sae_at_the_root_of_a_repository_is_fetched_without_its_folders(
    hub: Hub, tmp_path: Path
):
    sae = trained("topk", k=4)
    sae.save(tmp_path / "own")
    hub.add("me/one", files_of(tmp_path / "own") | {"other/large.bin": b"0" * 5000})
    pulled = fetch(hub, "me/one")
    assert set(pulled.checksums) == {"config.json", "sae.safetensors", "README.md"}
    assert torch.equal(SAE.load("me/one")(tokens()), sae(tokens()))


def test_one_layer_of_a_set_is_fetched_with_the_settings_beside_it(hub: Hub, tmp_path: Path):
    sae = trained("transcoder", k=4, target_hook_name="blocks.0.hook_mlp_out")
    sae.meta["hook_name"] = "blocks.0.hook_resid_mid"
    sae.save(tmp_path / "set", format="circuit_tracer")
    files = files_of(tmp_path / "set")
    hub.add("me/set", files | {"layer_1.safetensors": files["layer_0.safetensors"]})
    pulled = fetch(hub, "me/set/layer_1.safetensors")
    assert {p.name for p in pulled.path.parent.iterdir()} == {"layer_1.safetensors", "config.yaml"}
    back = SAE.load("me/set/layer_1.safetensors")
    assert back.meta["hook_name"] == "blocks.1.hook_resid_mid"
    assert torch.allclose(back(tokens()), sae(tokens()), atol=1e-5)


def test_a_revision_is_kept_to(hub: Hub, tmp_path: Path):
    first, second = trained("topk", k=4), trained("topk", k=5)
    old = stored(hub, tmp_path, first)
    new = stored(hub, tmp_path, second)
    assert fetch(hub, f"me/saes/{SAE_ID}@{old}").commit == old
    assert fetch(hub, f"me/saes/{SAE_ID}").commit == new
    back = SAE.load(f"me/saes/{SAE_ID}@{old}")
    assert back.config.k == 4
    assert back.meta["hub"]["revision"] == old
    assert SAE.load(f"me/saes/{SAE_ID}").config.k == 5


def test_a_damaged_download_is_found_by_its_checksum(hub: Hub, tmp_path: Path):
    stored(hub, tmp_path, trained("topk", k=4))
    weights = fetch(hub, f"me/saes/{SAE_ID}").path / "sae_weights.safetensors"
    blob = weights.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="the download is damaged"):
        SAE.load(f"me/saes/{SAE_ID}")


def test_what_is_not_there_is_said_with_what_to_do(hub: Hub, tmp_path: Path):
    stored(hub, tmp_path, trained("topk", k=4))
    with pytest.raises(HubError, match=r"has no 'blocks\.9'"):
        fetch(hub, "me/saes/blocks.9")
    with pytest.raises(HubError, match="Check the name and the revision"):
        fetch(hub, "me/nothing")
    with pytest.raises(HubError, match="Check the name and the revision"):
        fetch(hub, "me/saes@no-such-branch")
    with pytest.raises(HubError, match="no place on the hub"):
        fetch(hub, "/absolute/path")


def test_offline_mode_of_the_hub_is_respected(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch(hub, "me/saes")
    with pytest.raises(HubError, match="could not push"):
        push(trained("topk", k=4), "me/saes", sae_id=SAE_ID, endpoint=hub.address)
    assert hub.asked == []


def test_what_is_pushed_is_pulled_and_loads_the_same(hub: Hub, tmp_path: Path):
    sae, x = trained("batch_topk", k=4), tokens()
    pushed = push(sae, "me/mine", sae_id=SAE_ID, endpoint=hub.address, token="hf_none")
    assert pushed.place == Place("me/mine", SAE_ID, hub.commit_id("me/mine", 1))
    assert pushed.url.endswith(str(pushed.place.revision))
    held = hub.commits["me/mine"][-1]
    assert set(held) == set(pushed.checksums) | {"README.md"}
    for name, checksum in pushed.checksums.items():
        assert hashlib.sha256(held[name]).hexdigest() == checksum
    fetch(hub, str(pushed.place))
    assert torch.allclose(SAE.load(str(pushed.place))(x), sae(x), atol=1e-5)


def test_a_card_that_is_there_is_not_written_over(hub: Hub):
    hub.add("me/mine", {"README.md": b"years of work"})
    push(trained("topk", k=4), "me/mine", sae_id="a", endpoint=hub.address, token="hf_none")
    assert hub.commits["me/mine"][-1]["README.md"] == b"years of work"
    assert "a/cfg.json" in hub.commits["me/mine"][-1]


def test_a_refusal_is_one_clear_error(hub: Hub):
    hub.refuse = 403
    with pytest.raises(HubError, match="logged in"):
        push(trained("topk", k=4), "me/mine", sae_id="a", endpoint=hub.address, token="hf_none")


def test_an_sae_that_the_format_cannot_hold_is_not_pushed(hub: Hub):
    with pytest.raises(FormatError, match="no selection like that"):
        push(trained("gated"), "me/mine", sae_id="a", format="gemma_scope", endpoint=hub.address)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/b", Place("a/b")),
        ("hf://a/b", Place("a/b")),
        ("a/b/c/d.e", Place("a/b", "c/d.e")),
        ("a/b/c@v1", Place("a/b", "c", "v1")),
        ("google/gemma-scope-2b@refs/pr/1", Place("google/gemma-scope-2b", None, "refs/pr/1")),
        ("a/b/", Place("a/b")),
        ("a", None),
        ("/a/b", None),
        ("./a/b", None),
        ("../a", None),
        ("~/a", None),
        ("a/b/../../c", None),
        ("a/b c", None),
        (Path("a/b"), None),
    ],
)
def test_places_are_told_from_paths(name: str | Path, place: Place | None):
    assert place_of(name) == place


def test_card_says_what_it_is_and_how_to_load_it(tmp_path: Path):
    sae = trained("matryoshka", k=4)
    folder = write_hub_folder(sae, tmp_path / "f", sae_id="blocks.3", repo_id="me/mine")
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "gpt2"
    assert "saetools" in yaml.safe_load(head)["tags"]
    assert "SAE.from_pretrained('me/mine', 'blocks.3')" in text
    assert "`blocks.3.hook_resid_post`, width 12" in text
    assert f"widths {list(sae.widths)}" in text, "what is lost is said"
    assert "conversion.json" in text
    assert torch.allclose(loaded(folder / "blocks.3")(tokens()), sae(tokens()), atol=1e-5)


def test_several_saes_share_a_folder_and_its_card(tmp_path: Path):
    write = partial(write_hub_folder, path=tmp_path / "f")
    write(trained("topk", k=4), sae_id="a")
    first = (tmp_path / "f" / "README.md").read_text()
    write(trained("topk", k=5), sae_id="b")
    assert (tmp_path / "f" / "README.md").read_text() == first
    assert loaded(tmp_path / "f" / "b").config.k == 5


@pytest.mark.parametrize("sae_id", ["", "/a", "../a", "a/../../b"])
def test_folders_outside_the_repository_are_refused(tmp_path: Path, sae_id: str):
    with pytest.raises(FormatError, match="a folder below the repository"):
        write_hub_folder(trained("topk", k=4), tmp_path / "f", sae_id=sae_id)


def test_formats_of_one_file_make_no_hub_folder(tmp_path: Path):
    sae = INPUT_NORMS.get("layer_norm")()(trained("topk", k=4))
    with pytest.raises(FormatError, match="is one file"):
        write_hub_folder(sae, tmp_path / "f", sae_id="a", format="openai")
