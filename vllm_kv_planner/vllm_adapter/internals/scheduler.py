"""vLLM's own scheduler for one planned engine, built as its ``EngineCore`` builds it.

Source: vLLM 0.33 ``v1/engine/core.py`` ``EngineCore.__init__`` and the end of
``_initialize_kv_caches``; 0.32 is the same.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from ...errors import UnsupportedError
from .answer import kind, layer_specs
from .names import name, version

_BASE = "vllm.v1.core.sched.scheduler"
MOST_BLOCKS = 10_000_000
"""Of a pool: vLLM makes an object of some 100 bytes for every block before the first step."""


class NoEncoderBudget:
    """In place of vLLM's ``MultiModalBudget``: every request is text.

    That class asks the model's processor for sizes, which needs files beside the config.
    """

    encoder_compute_budget = 0
    encoder_cache_size = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.mm_max_toks_per_item: dict[str, int] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """What the loop drives.

    Attributes:
        scheduler: vLLM's.
        block_hasher: What makes a request's block hashes; None where prefix caching is off.
        queue_size: Batches that may be in flight: 1, or more with asynchronous scheduling.
        settings: Everything that decides what is scheduled, as vLLM resolved it.
    """

    scheduler: Any
    block_hasher: Callable[[Any], list[Any]] | None
    queue_size: int
    settings: dict[str, Any]


def build_engine(vllm_config: Any, kv_cache_config: Any) -> Engine:
    """The scheduler, with the KV cache manager in it.

    Raises:
        UnsupportedError: What is scheduled depends on more than lengths.
    """
    refuse_what_cannot_be_driven(vllm_config)
    vllm_config.kv_events_config = None  # would publish on a socket
    if not kv_cache_config.kv_cache_groups:
        vllm_config.scheduler_config.enable_chunked_prefill = False
    block_size, hash_block_size = name("resolve_kv_cache_block_sizes")(kv_cache_config, vllm_config)
    alignment = name("resolve_cache_hit_alignment_tokens")(
        kv_cache_config, vllm_config, block_size, hash_block_size
    )
    kv_cache_config.hash_block_size = hash_block_size
    kv_cache_config.cache_hit_alignment_tokens = alignment
    scheduler_class = vllm_config.scheduler_config.get_scheduler_cls()
    sys.modules[_BASE].__dict__["MultiModalBudget"] = NoEncoderBudget
    scheduler = scheduler_class(
        vllm_config=vllm_config,
        kv_cache_config=kv_cache_config,
        structured_output_manager=name("StructuredOutputManager")(vllm_config),
        block_size=block_size,
        hash_block_size=hash_block_size,
    )
    sizes = {
        "scheduler_block_size": block_size,
        "hash_block_size": hash_block_size,
        "cache_hit_alignment_tokens": alignment,
    }
    return Engine(
        scheduler=scheduler,
        block_hasher=block_hasher(vllm_config, hash_block_size),
        queue_size=vllm_config.max_concurrent_batches,
        settings=settings(vllm_config, kv_cache_config, sizes),
    )


def refuse_what_cannot_be_driven(vllm_config: Any) -> None:
    """Refuse engines whose schedule needs the model's output, or another machine's.

    Raises:
        UnsupportedError: It is one.
    """
    model = vllm_config.model_config
    reasons = {
        "speculative decoding (how many drafts are accepted depends on the text)": (
            vllm_config.speculative_config is not None
        ),
        "diffusion models": bool(getattr(model, "is_diffusion", False)),
        "encoder-decoder models": bool(model.is_encoder_decoder),
        "pooling models": model.runner_type != "generate",
        "--kv-transfer-config (what the other cache holds is unknown)": (
            vllm_config.kv_transfer_config is not None
        ),
        "--ec-transfer-config": vllm_config.ec_transfer_config is not None,
    }
    blocks = vllm_config.cache_config.num_gpu_blocks or 0
    if blocks > MOST_BLOCKS:
        raise UnsupportedError(
            f"workload: vLLM's scheduler makes an object for each of {blocks:,} blocks, more than "
            f"{MOST_BLOCKS:,}: --planner standalone makes them when used, or give "
            "--num-gpu-blocks-override"
        )
    for reason, holds in reasons.items():
        if holds:
            raise UnsupportedError(f"workload: vLLM's scheduler is not driven with {reason}")


def block_hasher(vllm_config: Any, hash_block_size: int) -> Callable[[Any], list[Any]] | None:
    """As ``EngineCore`` makes it."""
    if not vllm_config.cache_config.enable_prefix_caching:
        return None
    hash_function = name("get_hash_fn_by_name")(vllm_config.cache_config.prefix_caching_hash_algo)
    name("init_none_hash")(hash_function)
    make: Callable[..., Callable[[Any], list[Any]]] = name("get_request_block_hasher")
    lookahead = getattr(vllm_config, "num_hash_lookahead_tokens", 0)  # new in 0.33
    return make(hash_block_size, hash_function, *([lookahead] if lookahead else []))


_SCHEDULER = (
    "max_num_seqs",
    "max_num_active_seqs",
    "max_num_batched_tokens",
    "max_num_scheduled_tokens",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
    "enable_chunked_prefill",
    "policy",
    "scheduler_reserve_full_isl",
    "watermark",
    "prefill_schedule_interval",
    "async_scheduling",
)
_CACHE = (
    "num_gpu_blocks",
    "block_size",
    "enable_prefix_caching",
    "mamba_cache_mode",
    "mamba_block_size",
    "prefix_match_unit",
    "enable_mamba_shared_prefix_checkpoint",
)
_PARALLEL = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "decode_context_parallel_size",
    "prefill_context_parallel_size",
)
_ENGINE = ("max_concurrent_batches", "max_in_flight_tokens", "use_v2_model_runner")


def settings(vllm_config: Any, kv_cache_config: Any, sizes: dict[str, int]) -> dict[str, Any]:
    """The resolved settings, ready for JSON."""
    found: dict[str, Any] = {"vllm_version": version()}
    for config, fields in (
        (vllm_config.scheduler_config, _SCHEDULER),
        (vllm_config.cache_config, _CACHE),
        (vllm_config.parallel_config, _PARALLEL),
        (vllm_config, _ENGINE),
    ):
        found |= {field: getattr(config, field) for field in fields if hasattr(config, field)}
    found["max_model_len"] = vllm_config.model_config.max_model_len
    found |= sizes
    found["groups"] = [
        group_settings(group, index) for index, group in enumerate(kv_cache_config.kv_cache_groups)
    ]
    return found


def group_settings(group: Any, index: int) -> dict[str, Any]:
    """One group's spec: every plain value it has."""
    spec = layer_specs(group)[0]
    plain = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if isinstance(getattr(spec, field.name), (int, str, float, bool, type(None)))
    }
    return {
        "group": index,
        "kind": kind(spec),
        "num_layers": len(group.layer_names),
        **plain,
        "block_size": group.kv_cache_spec.block_size,
    }
