"""The fixture that writes traces, for tests that read them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trace_files import Write, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)
