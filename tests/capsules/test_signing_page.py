"""The page about signing does what it shows, and says the numbers of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import pytest
from tests.docs.walk import walk

from capsa.capsules import _signing as signing
from capsa.cli import _main
from capsa.decisions._letting_in import MAX_TRUSTED, InstallAllow

PAGE: Final = Path(__file__).parents[2] / "docs/signing.md"
TEXT: Final = PAGE.read_text()


def test_it_says_the_names_and_numbers_of_the_code() -> None:
    for allow in get_args(InstallAllow):
        assert f"\n| `{allow}` | " in TEXT
    for said in (
        f"at most {MAX_TRUSTED} keys",
        f"at most {signing.MAX_ENVELOPE_BYTES:,} bytes",
        f"at most {signing.MAX_SECTIONS:,} sections",
        f"custom section `{signing.SECTION.decode()}`",
        f'"payloadType": "{signing.PAYLOAD_TYPE}"',
        f"wrote keys/{signing.PRIVATE}",
        f"wrote keys/{signing.PUBLIC}",
    ):
        assert said in TEXT, said


@pytest.mark.skipif(not hasattr(_main, "_signing"), reason="capsa.cli._main does not have `_signing` yet")
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """From top to bottom."""
    walk(PAGE, tmp_path)
