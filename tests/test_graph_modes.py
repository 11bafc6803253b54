"""Which CUDA graphs each mode captures, and which batch sizes.

Modes as vLLM 0.33's ``config/compilation.py`` ``CUDAGraphMode`` and ``docs/design/cuda_graphs.md``
describe them; sizes as ``config/vllm.py`` ``_set_cudagraph_sizes``.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import rank_of, setup_of
from vllm_kv_planner.memory.cuda_graphs import capture_sizes, captures, captures_full

SIZES = (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
"""``[1, 2, 4] + range(8, 256, 8) + range(256, 513, 16)``: 51 of them, as logs count."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def mode(value: Any) -> dict[str, Any]:
    return {"compilation_config": {"cudagraph_mode": value}}


@pytest.mark.parametrize(
    ("flags", "name", "piecewise", "full"),
    [
        ({}, "FULL_AND_PIECEWISE", True, "decodes"),
        (mode("FULL"), "FULL", False, "all"),
        (mode(2), "FULL", False, "all"),
        (mode("full_decode_only"), "FULL_DECODE_ONLY", False, "decodes"),
        (mode("CUDAGraphMode.PIECEWISE"), "PIECEWISE", True, "none"),
        (mode(1), "PIECEWISE", True, "none"),
        (mode(0), "NONE", False, "none"),
        ({"optimization_level": "0"}, "NONE", False, "none"),
        ({"optimization_level": "1"}, "PIECEWISE", True, "none"),
        ({"optimization_level": "2"}, "FULL_AND_PIECEWISE", True, "decodes"),
        ({"optimization_level": "0", **mode("PIECEWISE")}, "PIECEWISE", True, "none"),
        ({"enforce_eager": True, **mode("FULL")}, "NONE", False, "none"),
    ],
)
def test_modes(flags: dict[str, Any], name: str, piecewise: bool, full: str) -> None:
    """64 requests: decode batches are no larger."""
    rank = rank_of(setup_of(max_num_seqs=64, **flags))
    sizes = (1, 2, 4, *range(8, 129, 8))  # twice the requests at most
    found = captures(rank)
    assert found.mode == name
    assert found.piecewise == (sizes if piecewise else ())
    decodes = tuple(size for size in sizes if size <= 64)
    assert found.full == {"all": sizes, "decodes": decodes, "none": ()}[full]
    assert captures_full(rank) == (full != "none")


@pytest.mark.parametrize(
    ("flags", "version", "expected"),
    [
        ({}, "0.19.0", SIZES),
        ({"max_num_seqs": 4096, "max_num_batched_tokens": 4096}, "0.19.0", SIZES),
        # Blackwell from 0.29 on: twice as far
        ({"gpu": "B200"}, "0.28.0", SIZES),
        ({"gpu": "B200"}, "0.29.0", (*SIZES, *range(528, 1025, 16))),
        # a step smaller than that: from 0.22 on its own size, too
        ({"max_num_batched_tokens": 100, "max_num_seqs": 100}, "0.21.0", SIZES[:15]),
        ({"max_num_batched_tokens": 100, "max_num_seqs": 100}, "0.22.0", (*SIZES[:15], 100)),
        # from 0.29 on the number of requests, where nobody chose
        ({"max_num_seqs": 30}, "0.28.0", (1, 2, 4, *range(8, 61, 8))),
        ({"max_num_seqs": 30}, "0.29.0", (1, 2, 4, 8, 16, 24, 30, 32, 40, 48, 56)),
        (
            {"max_num_seqs": 30, "max_cudagraph_capture_size": 60},
            "0.29.0",
            (1, 2, 4, *range(8, 61, 8)),
        ),
        (
            {"compilation_config": {"max_cudagraph_capture_size": 3}},
            "0.29.0",
            (1, 2),
        ),
        # chosen one by one
        ({"cudagraph_capture_sizes": (64, 8, 8, 10_000)}, "0.33.0", (8, 64)),
        ({"compilation_config": {"cudagraph_capture_sizes": [7, 3]}}, "0.33.0", (3, 7)),
    ],
)
def test_sizes(flags: dict[str, Any], version: str, expected: tuple[int, ...]) -> None:
    assert capture_sizes(rank_of(setup_of(**flags), version)) == expected


def test_drafts_make_decode_batches_longer() -> None:
    """Three drafted tokens and one: a decode step has four a request, none has fewer."""
    config = {"method": "ngram", "num_speculative_tokens": 3}
    found = captures(rank_of(setup_of(max_num_seqs=32, speculative_config=config)))
    assert found.piecewise == (1, 2, 4, *range(8, 256, 8), 256)
    assert found.full == (4, *range(8, 129, 8))
