"""vLLM's ``EngineCore._initialize_kv_caches``, step for step, without a device.

vLLM's own: configs, model classes, attention backends, block size, layer specs, layout, groups,
blocks, capacity. Replaced: process groups (fake), weights (meta tensors), the memory profile.

A real engine has a process per rank, each with its own copy of the config, which it changes. With
one rank there is one copy. Both are mirrored: a single rank is built in this process; of several,
the first of every pipeline stage is, each in a fork (tensor-parallel ranks of a stage are alike).

Source: ``v1/engine/core.py`` of vLLM 0.33; 0.26 to 0.32 have the same steps with the groups made
last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .memory import KVMemory, kv_memory
from .names import name, one_line, optional_name
from .planning import Planning, check_kernel_blocks, own_length
from .worker import RankReport, run_rank, run_rank_in_child


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """vLLM's own answers, undigested.

    Attributes:
        ranks: The first rank of every pipeline stage.
        configs: vLLM's ``KVCacheConfig`` of each of them.
        memory: KV memory of every rank.
        available: The same in bytes, of each stage.
        bytes_per_block: On each of them.
        num_blocks: What each one's memory holds; the engine takes the least.
        num_gpu_blocks: As the engine logs it.
        kv_cache_size_tokens: As the engine logs it.
        max_concurrency: As the engine logs it.
        max_model_len_that_fits: vLLM's own estimate, up to the model's own length.
        refusals: What vLLM says against the memory; empty where it fits.
        scheduler_config: The one ``KVCacheConfig`` the scheduler works with.
    """

    ranks: list[RankReport]
    configs: list[Any]
    memory: KVMemory
    available: list[int]
    bytes_per_block: list[int]
    num_blocks: list[int]
    num_gpu_blocks: int
    kv_cache_size_tokens: int
    max_concurrency: float
    max_model_len_that_fits: int
    refusals: list[str]
    scheduler_config: Any


def initialize_kv_caches(
    vllm_config: Any,
    explain: Callable[[BaseException], str],
    stage_memory: list[int] | None = None,
) -> EngineReport:
    """Plan the KV cache of this engine.

    Args:
        vllm_config: vLLM's own.
        explain: Puts a rank's exception in one line.
        stage_memory: Bytes of KV memory of every pipeline stage, where somebody predicted them.
    """
    name("register_all_kvcache_specs")(vllm_config)
    parallel = vllm_config.parallel_config
    per_stage = parallel.world_size // parallel.pipeline_parallel_size
    longest_asked = own_length(vllm_config)  # a model class may change the config it asks
    ranks = run_ranks(vllm_config, per_stage, explain)
    specs = [rank.specs for rank in ranks for _ in range(per_stage)]
    settle_causality(vllm_config, specs)
    planning = Planning(vllm_config)
    groups = settle_layout(
        vllm_config, planning, [rank.layouts for rank in ranks for _ in range(per_stage)], specs
    )
    memory = KVMemory(available_bytes=0, provenance="no layer keeps a cache")
    if any(specs):
        memory = kv_memory(vllm_config, max(rank.weights_bytes for rank in ranks))
    available = stage_memory or [memory.available_bytes] * len(ranks)
    each_rank = [size for size in available for _ in range(per_stage)]
    configs = planning.configs(specs, each_rank, groups)
    scheduler = name("generate_scheduler_kv_cache_config")(configs)
    tokens, concurrency = settle_blocks(vllm_config, scheduler)
    firsts = configs[::per_stage]
    for config, rank in zip(firsts, ranks, strict=True):
        check_kernel_blocks(vllm_config, config, rank.backend_of)
    per_block = [
        planning.bytes_per_block(c.kv_cache_groups) if c.kv_cache_groups else 0 for c in firsts
    ]
    budgets = [
        budget(vllm_config, held, size) for held, size in zip(available, per_block, strict=True)
    ]
    refuse_without_states(vllm_config, ranks, scheduler, planning.refusals)
    return EngineReport(
        ranks=ranks,
        configs=firsts,
        memory=memory,
        available=available,
        bytes_per_block=per_block,
        num_blocks=[
            held // size if size else 1 for held, size in zip(budgets, per_block, strict=True)
        ],
        num_gpu_blocks=scheduler.num_blocks,
        kv_cache_size_tokens=tokens,
        max_concurrency=concurrency,
        max_model_len_that_fits=longest(planning, firsts, budgets, per_block, longest_asked),
        refusals=planning.refusals,
        scheduler_config=scheduler,
    )


def run_ranks(
    vllm_config: Any, per_stage: int, explain: Callable[[BaseException], str]
) -> list[RankReport]:
    """The first rank of every pipeline stage: here if it is the only one, else each in a fork."""
    parallel = vllm_config.parallel_config
    if parallel.world_size == 1:
        return [run_rank(vllm_config, 0)]
    return [
        run_rank_in_child(vllm_config, stage * per_stage, explain)
        for stage in range(parallel.pipeline_parallel_size)
    ]


def refuse_without_states(
    vllm_config: Any, ranks: list[RankReport], scheduler: Any, refusals: list[str]
) -> None:
    """What vLLM says against full CUDA graphs with fewer states than sequences.

    The runner asks once its cache is there, with what every backend's graphs can do; the mode it
    settles on stays with this copy of the config. 0.26 to 0.33 ask alike; a version that asks
    otherwise ends in its own words, and not in a plan without the check.
    """
    if not scheduler.has_mamba_layers:
        return
    compilation = vllm_config.compilation_config
    mode = compilation.cudagraph_mode
    speculative = vllm_config.speculative_config
    drafted = 0 if speculative is None else speculative.num_speculative_tokens or 0
    with name("set_current_vllm_config")(vllm_config):  # some builders ask for it
        supports = [
            backend.get_builder_cls().get_cudagraph_support(vllm_config, rank.specs[layer])
            for rank in ranks
            for layer, backend in rank.backend_of.items()
            if layer in rank.specs
        ]
    if not supports:
        return
    try:
        compilation.resolve_cudagraph_mode_and_sizes(
            min(supports, key=lambda support: support.value),
            None,
            1 + drafted,
            use_v2_model_runner=bool(vllm_config.use_v2_model_runner),
            kv_cache_config=scheduler,
            max_num_reqs=vllm_config.scheduler_config.max_num_seqs,
        )
    except ValueError as error:
        if "Mamba cache blocks" in str(error):
            # whether a larger share would help is planned, not guessed
            refusals.append(one_line(str(error)).replace(" or increase gpu_memory_utilization", ""))
    finally:
        compilation.cudagraph_mode = mode


def settle_blocks(vllm_config: Any, scheduler: Any) -> tuple[int, float]:
    """Write blocks and block size into the config; the tokens and requests they hold."""
    cache = vllm_config.cache_config
    cache.num_gpu_blocks = scheduler.num_blocks
    tokens, concurrency = 0, 0.0
    if scheduler.kv_cache_groups:
        cache.block_size = engine_block_size(scheduler.kv_cache_groups)
        tokens, concurrency = name("get_kv_cache_capacity")(vllm_config, scheduler)
    vllm_config.validate_block_size()
    name("resolve_kv_cache_block_sizes")(scheduler, vllm_config)
    return tokens, concurrency


def longest(
    planning: Planning, configs: list[Any], budgets: list[int], per_block: list[int], asked: int
) -> int:
    """Tokens of the longest request that every rank can hold, one block of each set aside."""
    lengths = [
        planning.longest(config.kv_cache_groups, held - size, asked)
        for config, held, size in zip(configs, budgets, per_block, strict=True)
        if config.kv_cache_groups
    ]
    return min(lengths, default=asked)


def settle_layout(
    vllm_config: Any, planning: Planning, layouts: list[list[str]], specs: list[dict[str, Any]]
) -> list[Any] | None:
    """Have the ranks' layout settled, and the groups made where that comes before the memory.

    0.33 makes the groups before the workers hear of the layout, 0.29 to 0.32 afterwards; before
    0.29 the engine settles no layout, and each backend asks for its own.
    """
    resolve = optional_name("resolve_kv_cache_layout")
    if resolve is None:
        return planning.global_groups(specs)
    layout = resolve(vllm_config, layouts, [spec for layers in specs for spec in layers.values()])
    groups = planning.global_groups(specs)
    name("record_kv_cache_layout")(vllm_config.cache_config, layout.name)
    return groups


def settle_causality(vllm_config: Any, specs: list[dict[str, Any]]) -> None:
    """Layers that look ahead (prefix LM) rule out chunked prefill and prefix caching."""
    if any(getattr(spec, "non_causal", False) for layers in specs for spec in layers.values()):
        vllm_config.scheduler_config.enable_chunked_prefill = False
        vllm_config.cache_config.enable_prefix_caching = False


def engine_block_size(groups: list[Any]) -> int:
    """The block size the engine reports: the smallest that prefix caching can use.

    Before 0.30 no spec says whether it can, and all count.
    """
    specs = [group.kv_cache_spec for group in groups]
    cacheable = [spec for spec in specs if getattr(spec, "prefix_cacheable", True)]
    return int(min(spec.block_size for spec in cacheable or specs))


def budget(vllm_config: Any, available: int, bytes_per_block: int) -> int:
    """A rank's bytes after ``--num-gpu-blocks-override``, never below nothing."""
    override = vllm_config.cache_config.num_gpu_blocks_override
    return max(available, 0) if override is None else override * bytes_per_block
