"""Fixtures of the tests that look for configs: a home of their own, a Hub that runs, or no Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import Hub, running_hub
from vllm_kv_planner.config import online


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test sees the user's cache, token, proxy or network."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    online.forget()
    home = tmp_path / "hf-home"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are not bundled are not looked for on the Hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
