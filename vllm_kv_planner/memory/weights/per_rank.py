"""``weights_per_rank``: from the model and the engine's settings to bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...engine_args.engine_args import EngineArgs
from ...engine_args.environment import EngineEnvironment
from ...engine_args.parallel import stage_ranges
from ...model.config import Config
from ...model.description import ModelDescription
from .architectures.facts import Facts
from .architectures.families import build, family
from .estimate import WeightsEstimate, stage_tensors, total
from .quantization.choose import quantization
from .rank import Rank


def weights_per_rank(
    description: ModelDescription,
    args: EngineArgs,
    *,
    dtype: str,
    method: str | None,
    compute_capability: tuple[int, int] = (9, 0),
    max_model_len: int = 0,
    environment: EngineEnvironment | None = None,
    where: str = "config.json",
) -> WeightsEstimate:
    """Bytes of weights on each pipeline stage's ranks.

    Args:
        description: The model.
        args: The engine's flags.
        dtype: The engine's dtype, resolved.
        method: The quantisation method, resolved (``engine_args.quantization``).
        compute_capability: Of the device.
        max_model_len: Resolved; a few position tables follow it.
        environment: Variables of the engine's environment.
        where: The config's name, for messages.

    Raises:
        UnsupportedError: No rule for the architecture or the quantisation.
        ConfigError: A value is missing or makes no sense.
    """
    facts = Facts(
        description=description,
        text=Config(description.text_config, where),
        top=Config(description.config, where),
        max_model_len=max_model_len,
        capability=compute_capability,
    )
    tree = build(facts)
    rank = rank_of(
        args,
        description.config,
        dtype=dtype,
        method=method,
        compute_capability=compute_capability,
        max_model_len=max_model_len,
        is_composite=bool((family(description.architecture) or {}).get("wrapper")),
    )
    stages = stage_ranges(
        len(tree.layers),
        args.pipeline_parallel_size,
        None if environment is None else environment.pp_layer_partition,
    )
    weights = tuple(total(tensors) for tensors in stage_tensors(tree, rank, stages))
    return WeightsEstimate(
        stages=weights,
        provenance=f"shapes of vLLM 0.33's layers ({rank.quantization.description})",
        uncertainty_bytes=max(stage.num_bytes for stage in weights) // 1000,
    )


def rank_of(
    args: EngineArgs,
    config: Mapping[str, Any],
    *,
    dtype: str,
    method: str | None,
    compute_capability: tuple[int, int],
    max_model_len: int,
    is_composite: bool,
) -> Rank:
    """Rank 0 of any stage, which has the most of what does not divide evenly."""
    size = args.tensor_parallel_size
    experts = 1
    if args.enable_expert_parallel:
        experts = size * args.prefill_context_parallel_size * args.data_parallel_size
    redundant = args.eplb_config.get("num_redundant_experts", 0) if args.enable_eplb else 0
    return Rank(
        dtype=dtype,
        quantization=quantization(method, config, is_composite=is_composite),
        tensor_parallel_size=size,
        expert_parallel_size=experts,
        num_redundant_experts=redundant if isinstance(redundant, int) else 0,
        compute_capability=compute_capability,
        moe_backend=args.moe_backend,
        vit_tensor_parallel_size=1 if args.mm_encoder_tp_mode == "data" else size,
        max_model_len=max_model_len,
    )
