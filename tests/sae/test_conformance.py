"""Every architecture in the registry keeps every promise."""

from pathlib import Path

import pytest

from saetools.sae import ARCHS
from saetools.testing import check_sae


@pytest.mark.parametrize("name", ARCHS.names())
def test_architecture_conforms(name: str, tmp_path: Path) -> None:
    check_sae(name, folder=tmp_path)
