"""What LoRA adds to the profile run and to the CUDA graphs; the slots themselves are weights.

A layer with adapters computes its narrow product in float32, a buffer of slices x tokens x rank
that is gone when the layer returns. ``--fully-sharded-loras`` gathers it: each rank's share, and
the whole of it twice (gathered, then put in order). Routed experts sort their tokens once more, per
adapter; above rank 128 they also keep the narrow product of every sorted token.

Graphs are captured for batches without and with adapters, so there are twice as many;
``--specialize-active-lora`` captures one set for each power of two of adapters.

Source: vLLM 0.33 ``lora/punica_wrapper/punica_gpu.py``, ``lora/layers/column_parallel_linear.py``
(``_mcp_apply``), ``lora/ops/triton_ops/fused_moe_lora_op.py``, ``lora/utils.py``
``get_captured_lora_counts``, ``v1/cudagraph_dispatcher.py`` ``_get_lora_cases``,
``v1/worker/gpu/lora_utils.py`` ``get_lora_capture_cases``.
"""

from __future__ import annotations

from .rank import Rank

_FLOAT32 = 4
_INT32 = 4
_SPECIALIZED_FROM = (0, 11)
"""vLLM 0.10 captures with adapters only."""
_ONE_SHOT_RANK = 128
_SORTED_BLOCK = 64
_TMA_FROM = (9, 0)


def linear_bytes(rank: Rank, slices: int) -> int:
    """The float32 buffer of a layer of so many merged matrices; 0 without LoRA."""
    args = rank.setup.args
    if not args.enable_lora:
        return 0
    width = args.max_lora_rank
    if args.fully_sharded_loras and rank.tp > 1:
        width = args.max_lora_rank // rank.tp + 2 * args.max_lora_rank
    return slices * rank.tokens * width * _FLOAT32


def expert_bytes(rank: Rank, tokens: int) -> int:
    """What adapters of routed experts take beside the kernel's own buffers."""
    args, experts = rank.setup.args, rank.shapes.experts
    if not args.enable_lora or experts is None:
        return 0
    # room for every expert's last block, once per adapter
    padded = tokens * experts.top_k + experts.count * (_SORTED_BLOCK - 1)
    total = args.max_loras * padded * _INT32
    if args.max_lora_rank > _ONE_SHOT_RANK and rank.uses_v2:  # V1 profiles without adapters
        slices = 2 if experts.up > experts.down_in else 1
        capability = rank.setup.gpu.cuda_capability
        sorts = capability >= _TMA_FROM and not args.fully_sharded_loras
        rows = args.max_loras * padded if sorts else tokens * experts.top_k
        total += slices * rows * args.max_lora_rank * rank.element
    return total


def capture_cases(rank: Rank) -> int:
    """How many graphs are captured of each size."""
    args = rank.setup.args
    if not args.enable_lora or rank.rules.version < _SPECIALIZED_FROM:
        return 1
    if args.compilation_config.get("cudagraph_specialize_lora", True) is False:
        return 2 if rank.uses_v2 else 1
    if not args.specialize_active_lora:
        return 2
    counts = {1 << n for n in range(args.max_loras.bit_length())} | {args.max_loras + 1}
    return 1 + len(counts)
