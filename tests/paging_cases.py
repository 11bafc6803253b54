"""The model and the figures that the tests of ``paging`` share."""

from __future__ import annotations

from typing import Any

from vllm_kv_planner.capacity.paged import PagedScenario
from vllm_kv_planner.capacity.paging import paging

GIB = 1 << 30

LLAMA = "meta-llama/Llama-2-70b-hf"

PER_TOKEN = 327_680


def one(model: Any, scenario: str, **flags: Any) -> PagedScenario:
    return paging(model, [scenario], **flags).scenarios[0]
