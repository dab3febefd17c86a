"""Whatever stands in another tool's settings, reading gives an SAE or a FormatError."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from format_weights import trained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saetools.errors import FormatError
from saetools.formats import FORMATS
from saetools.sae import SAE

SETTINGS = {
    "circuit_tracer": "config.yaml",
    "dictionary_learning": "config.json",
    "gemma_scope_2": "config.json",
    "llama_scope": "hyperparams.json",
    "llamascopium": "config.json",
    "saelens": "cfg.json",
    "sparsify": "cfg.json",
    "steerers": "config.json",
}
MORE = {"act_fn", "activation", "norm_activation", "k", "top_k", "l0", "scan"}

small = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=4)
values = (
    small | st.lists(small, max_size=2) | st.dictionaries(st.text(max_size=3), small, max_size=2)
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of a format, written once."""
    folder = tmp_path_factory.mktemp("written")

    def write(format: str) -> Path:
        path = folder / format
        if not path.exists():
            kind = "transcoder" if format == "circuit_tracer" else "topk"
            kind = "jumprelu" if format == "gemma_scope_2" else kind
            trained(kind, **({} if kind == "jumprelu" else {"k": 4})).save(path, format=format)
        return path

    return write


@pytest.mark.parametrize("format", SETTINGS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_settings_of_others_never_crash(
    written: Callable[[str], Path], format: str, data: st.DataObject
):
    source = written(format)
    is_yaml = SETTINGS[format].endswith("yaml")
    text = (source / SETTINGS[format]).read_text()
    config: dict[str, Any] = yaml.safe_load(text) if is_yaml else json.loads(text)
    keys = st.sampled_from(sorted({*config, *MORE}))
    config |= data.draw(st.dictionaries(keys, values, min_size=1, max_size=3))
    for block in ("metadata", "trainer"):
        if isinstance(config.get(block), dict) and config[block]:
            within = st.sampled_from(sorted(config[block]))
            config[block] |= data.draw(st.dictionaries(within, values, max_size=3))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(source, Path(scratch) / "copy"))
        dump = yaml.safe_dump if is_yaml else json.dumps
        (folder / SETTINGS[format]).write_text(dump(config))
        try:
            sae = FORMATS.get(format)().read(folder).sae
        except FormatError as error:
            sae, problem = None, str(error)
        assert isinstance(sae, SAE) or len(problem) > 40
