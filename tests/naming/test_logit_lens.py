"""A latent that writes a token is named by it; a flat or a low list names nothing."""

from dataclasses import replace

import numpy as np
import pytest

from saetools.analysis.logit_lens import LogitTable
from saetools.errors import ConfigError
from saetools.naming import name_latents
from saetools.testing import naming_subject


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return naming_subject(tmp_path_factory.mktemp("subject")).index


def test_the_planted_token_is_named_and_no_other_latent(index):
    names = name_latents(index, namer="logit_lens")
    assert [name.latent for name in names] == [15]
    name = names.get(15)
    assert name.promotes[0].strip() == "p"  # how the tiny tokenizer ends " ship"
    assert name.name.startswith('promotes "p"')
    assert name.unit is None


def _with(index, *rows):
    """The index with these z of the first latents' tokens a, b, c, d."""
    z = np.zeros((index.n_latents, 4), dtype=np.float32)
    z[: len(rows)] = rows
    ids = np.tile(np.arange(4, dtype=np.int32), (index.n_latents, 1))
    table = LogitTable([" a", " b", " c", " d"], ids, ids, z, -z)
    return replace(index, logits=table)


def test_a_name_needs_height_and_a_margin(index):
    made = _with(
        index,
        [9, 8, 6, 2],  # three tokens stand out
        [9, 4, 3, 2],  # one does
        [4.9, 1, 0, 0],  # too low
        [9, 8.8, 8.7, 8.5],  # too flat
    )
    names = name_latents(made, namer="logit_lens", latents=range(4))
    assert [(name.latent, name.promotes) for name in names] == [
        (0, (" a", " b", " c")),
        (1, (" a",)),
    ]
    assert names.get(0).name == 'promotes "a", "b", "c"'
    assert names.get(1).confidence == pytest.approx(1 - 2 / 9)
    loose = name_latents(made, namer="logit_lens", latents=range(4), min_margin=0.1, min_z=4)
    assert len(loose) == 4
    one = name_latents(made, namer="logit_lens", latents=[0], n_tokens=1)
    assert one.get(0).promotes == (" a",)


def test_an_encoder_has_no_logit_lens_and_that_is_said(planted):
    with pytest.raises(ConfigError, match=r"'logit_lens' needs .* only language models"):
        name_latents(planted, namer="logit_lens")
