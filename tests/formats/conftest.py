"""Makes `format_weights`, which the tests of formats share, importable: tests are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
