"""``--vllm-version``: what an older engine does otherwise, beside its memory accounting.

The rules are data of ``engine_args/versions.py`` (defaults, blocks, groups) and
``memory/versions.py`` (memory). Sizes of pages and blocks of plain attention stayed since 0.10: the
records of real engines that are kept as reference say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine_args.engine_args import EngineArgs, VersionDefault
from ..engine_args.setup import EngineSetup
from ..engine_args.versions import PlanningRules, state_history
from ..errors import UnsupportedError
from ..kv_cache.capacity import KVCachePlan
from ..kv_cache.specs import RequestLimits
from ..memory.versions import VersionRules, version_rules
from ..model.description import ModelDescription
from ..model.layers.base import CacheLayer
from ..model.layers.deepseek_v4 import DeepSeekV4Layer
from ..model.layers.latent import LatentAttention
from ..model.layers.mamba import Mamba1, Mamba2, StateLayer
from ..model.layers.sparse import Indexer
from ..records import replace
from ..version import VLLM, VLLM_MINOR


def older_rules(vllm_version: str | None) -> VersionRules | None:
    """The rules of an older version; None for 0.33, whose rules are restated.

    Raises:
        UnsupportedError: A version whose rules nobody read.
    """
    rules = None if vllm_version is None else version_rules(vllm_version)
    return None if rules is None or rules.version == VLLM_MINOR else rules


def as_built(model: ModelDescription, rules: VersionRules | None) -> ModelDescription:
    """The layers as that version builds them, and what it does not know yet.

    Raises:
        UnsupportedError: That version has the architecture no more, or nobody has compared its
            states with vLLM.
    """
    last = model.removed_in
    if last and (rules or PlanningRules()).version > tuple(map(int, last.split(".")[:2])):
        raise UnsupportedError(
            f"{model.architecture}: vLLM ran it up to {last}, {rules.name if rules else VLLM} does "
            f"not; --vllm-version {last.rpartition('.')[0]} plans for that"
        )
    if rules is None:
        return model
    layers = list(model.layers)
    if not rules.shared_indexes_keep_nothing:
        layers = with_all_indexes(layers)
    layers = [_layer_as_built(layer, model, rules) for layer in layers]
    return replace(
        model,
        layers=tuple(layers),
        item_rule=rules.item_rule,
        absent_backends=rules.absent_backends,
    )


def with_all_indexes(layers: Sequence[CacheLayer]) -> list[CacheLayer]:
    """The layers with index keys before every sparse latent, also those that attend by others'."""
    keys = next((layer for layer in layers if isinstance(layer, Indexer)), None)
    found: list[CacheLayer] = []
    for layer in layers:
        if keys and isinstance(layer, LatentAttention) and layer.use_sparse:
            if not layer.leads_index_group:
                found.append(replace(keys, index=layer.index))
            found.append(replace(layer, leads_index_group=True))
        else:
            found.append(layer)
    return found


_V4_BEFORE = (
    "DeepSeek-V4 before 0.27: its caches lay otherwise, and blocks here are those of 0.27; 0.26 "
    "has 4 % fewer, and its log counts about half as many requests at once"
)


def _layer_as_built(layer: CacheLayer, model: ModelDescription, rules: VersionRules) -> CacheLayer:
    if isinstance(layer, StateLayer):
        return _state_as_built(layer, model, rules)
    if isinstance(layer, DeepSeekV4Layer) and not rules.deepseek_v4_is_fp8:
        return replace(layer, family=replace(layer.family, auto_is_fp8=False))
    return layer


def _state_as_built(layer: StateLayer, model: ModelDescription, rules: VersionRules) -> StateLayer:
    """Refuse a version whose states nobody compared; without an export where it has none."""
    history = state_history(layer, model.architecture)
    if rules.version < history.compared:
        first = ".".join(map(str, history.compared))
        raise UnsupportedError(
            f"{model.architecture} keeps states, whose blocks in vLLM {rules.name} were not "
            f"compared with vLLM's own; --vllm-version {first} or later"
        )
    return layer if rules.version >= history.exported else replace(layer, exports_checkpoints=False)


def with_defaults(
    args: EngineArgs, model: ModelDescription, rules: VersionRules
) -> tuple[EngineArgs, tuple[str, ...]]:
    """The flags with that version's defaults in place of 0.33's, and notes that say so."""
    changes: dict[str, Any] = {}
    notes = [f"vLLM {rules.name}: planned by its rules, not those of {VLLM}"]
    default = rules.default_gpu_memory_utilization
    given = args.gpu_memory_utilization
    if isinstance(given, VersionDefault) and given != default:
        changes["gpu_memory_utilization"] = default
        notes.append(f"gpu_memory_utilization {default}: the default of vLLM {rules.name}")
    if args.enable_prefix_caching is None and model.is_hybrid and not rules.hybrids_cache_prefixes:
        changes["enable_prefix_caching"] = False
        notes.append(f"prefix caching off: the default of vLLM {rules.name} for hybrid models")
    if any(isinstance(layer, DeepSeekV4Layer) for layer in model.layers):
        notes += [_V4_BEFORE] if not rules.packs_mixed_pages else []
    every_state = any(isinstance(layer, Mamba1 | Mamba2) for layer in model.layers)
    if args.enable_prefix_caching and every_state and not rules.keeps_last_states_only:
        raise UnsupportedError(
            f"--enable-prefix-caching: vLLM {rules.name} keeps a state of {model.architecture} for "
            "every block (mamba_cache_mode all), which is not planned for; leave it out, or "
            "--vllm-version 0.28 or later"
        )
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
    if rules is None or rules.logs_tokens_by_concurrency or not blocks.workers:
        return blocks
    groups = blocks.workers[0].groups
    tokens = blocks.num_gpu_blocks // len(groups) * min(group.spec.block_size for group in groups)
    if any(spec.dcp_sharded for group in groups for spec, _ in group.distinct):
        tokens *= limits.decode_context_parallel_size  # of all ranks that share a sequence
    return replace(blocks, kv_cache_size_tokens=tokens)
