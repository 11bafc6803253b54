"""What vLLM refuses of a model, the target or its draft, once the engine is resolved."""

from __future__ import annotations

from ..model.description import ModelDescription
from .defaults import ResolvedEngine
from .engine_args import EngineArgs
from .facts import ModelFacts
from .quantization import check_quantization


def check_rules(
    args: EngineArgs,
    model: ModelDescription,
    facts: ModelFacts,
    resolved: ResolvedEngine,
    capability: tuple[int, int],
) -> None:
    """Refuse quantization, and pipeline stages, that vLLM refuses.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    check_quantization(
        facts.quantization,
        facts.config,
        dtype=resolved.dtype.name,
        compute_capability=capability,
        has_online_config=args.quantization_config is not None,
    )
    if facts.quantization is not None:
        from .quantization_blocks import check_blocks

        check_blocks(
            facts,
            head_size=model.head_size,
            tensor_parallel_size=args.tensor_parallel_size,
            expert_parallel=args.enable_expert_parallel,
        )
    if args.pipeline_parallel_size > 1:
        from .kv_sharing import check_kv_sharing

        check_kv_sharing(model, resolved.layers_per_stage)
