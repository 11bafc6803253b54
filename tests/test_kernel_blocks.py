"""Groups whose attention backends share no block size."""

from __future__ import annotations

import pytest

from tests.memory_engines import GIB, setup_of
from vllm_kv_planner.engine_args.attention_backend.declaration import exactly, multiple_of
from vllm_kv_planner.engine_args.block_size import share_one
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.planning.standalone import plan_blocks

MINIMAX = "nvidia/MiniMax-M3-NVFP4"


@pytest.mark.parametrize(
    ("block_size", "wanted", "shared"),
    [
        (128, [exactly(16, 32, 64), exactly(128)], False),
        (128, [exactly(16, 32, 64), exactly(64, 128)], True),  # cut in two
        (128, [multiple_of(16), exactly(128)], True),
        (48, [exactly(16, 32)], True),
        (48, [exactly(32)], False),
        (48, [multiple_of(32)], False),
        (48, [multiple_of(16), exactly(16, 32)], True),
        (48, [], True),
    ],
)
def test_a_size_for_all(block_size: int, wanted: list[object], shared: bool) -> None:
    """``select_common_block_size`` of vLLM 0.33, by hand."""
    assert share_one(block_size, wanted) is shared  # type: ignore[arg-type]


def test_sparse_layers_beside_flashinfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM 0.33 on L4: No common block size for 128 (FLASHINFER: [16, 32, 64]; …: [128])."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flags = {"tensor_parallel_size": 8, "kv_cache_dtype": "fp8"}
    refused, fine, larger = (setup_of(MINIMAX, gpu, **flags) for gpu in ("L4", "H100", "B200"))
    with pytest.raises(UnsupportedError, match=r"size for 128 \(FLASHINFER: 16, 32"):
        plan_blocks(refused, [4 * GIB], refused.limits)
    for setup in (fine, larger):  # FlashInfer takes blocks of 128 on B200
        assert plan_blocks(setup, [4 * GIB], setup.limits).num_gpu_blocks > 0
