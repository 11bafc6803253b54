"""Blocks that a generating request holds, counted by vLLM 0.33's own managers."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner.capacity.paged import held_of_group
from vllm_kv_planner.kv_cache.group import KVCacheGroup
from vllm_kv_planner.kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)

PYTHON = interpreter(CUDA)
STEP, PROMPT, LONGEST = 256, 700, 3000
CASES = [
    ("full", 0, 16),
    ("full", 0, 128),
    ("window", 1024, 16),
    ("window", 1000, 16),
    ("window", 128, 64),
    ("window", 17, 16),
    ("chunk", 512, 16),
    ("chunk", 500, 16),
    ("state", 0, 64),
    ("state", 0, 528),
]

SCRIPT = """
import json, sys
import torch
from vllm.v1.core import single_type_kv_cache_manager as managers
from vllm.v1.core.block_pool import BlockPool
from vllm.v1 import kv_cache_interface as specs

step, prompt, longest, cases = json.loads(sys.argv[1])
kinds = {
    "full": (managers.FullAttentionManager, specs.FullAttentionSpec, None),
    "window": (managers.SlidingWindowManager, specs.SlidingWindowSpec, "sliding_window"),
    "chunk": (
        managers.ChunkedLocalAttentionManager,
        specs.ChunkedLocalAttentionSpec,
        "attention_chunk_size",
    ),
}
kinds["state"] = (managers.MambaManager, specs.MambaSpec, None)
answers = []
for kind, size, block_size in cases:
    manager_class, spec_class, name = kinds[kind]
    shape = dict(block_size=block_size, num_kv_heads=1, head_size=64, dtype=torch.bfloat16)
    if kind == "state":
        shape = dict(
            block_size=block_size,
            shapes=((64, 64),),
            dtypes=(torch.bfloat16,),
            mamba_cache_mode="align",
            num_prefill_checkpoint_blocks=1,
            prefill_checkpoint_alignment=1,
        )
    spec = spec_class(**shape, dcp_sharded=False, **({name: size} if name else {}))
    manager = manager_class(
        spec,
        block_pool=BlockPool(10_000, False, block_size),
        enable_caching=False,
        kv_cache_group_id=0,
        scheduler_block_size=block_size,
    )
    done, held, peak = 0, {}, 0
    while done < longest:
        tokens = min(step, prompt - done) if done < prompt else 1
        manager.remove_skipped_blocks("r", done)
        manager.get_num_blocks_to_allocate(
            "r", done + tokens, [], done, 0, done + tokens, prefill_end=prompt
        )
        manager.allocate_new_blocks("r", done + tokens, done + tokens)
        done += tokens
        count = sum(not block.is_null for block in manager.req_to_blocks["r"])
        if done > prompt:
            held[done] = count
        else:
            peak = max(peak, count)
    answers.append([held, peak])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def counted() -> list[tuple[dict[str, int], int]]:
    arguments = json.dumps([STEP, PROMPT, LONGEST, CASES])
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, arguments], capture_output=True, text=True, check=True
    )
    answers: list[tuple[dict[str, int], int]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def spec_of(kind: str, size: int, block_size: int) -> KVCacheSpec:
    shape = {"num_kv_heads": 1, "head_size": 64, "head_size_v": 64, "dtype_bytes": 2}
    if kind == "window":
        return SlidingWindowSpec(block_size=block_size, sliding_window=size, **shape)
    if kind == "state":
        return MambaSpec(block_size=block_size, state_bytes=8192, num_prefill_checkpoint_blocks=1)
    if kind == "chunk":
        return ChunkedLocalAttentionSpec(block_size=block_size, attention_chunk_size=size, **shape)
    return FullAttentionSpec(block_size=block_size, **shape)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_vllm_holds_no_more_and_hardly_less(
    number: int, counted: list[tuple[dict[str, int], int]]
) -> None:
    group = KVCacheGroup.of({"layer": spec_of(*CASES[number])}, one_spec=True)
    limits = RequestLimits(
        max_model_len=LONGEST, max_in_flight_tokens=STEP, mamba_cache_mode="align"
    )
    held, peak = counted[number]
    assert len(held) == LONGEST - PROMPT
    ours = {
        tokens: held_of_group(group, group.page_size_bytes, limits, int(tokens)) for tokens in held
    }
    assert all(count <= ours[tokens].blocks for tokens, count in held.items())
    # and hardly more: vLLM's own bound counts a block for a window that starts inside one
    assert min(ours[tokens].blocks - count for tokens, count in held.items()) <= 1
    if CASES[number][0] == "full":
        assert all(count == ours[tokens].blocks for tokens, count in held.items())
    assert peak <= held_of_group(group, group.page_size_bytes, limits, PROMPT).peak_blocks
