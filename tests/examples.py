"""Examples run as a user would: alone, offline, with an empty home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def output_of(example: str, *arguments: str) -> str:
    """What ``examples/NAME.py`` prints; it must succeed and complain of nothing."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": "/nonexistent"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
