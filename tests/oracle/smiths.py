"""Tools with random code inside, made by `crates/capsa-fuzz/examples/smith.rs`, which `cargo test` builds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
#: Each is an input: which functions are called and with what follows from it.
INPUTS: Final = tuple(str(number) for number in range(6))


def made(folder: Path) -> list[Path]:
    """So many tools, from the number `CAPSA_SMITH_FIRST` (0) on as many as `CAPSA_SMITH_COUNT` (300) says.

    Skips the test where the maker has not been built, unless `CAPSA_REQUIRE_SMITH` is 1.
    """
    smith = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "smith"
    if not smith.exists():
        why = f"{smith} is missing: `cargo test --release --workspace --no-run` builds it"
        assert os.environ.get("CAPSA_REQUIRE_SMITH") != "1", why
        pytest.skip(why)
    first = os.environ.get("CAPSA_SMITH_FIRST", "0")
    count = os.environ.get("CAPSA_SMITH_COUNT", "300")
    subprocess.run([smith, folder, first, count], check=True)
    return sorted(folder.iterdir(), key=lambda path: int(path.stem))
