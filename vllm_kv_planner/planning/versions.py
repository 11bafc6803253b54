"""``--vllm-version``: what an older engine does otherwise, beside its memory accounting.

Blocks are planned by 0.33's rules; sizes of pages and blocks of plain attention stayed since 0.10
(the records of real engines that are kept as reference say so), what is told here did not. Memory:
see ``memory/versions.py``.
"""

from __future__ import annotations

from typing import Any

from ..engine_args.engine_args import EngineArgs, VersionDefault
from ..engine_args.setup import EngineSetup
from ..kv_cache.capacity import KVCachePlan
from ..kv_cache.specs import RequestLimits
from ..memory.versions import VersionRules, version_rules
from ..model.description import ModelDescription
from ..model.layers.base import CacheLayer
from ..model.layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ..records import replace
from ..version import VLLM, VLLM_MINOR

GATED_DELTA_EXPORTS, KIMI_DELTA_EXPORTS = (0, 33), (0, 32)
"""From these on a prefill exports a state of such layers."""
TOKENS_BY_CONCURRENCY = (0, 21)
"""From here the log's token count is concurrency x length; before, blocks x size / groups."""


def older_rules(vllm_version: str | None) -> VersionRules | None:
    """The rules of an older version; None for 0.33, whose rules are restated.

    Raises:
        UnsupportedError: A version whose rules nobody read.
    """
    rules = None if vllm_version is None else version_rules(vllm_version)
    return None if rules is None or rules.version == VLLM_MINOR else rules


def as_built(model: ModelDescription, rules: VersionRules | None) -> ModelDescription:
    """The layers as that version builds them: states exported inside a prefill are new.

    Without them there is no grid of 64 tokens that blocks keep to, and no third state.
    Source: ``mamba/gdn/qwen_gdn_linear_attn.py`` of 0.33, without a checkpoint in 0.32;
    ``mamba/kda_checkpoint.py`` of 0.31, not there in 0.30. Qwen3.6-35B-A3B-NVFP4 on 0.24 printed
    4.33x, 299 blocks of 2,096 tokens.
    """
    if rules is None:
        return model
    layers = tuple(_as_built(layer, rules) for layer in model.layers)
    return replace(
        model,
        layers=layers,
        item_rule=rules.item_rule,
        absent_backends=rules.absent_backends,
    )


def _as_built(layer: CacheLayer, rules: VersionRules) -> CacheLayer:
    if isinstance(layer, GatedDeltaNet) and rules.version < GATED_DELTA_EXPORTS:
        return replace(layer, exports_checkpoints=False)
    if isinstance(layer, KimiDeltaAttention) and rules.version < KIMI_DELTA_EXPORTS:
        return replace(layer, has_flash_prefill=False)
    return layer


def with_defaults(
    args: EngineArgs, model: ModelDescription, rules: VersionRules
) -> tuple[EngineArgs, tuple[str, ...]]:
    """The flags with that version's defaults in place of 0.33's, and notes that say so."""
    changes: dict[str, Any] = {}
    notes = [f"vLLM {rules.name}: memory by its rules, blocks by those of {VLLM}"]
    default = rules.default_gpu_memory_utilization
    given = args.gpu_memory_utilization
    if isinstance(given, VersionDefault) and given != default:
        changes["gpu_memory_utilization"] = default
        notes.append(f"gpu_memory_utilization {default}: the default of vLLM {rules.name}")
    if args.enable_prefix_caching is None and model.is_hybrid and not rules.hybrids_cache_prefixes:
        changes["enable_prefix_caching"] = False
        notes.append(f"prefix caching off: the default of vLLM {rules.name} for hybrid models")
    return (replace(args, **changes) if changes else args), tuple(notes)


def request_limits(setup: EngineSetup, rules: VersionRules | None) -> RequestLimits:
    """What bounds one request; before 0.26 a window held the tokens of one step only."""
    limits = setup.limits
    if rules is None or rules.steps_in_flight_hold_blocks:
        return limits
    return replace(limits, max_in_flight_tokens=setup.resolved.batch.max_num_batched_tokens)


def as_logged(
    blocks: KVCachePlan, rules: VersionRules | None, limits: RequestLimits
) -> KVCachePlan:
    """The plan with the token count as that version's log has it."""
    if rules is None or rules.version >= TOKENS_BY_CONCURRENCY or not blocks.workers:
        return blocks
    groups = blocks.workers[0].groups
    tokens = blocks.num_gpu_blocks // len(groups) * min(group.spec.block_size for group in groups)
    if any(spec.dcp_sharded for group in groups for spec, _ in group.distinct):
        tokens *= limits.decode_context_parallel_size  # of all ranks that share a sequence
    return replace(blocks, kv_cache_size_tokens=tokens)
