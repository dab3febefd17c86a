"""The wheel holds the two packages and their data, and nothing of the workshop around them."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_the_library_and_its_data(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    source = tmp_path / "source"
    for name in filter(None, tracked):
        path = ROOT / name
        if path.is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"saetools", "saetools_kernels"}
    for needed in (
        "saetools/py.typed",
        "saetools_kernels/py.typed",
        "saetools/cli/demo_encoder.yaml",
        "saetools/cli/demo_planted.yaml",
        "saetools/explore/static/page.html",
        "saetools/models/data/planted/base/model.safetensors",
        "saetools/models/data/planted/oracle-1/SHA256SUMS",
        "saetools/sae/archs/matryoshka.py",
        "saetools_kernels/sparse_decode/kernel.py",
    ):
        assert needed in names
