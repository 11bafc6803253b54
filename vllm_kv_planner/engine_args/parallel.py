"""How layers and heads are split over GPUs, and what cannot be split: vLLM 0.33.

Restates ``ModelConfig.verify_with_parallel_config`` (vllm/config/model.py),
``ParallelConfig`` validators (vllm/config/parallel.py), ``get_pp_indices``
(vllm/distributed/utils.py) and the divisions in vllm/model_executor/layers.
"""

from __future__ import annotations

from ..errors import InputError, UnsupportedError
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts

# Their own attention divides KV heads by the ranks, and nothing else.
_NO_KV_REPLICATION = (
    "GptOssForCausalLM",
    "InklingForCausalLM",
    "InklingForConditionalGeneration",
    "Param2MoEForCausalLM",
)
_VOCAB_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE, vocab_parallel_embedding.py


def split_layers(
    num_layers: int, pipeline_parallel_size: int, partition: str | None = None
) -> tuple[int, ...]:
    """Layers of each pipeline stage, the first stage first.

    Left-over layers go to the stages before the last, from the back; ``partition`` is
    VLLM_PP_LAYER_PARTITION (``7,8,8,7``) and overrules. Raises InputError when it does not
    match.
    """
    stages = pipeline_parallel_size
    if stages > max(num_layers, 1):
        raise InputError(
            f"--pipeline-parallel-size ({stages}) is larger than the model's {num_layers} layers"
        )
    if partition is not None:
        try:
            sizes = tuple(int(part) for part in partition.split(","))
        except ValueError:
            raise InputError(
                f"VLLM_PP_LAYER_PARTITION: Invalid partition string: {partition[:60]!r}"
            ) from None
        if len(sizes) != stages:
            raise InputError(
                f"VLLM_PP_LAYER_PARTITION: len(partitions)={len(sizes)} does not match "
                f"pp_size={stages}"
            )
        if sum(sizes) != num_layers or min(sizes) < 0:
            raise InputError(
                f"VLLM_PP_LAYER_PARTITION: sum(partitions)={sum(sizes)} does not match "
                f"num_hidden_layers={num_layers}"
            )
        return sizes
    each, left = divmod(num_layers, stages)
    counts = [each] * stages
    for i in range(2, left + 2):
        counts[-i] += 1
    return tuple(counts)


def stage_ranges(
    num_layers: int, pipeline_parallel_size: int, partition: str | None = None
) -> tuple[range, ...]:
    """Layer indices of each pipeline stage."""
    ranges: list[range] = []
    start = 0
    for count in split_layers(num_layers, pipeline_parallel_size, partition):
        ranges.append(range(start, start + count))
        start += count
    return tuple(ranges)


def kv_heads_per_rank(
    num_kv_heads: int, tensor_parallel_size: int, *, use_mla: bool = False
) -> int:
    """KV heads on each GPU; fewer heads than GPUs are replicated, MLA always has one."""
    return 1 if use_mla else max(1, num_kv_heads // tensor_parallel_size)


def check_parallel(args: EngineArgs, facts: ModelFacts, environment: EngineEnvironment) -> None:
    """Raise InputError (UnsupportedError without PP support) in vLLM's words."""
    _check_context_parallel(args)
    tp = args.tensor_parallel_size
    heads = facts.num_attention_heads
    if heads % tp != 0:
        raise InputError(
            f"Total number of attention heads ({heads}) must be divisible by tensor parallel "
            f"size ({tp})"
        )
    if args.enable_expert_parallel and not facts.is_moe:
        raise InputError(
            "Number of experts in the model must be greater than 0 when expert parallelism is "
            "enabled; leave --enable-expert-parallel out"
        )
    if args.pipeline_parallel_size > 1 and not facts.supports_pp:
        raise UnsupportedError(
            f"Pipeline parallelism is not supported for {facts.architecture}; "
            "use --pipeline-parallel-size 1"
        )
    if args.decode_context_parallel_size > 1 and not facts.use_mla:
        _check_gqa_dcp(args.decode_context_parallel_size, tp, heads, facts.num_kv_heads)
    _check_divisions(tp, facts)
    split_layers(
        facts.num_hidden_layers, args.pipeline_parallel_size, environment.pp_layer_partition
    )
    if args.enable_eplb:
        if not args.enable_expert_parallel:
            raise InputError("enable_expert_parallel must be True to use EPLB")
        if tp * args.prefill_context_parallel_size * args.data_parallel_size <= 1:
            raise InputError("EPLB requires tensor, prefill-context, or data parallelism")
    elif args.eplb_config.get("num_redundant_experts", 0):
        raise InputError("num_redundant_experts is set but EPLB is not enabled; add --enable-eplb")


def _check_context_parallel(args: EngineArgs) -> None:
    tp = args.tensor_parallel_size
    pcp = args.prefill_context_parallel_size
    dcp = args.decode_context_parallel_size
    if pcp == 1:
        if tp % dcp != 0:
            raise InputError(f"tp_size={tp} must be divisible by dcp_size={dcp}")
    elif dcp not in (1, pcp, tp * pcp):
        raise InputError(
            "When PCP is enabled, DCP must be disabled, span the PCP axis, or span the full "
            f"TP x PCP axis. Got TP={tp}, PCP={pcp}, DCP={dcp}; valid DCP sizes are "
            f"{sorted({1, pcp, tp * pcp})}"
        )


def _check_gqa_dcp(dcp: int, tp: int, heads: int, kv_heads: int) -> None:
    if tp <= kv_heads or kv_heads < 1:
        raise InputError(
            f"Decode context parallelism for GQA/MQA requires --tensor-parallel-size ({tp}) to be "
            f"greater than the model's total number of KV heads ({kv_heads}); increase it or set "
            "--decode-context-parallel-size 1"
        )
    largest = tp // kv_heads
    if dcp > largest:
        raise InputError(
            f"--decode-context-parallel-size ({dcp}) exceeds the maximum supported value "
            f"({largest}) for --tensor-parallel-size ({tp}) and {kv_heads} model KV heads"
        )
    queries = heads // kv_heads
    if queries % dcp != 0:
        raise InputError(
            f"The model's number of query heads per KV head ({queries}) must be divisible by "
            f"--decode-context-parallel-size ({dcp}) for GQA/MQA"
        )


def _check_divisions(tp: int, facts: ModelFacts) -> None:
    """What vLLM's layers assert while they are built, not what its config checks."""
    kv_heads = facts.num_kv_heads
    if not facts.use_mla and kv_heads and (kv_heads % tp if kv_heads >= tp else tp % kv_heads):
        raise InputError(
            f"{max(kv_heads, tp)} is not divisible by {min(kv_heads, tp)}: {kv_heads} KV heads "
            f"cannot be split or replicated over tensor parallel size {tp}"
        )
    if facts.architecture in _NO_KV_REPLICATION and kv_heads % tp:
        raise InputError(
            f"{facts.architecture}: its {kv_heads} KV heads are not replicated, so tensor parallel "
            f"size {tp} leaves some ranks without; use at most {kv_heads}"
        )
    padded = -(-facts.vocab_size // _VOCAB_PADDING) * _VOCAB_PADDING
    if padded % tp:
        raise InputError(
            f"{padded} is not divisible by {tp}: the padded vocabulary cannot be split over "
            f"tensor parallel size {tp}"
        )
