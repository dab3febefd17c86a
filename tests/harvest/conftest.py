"""What the tests of harvesting share: when two stores count as the same."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from saetools.store import ActivationStore

SameStore = Callable[[Path, Path], bool]


@pytest.fixture(scope="session")
def same_store() -> SameStore:
    """Whether all datasets of two finished stores are equal byte for byte.

    Of the two slots of moments only the one of the last commit counts; a reader sees no other.
    """

    def same(a: Path, b: Path) -> bool:
        one, two = _datasets(a), _datasets(b)
        return one.keys() == two.keys() and all(
            one[name].dtype == two[name].dtype
            and one[name].shape == two[name].shape
            and one[name].tobytes() == two[name].tobytes()
            for name in one
        )

    return same


def _datasets(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def add(name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            is_text = h5py.check_string_dtype(node.dtype)
            found[name] = node.asstr()[...].astype(str) if is_text else node[...]

    with h5py.File(path) as file:
        file.visititems(add)
    with ActivationStore.open(path) as store:
        for hook in store.hook_names:
            moments = vars(store.moments(hook))
            for name in [name for name in found if name.startswith(f"moments/{hook}")]:
                del found[name]
            found |= {f"moments/{hook}/{name}": np.asarray(x) for name, x in moments.items()}
    return found
