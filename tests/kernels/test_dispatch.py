"""Which implementation runs, and what a machine without a GPU is told."""

import subprocess
import sys

import pytest
import torch

import saetools_kernels
from saetools_kernels import (
    KernelInputError,
    KernelUnavailableError,
    available,
    sparse_decode,
    topk_rows,
    use_implementation,
)
from saetools_kernels.sparse_decode import cpu, reference

VALUES, INDICES, W = torch.ones(2, 1), torch.tensor([[0], [1]]), torch.eye(2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU and without the interpreter, whatever this one is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("SAETOOLS_KERNELS", raising=False)


@pytest.fixture
def calls(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The implementations that decode from here on, in order."""
    seen: list[str] = []
    for module, name in ((cpu, "torch"), (reference, "reference")):
        original = module.bag_decode

        def watched(*args, _original=original, _name=name, **kwargs):
            seen.append(_name)
            return _original(*args, **kwargs)

        monkeypatch.setattr(module, "bag_decode", watched)
    return seen


def test_auto_is_plain_torch_on_a_cpu(calls: list[str]) -> None:
    sparse_decode(VALUES, INDICES, W)
    assert calls == ["torch"]


def test_environment_is_read_at_each_call(calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAETOOLS_KERNELS", "reference")
    sparse_decode(VALUES, INDICES, W)
    monkeypatch.setenv("SAETOOLS_KERNELS", "torch")
    sparse_decode(VALUES, INDICES, W)
    assert calls == ["reference", "torch"]


def test_block_outranks_environment_and_ends(calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAETOOLS_KERNELS", "reference")
    with use_implementation("torch"):
        sparse_decode(VALUES, INDICES, W)
    sparse_decode(VALUES, INDICES, W)
    assert calls == ["torch", "reference"]


def test_backward_keeps_the_implementation_of_forward(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saetools_kernels import gathered_dots as package_function
    from saetools_kernels.gathered_dots import reference as dots_reference

    assert callable(package_function)
    seen: list[bool] = []
    original = dots_reference.gathered_dots
    monkeypatch.setattr(
        dots_reference, "gathered_dots", lambda *args: seen.append(True) or original(*args)
    )
    leaf = VALUES.clone().requires_grad_()
    with use_implementation("reference"):
        out = sparse_decode(leaf, INDICES, W)
    out.sum().backward()
    assert seen == [True]


def test_triton_by_name_without_a_gpu_says_why_in_words(no_gpu: None) -> None:
    with use_implementation("triton"), pytest.raises(KernelUnavailableError) as caught:
        sparse_decode(VALUES, INDICES, W)
    message = str(caught.value)
    assert "sparse_decode" in message
    assert available().reason in message
    assert '"auto" or "torch"' in message


def test_unavailability_is_explained(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not available().ok
    monkeypatch.setattr(saetools_kernels._dispatch.importlib.util, "find_spec", lambda name: None)
    assert available() == (False, "Triton is not installed (it is published for Linux only)")


def test_a_call_that_the_triton_kernel_cannot_take_keeps_its_torch_path(no_gpu: None) -> None:
    with use_implementation("triton"):  # its kernel ranks at most 512 of a row
        assert topk_rows(torch.zeros(1, 600), 513).indices.shape == (1, 513)


@pytest.mark.parametrize("name", ["cuda", "", "Triton"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(KernelInputError, match="no implementation named"), use_implementation(name):
        pass


def test_an_unknown_name_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAETOOLS_KERNELS", "fast")
    with pytest.raises(KernelInputError, match=r"SAETOOLS_KERNELS.*'fast'"):
        sparse_decode(VALUES, INDICES, W)


def test_importing_the_package_does_not_import_triton() -> None:
    code = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "import saetools_kernels as sk, saetools_kernels.sparse_decode.cpu\n"
        "assert callable(sk.sparse_decode)\n"
        "sk.sparse_decode(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64), torch.eye(1))\n"
        "assert ('triton' in sys.modules) == before\n"
    )
    path = [str(p) for p in saetools_kernels.__path__]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path[0] + "/..", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
