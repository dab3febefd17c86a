"""Rules of the folder: no package named `kernels`, nothing imported from above, specs complete."""

import ast
import sys
from pathlib import Path

import saetools_kernels
from saetools_kernels.spec import OpSpec, all_specs

PACKAGE = Path(saetools_kernels.__file__).parent
OPS = sorted(path.parent for path in PACKAGE.glob("*/spec.py"))


def test_kernels_is_not_a_package() -> None:
    # A package of this name in the root would be found in place of PyPI's `kernels`, which
    # transformers imports, by every Python that is started there.
    assert not (PACKAGE.parent / "__init__.py").exists()


def test_only_torch_and_triton_are_imported() -> None:
    allowed = {"torch", "triton", "saetools_kernels", *sys.stdlib_module_names}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "saetools_kernels"]
            assert {name.partition(".")[0] for name in names} <= allowed, path.name


def test_triton_is_imported_by_kernel_files_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "kernel.py":
            assert "import triton" not in path.read_text(), path


def home(spec: OpSpec) -> Path:
    name = spec.make_inputs.__module__
    return Path(sys.modules[name].__file__).parent


def test_every_op_has_its_reference_and_fast_path_beside_it() -> None:
    assert {home(spec) for spec in all_specs().values()} == set(OPS)
    for spec in all_specs().values():
        assert (home(spec) / "reference.py").is_file(), spec.name
        assert (home(spec) / "cpu.py").is_file() != spec.composed, spec.name


def test_specs_say_truly_which_ops_have_a_triton_kernel() -> None:
    for spec in all_specs().values():
        if not spec.composed:
            has_kernel = (home(spec) / "kernel.py").is_file()
            assert ("triton" in spec.implementations) == has_kernel, spec.name


def test_every_public_op_has_a_spec() -> None:
    public = {name for name in saetools_kernels.gradients.__all__ if name[0].islower()}
    assert public <= set(saetools_kernels.__all__)
    assert public <= set(all_specs())
    for name in all_specs():  # an op without gradients is in `raw` only
        module = saetools_kernels if name in public else saetools_kernels.raw
        assert callable(getattr(module, name))


def test_public_names_are_sorted() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                names = ast.literal_eval(node.value)
                # Constants first, then classes, then functions: ruff's order.
                key = lambda n: (not n.isupper(), not n[:1].isupper(), n)  # noqa: E731
                assert names == sorted(names, key=key), path
