"""Write ``tests/data/vllm_0_33_cache.jsonl``: mixes of cache layers, and what vLLM makes of them.

    PYTHON tools/make_cache_cases.py tests/data/vllm_0_33_cache.jsonl [SEED]

Needs a Python that has vLLM 0.33, no GPU. Each line holds cache specs (fields of our classes), the
pattern in which layers carry them, what backends can read and how much memory two pipeline stages
or one have; and what vLLM's own ``kv_cache_planning`` answers: layout, groups, bytes per block,
blocks, longest length and concurrency, or the kind of its refusal.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from vllm.v1 import kv_cache_interface as interface
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends import utils as backends
from vllm.v1.core import kv_cache_config_builder, kv_cache_planning, kv_cache_utils
from vllm.v1.kv_cache_layout import KVCacheLayout

LAYOUTS = [layout.name for layout in KVCacheLayout]
ROWS, PROMOTED = 300, 80


def spec(draw: random.Random) -> dict[str, Any]:
    """Fields of one of our cache specs."""
    kind = draw.choice(
        [*["FullAttentionSpec", "SlidingWindowSpec", "MLAAttentionSpec", "MambaSpec"] * 3]
        + ["ChunkedLocalAttentionSpec", "CircularBufferSpec", "SlidingWindowMLASpec"] * 2
        + ["CrossAttentionSpec"]
    )
    if kind == "MambaSpec":
        return {
            "kind": kind,
            "block_size": draw.choice([64, 1024]),
            "state_bytes": draw.choice([40_000, 65_536, 1_100_000]),
            "num_speculative_blocks": draw.choice([0, 0, 3]),
            "num_prefill_checkpoint_blocks": draw.choice([0, 0, 2]),
            "tp_replicated": draw.choice([False, False, True]),
        }
    made: dict[str, Any] = {
        "kind": kind,
        "block_size": draw.choice([16, 16, 32, 64]),
        "num_kv_heads": 1 if "MLA" in kind or "Circ" in kind else draw.choice([1, 2, 4, 8]),
        "head_size": draw.choice([64, 128, 192, 576] if "MLA" in kind else [64, 80, 128]),
        "dtype_bytes": draw.choice([1, 2, 2]),
    }
    made["head_size_v"] = 0 if "MLA" in kind else draw.choice([made["head_size"], 64])
    if draw.random() < 0.2:
        made["dcp_sharded"] = False
    if draw.random() < 0.1:
        made["num_head_slots"] = draw.choice([1, 3])
    if draw.random() < 0.1:
        made["state_content_bytes"] = draw.choice([132, 656])
    if draw.random() < 0.15:
        made.update(draw.choice([{"block_stride_bytes": 4096}, {"block_stride_tokens": 16}]))
    if kind == "FullAttentionSpec" and draw.random() < 0.25:
        made.update(draw.choice([{"sliding_window": 512}, {"attention_chunk_size": 2048}]))
    if "MLA" in kind:
        made["alignment"] = draw.choice([1, 1, 576, 4096])
        made["tokens_per_state"] = draw.choice([1, 1, 4])
    if kind == "MLAAttentionSpec":
        made["cache_role"] = draw.choice(["sparse", "sparse", "indexer"])
    if kind == "FullAttentionSpec" and draw.random() < 0.1:
        made["tokens_per_state"] = 0.25
    if "Sliding" in kind:
        made["sliding_window"] = draw.choice([128, 1024])
        made["extra_retained_tokens"] = draw.choice([0, 0, 2])
    if kind == "SlidingWindowMLASpec":  # vLLM's own merge does not look at their widths
        made = {**made, "head_size": 576, "dtype_bytes": 1, "dcp_sharded": True}
        made["bounded_replay"] = draw.choice([False, True])
        made.pop("num_head_slots", None)
        made.pop("state_content_bytes", None)
    if kind == "ChunkedLocalAttentionSpec":
        made["attention_chunk_size"] = draw.choice([2048, 8192])
    return made


def case(draw: random.Random) -> dict[str, Any]:
    """Specs, the layers that carry them, and everything else the answer follows from."""
    specs = [spec(draw) for _ in range(draw.choice([1, 2, 2, 3, 4]))]
    if len(specs) > 1 and draw.random() < 0.5:
        varied = dict(specs[0])
        key = "head_size" if "head_size" in varied else "state_bytes"
        varied[key] *= 1 if varied["kind"] == "SlidingWindowMLASpec" else draw.choice([1, 2])
        specs[1] = varied
    pattern = [draw.randrange(len(specs)) for _ in range(draw.choice([1, 2, 3, 5, 6]))]
    pattern = (pattern * draw.choice([1, 2, 5]) + pattern[: draw.choice([0, 0, 1])])[:26]
    readable = [
        draw.choice([None, draw.sample(LAYOUTS, draw.choice([1, 3, 6])), ["BLNHC", "LBNHC"]])
        for _ in range(draw.choice([1, 1, 2, 3]))
    ]
    return {
        "specs": specs,
        "pattern": pattern,
        "stages": draw.choice([1, 1, 2]) if len(pattern) > 1 else 1,
        "backends": readable,
        "hybrid": draw.random() < 0.8,
        "memory": draw.choice([3 << 20, 1 << 30, 40 << 30]),
        "override": draw.choice([None, None, None, 77]),
        "model_max_len": draw.choice([4096, 131_072]),
        "auto": draw.random() < 0.3,
        "limits": {
            "max_model_len": 4096,
            "max_in_flight_tokens": draw.choice([512, 8192]),
            "decode_context_parallel_size": draw.choice([1, 1, 1, 2]),
            "max_num_encoder_input_tokens": 1500,
            "mamba_cache_mode": draw.choice(["none", "align", "all"]),
        },
    }


def promoted(draw: random.Random) -> dict[str, Any]:
    """Windows, chunks and full attention of one format, without the hybrid manager."""
    row = case(draw)
    same = {"num_kv_heads": 4, "head_size": 64, "head_size_v": 64, "dtype_bytes": 2}
    kinds = {
        "FullAttentionSpec": {},
        "SlidingWindowSpec": {"sliding_window": 512},
        "ChunkedLocalAttentionSpec": {"attention_chunk_size": 2048},
    }
    chosen = ["FullAttentionSpec", *draw.choices(list(kinds), k=draw.choice([1, 1, 2]))]
    specs = [
        {"kind": kind, "block_size": draw.choice([16, 16, 32]), **same, **kinds[kind]}
        for kind in (chosen if draw.random() < 0.9 else chosen[1:])
    ]
    for each in specs:
        if draw.random() < 0.2:
            each["page_size_padded"] = 4 * each["block_size"] * 256 + 4096
    pattern = [index % len(specs) for index in range(draw.choice([2, 5, 6]))]
    return {**row, "specs": specs, "pattern": pattern, "hybrid": draw.random() < 0.2}


def vllm_spec(fields: dict[str, Any]) -> Any:
    """The same as vLLM's class."""
    kept = dict(fields)
    kind = getattr(interface, kept.pop("kind"))
    if "state_bytes" in kept:
        return kind(shapes=((kept.pop("state_bytes"),),), dtypes=(torch.int8,), **kept)
    kept["dtype"] = {1: torch.int8, 2: torch.bfloat16}[kept.pop("dtype_bytes")]
    if "tokens_per_state" in kept:
        kept["tokens_per_state"] = Fraction(kept["tokens_per_state"])
        if kept["tokens_per_state"] >= 1:
            kept["tokens_per_state"] = int(kept["tokens_per_state"])
    if "cache_role" in kept:
        kept["cache_role"] = interface.SparseCacheRole(kept["cache_role"])
    if kept.get("alignment") == 1:
        del kept["alignment"]
    if "block_stride_bytes" in kept:
        kept["block_stride_alignment"] = kept.pop("block_stride_bytes")
    if "block_stride_tokens" in kept:
        kept["block_stride_alignment"] = MultipleOf(kept.pop("block_stride_tokens"))
    return kind(**kept)


def config(row: dict[str, Any]) -> Any:
    """What of vLLM's config the planning code reads."""
    limits = row["limits"]
    cache = SimpleNamespace(
        kv_cache_layout=None,
        num_gpu_blocks_override=row["override"],
        prefix_cache_retention_interval=None,
        mamba_cache_mode=limits["mamba_cache_mode"],
    )
    cache.get_resolved_kv_cache_layout = lambda: KVCacheLayout[cache.kv_cache_layout]
    longest = row["model_max_len"] if row["auto"] else limits["max_model_len"]
    return SimpleNamespace(
        cache_config=cache,
        model_config=SimpleNamespace(
            max_model_len=longest,
            original_max_model_len=-1 if row["auto"] else longest,
            supports_kv_cache_grouping=False,
        ),
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=limits["decode_context_parallel_size"],
            prefill_context_parallel_size=1,
            tensor_parallel_size=8,
        ),
        scheduler_config=SimpleNamespace(
            disable_hybrid_kv_cache_manager=not row["hybrid"],
            max_num_encoder_input_tokens=limits["max_num_encoder_input_tokens"],
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        device_config=SimpleNamespace(device_type="cuda"),
        kv_transfer_config=None,
        max_in_flight_tokens=limits["max_in_flight_tokens"],
    )


def answer(row: dict[str, Any]) -> dict[str, Any]:
    """What vLLM's planning code makes of it."""
    vllm_config = config(row)
    specs = [vllm_spec(fields) for fields in row["specs"]]
    names = {str(index): specs[which] for index, which in enumerate(row["pattern"])}
    half = len(names) // 2 if row["stages"] == 2 else len(names)
    parts = [dict(list(names.items())[:half]), dict(list(names.items())[half:])][: row["stages"]]
    readers = [
        SimpleNamespace(
            supported_kv_cache_layouts=lambda each=each: (
                None if each is None else [KVCacheLayout[name] for name in each]
            )
        )
        for each in row["backends"]
    ]
    supported = [layout.name for layout in backends.get_supported_kv_cache_layouts(readers)]
    layout = backends.resolve_kv_cache_layout(vllm_config, [supported], list(names.values()))
    found: dict[str, Any] = {"layout": layout.name}
    builder = kv_cache_planning.DefaultKVCacheConfigBuilder()
    groups = kv_cache_planning.get_kv_cache_groups_from_builder(builder, vllm_config, dict(names))
    found["groups"] = [sorted(group.layer_names, key=int) for group in groups]
    found["pages"] = [group.kv_cache_spec.page_size_bytes for group in groups]
    whole = [kv_cache_planning._project_kv_cache_groups_to_worker(groups, part) for part in parts]
    found["bytes_per_block"] = [
        kv_cache_planning._get_kv_cache_bytes_per_block(each, layout) for each in whole
    ]
    memories = [row["memory"] // (index + 1) for index in range(len(parts))]
    if row["override"] is not None:
        memories = [row["override"] * size for size in found["bytes_per_block"]]
    vllm_config.model_config.max_model_len = row["model_max_len"]
    found["longest"] = min(
        kv_cache_planning._estimate_max_model_len_from_groups(
            builder, vllm_config, each, memory - size
        )
        for each, memory, size in zip(whole, memories, found["bytes_per_block"], strict=True)
    )
    vllm_config = config(row)
    vllm_config.cache_config.kv_cache_layout = layout.name
    with contextlib.suppress(ValueError):  # not enough memory: "longest" says so
        made = kv_cache_planning.get_kv_cache_configs(vllm_config, parts, memories, groups)
        found["num_blocks"] = made[0].num_blocks
        found["max_model_len"] = vllm_config.model_config.max_model_len
        scheduler = kv_cache_utils.generate_scheduler_kv_cache_config(made)
        found["max_concurrency"] = kv_cache_utils.get_max_concurrency_for_kv_cache_config(
            vllm_config, scheduler
        )
    return found


def main() -> int:
    """Draw, ask and write."""
    draw = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 33)
    rows: list[str] = []
    default = kv_cache_planning.DefaultKVCacheConfigBuilder()
    with mock.patch.object(
        kv_cache_config_builder, "get_kv_cache_config_builder", lambda _: default
    ):
        for make in [case] * ROWS + [promoted] * PROMOTED:
            row = make(draw)
            try:
                row["answer"] = answer(row)
            except Exception as error:  # vLLM refuses in many ways, some of them by accident
                row["answer"] = {"refused": f"{type(error).__name__}: {error}"[:100]}
            rows.append(json.dumps(row, separators=(",", ":")))
    Path(sys.argv[1]).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
