"""Published starts: the memory that an engine printed makes as many tokens as it printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.later_starts import FILE, GIB, planned

RECORDS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
GIVEN = [each for each in RECORDS if each["kv_tokens"] and each["vllm"] != "0.10.0"]


@pytest.mark.parametrize("record", GIVEN, ids=lambda each: f"{each['model']}-{each['source']}")
def test_tokens_are_those_that_were_printed(record: dict[str, Any]) -> None:
    """Within what the printed memory leaves open: half of 0.01 GiB, and a block."""
    size = int(record["available_kv_gib"] * GIB)
    cache = planned(record, "--kv-cache-memory-bytes", str(size)).kv_cache
    assert cache.kv_cache_size_tokens is not None
    rounded = 0.005 / record["available_kv_gib"] + 2 * cache.bytes_per_block / size
    assert abs(cache.kv_cache_size_tokens / record["kv_tokens"] - 1) < rounded
