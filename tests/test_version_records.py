"""Every answer of an older vLLM's own planning code comes out the same for its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.parity import compared
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.version import VLLM_VERSION
from vllm_kv_planner.vllm_adapter.internals.names import TESTED

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("offline")
ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "data/vllm_versions.jsonl").read_text().splitlines()
]
"""Made by ``benchmarks/parity.py --families --output FILE`` with the wheels of 0.26 to 0.32."""
SHOWN_OTHERWISE = {"zai-org/GLM-5.3-Flash": ("groups", "bytes_per_block")}
"""0.30 and 0.31 group its states otherwise: pages of one layer, and 0.04 % fewer bytes a block."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['vllm_version']} {row['id']}")
def test_same_as_that_version(row: dict[str, Any]) -> None:
    arguments, model = row["arguments"], row["id"].split()[0]
    request = plan_request(model, gpu="H100", vllm_version=row["vllm_version"], **arguments)
    ours = compared(plan_of(request))
    theirs = row["vllm"]
    if row["vllm_version"] in ("0.30.0", "0.31.0"):
        for key in SHOWN_OTHERWISE.get(model, ()):
            ours.pop(key), theirs.pop(key)
    assert json.loads(json.dumps(ours)) == theirs


def test_every_tested_version_has_records() -> None:
    found = {row["vllm_version"].rpartition(".")[0] for row in ROWS}
    assert found | {VLLM_VERSION.rpartition(".")[0]} == set(TESTED)
    hybrids = {row["vllm_version"] for row in ROWS if "mamba" in json.dumps(row["vllm"])}
    assert len(hybrids) == len(found)
