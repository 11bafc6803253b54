"""How layers, heads and quantised weights are split over GPUs, and what cannot be split: vLLM 0.33.

Restates ``ModelConfig.verify_with_parallel_config`` (vllm/config/model.py), ``ParallelConfig``
validators (vllm/config/parallel.py), ``get_pp_indices`` (vllm/distributed/utils.py) and the
divisions in vllm/model_executor/layers; of weights in blocks and groups
``validate_fp8_block_shape``, ``validate_fp8_block_shape_moe`` (quantization/utils/fp8_utils.py
there), ``refine_fp8_moe_block_shape`` (fused_moe/oracle/fp8.py) and ``create_weights``
(quantization/auto_awq.py), for what a config names by size: attention, MLPs, experts, towers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from math import gcd
from typing import Any

from ..errors import InputError, UnsupportedError
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts, kv_heads_per_rank
from .quantization import Checkpoint, layer_quantization, quant_method

# Their own attention divides KV heads by the ranks, and nothing else.
_NO_KV_REPLICATION = (
    *("GptOssForCausalLM", "InklingForCausalLM", "InklingForConditionalGeneration"),
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
    ends = accumulate(split_layers(num_layers, pipeline_parallel_size, partition), initial=0)
    return tuple(range(first, end) for first, end in pairwise(ends))


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


_SMALLEST_REFINED = 32  # finer blocks than the checkpoint's, for experts only
_PADDED_MLPS = ("deepseek_v4", "deepseek_v4_text", "deepseek_v41", "deepseek_v41_text")
"""Types whose MLPs are rounded up to whole blocks (``models/deepseek_v4/`` ``DeepseekV4MLP``)."""
_EXPERT_WIDTHS = ("moe_intermediate_size", "intermediate_size")  # the second: Mixtral, MiniMax-M2
_QUANTIZED_TOWERS = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")  # by the checkpoint's blocks
_IGNORED = ("modules_to_not_convert", "ignored_layers", "ignore")


def check_blocks(
    facts: ModelFacts, *, head_size: int, tensor_parallel_size: int, expert_parallel: bool = False
) -> None:
    """Raise InputError, in vLLM's words, for weights that do not divide into whole blocks."""
    checkpoint = layer_quantization(facts.config)
    if checkpoint is None:
        return
    if facts.quantization == "auto_awq":
        _check_groups(checkpoint, facts, head_size, tensor_parallel_size)
    block = _block_shape(checkpoint)
    if block is None:
        return
    rows, columns = block
    ignored = " ".join(_ignored(checkpoint))
    # Fp8Config: layers of several matrices side by side (qkv, gate and up) may end within a block
    # (``ColumnParallelLinear._maybe_allow_fp8_block_shape_mismatch``, layers/linear.py).
    merged_rows = 1 if quant_method(checkpoint) == "fp8" else rows
    if not facts.use_mla and not facts.is_hybrid and "attn" not in ignored:
        each = kv_heads_per_rank(facts.num_kv_heads, tensor_parallel_size) * head_size
        heads = facts.num_attention_heads // tensor_parallel_size
        _check_output(heads * head_size, merged_rows)
        _check_output(each, merged_rows)
        values = _size(facts.text_config, "v_head_dim") or head_size  # MiMo-V2's are narrower
        _check_input(heads * values, columns, tensor_parallel_size)
    kept = any(word in ignored for word in ("gate_proj", "up_proj", "down_proj", "gate_up"))
    if not kept and facts.text_config.get("model_type") not in _PADDED_MLPS:
        for width in _mlp_widths(facts):
            if width % tensor_parallel_size == 0:
                _check_output(width // tensor_parallel_size, merged_rows)
                _check_input(width // tensor_parallel_size, columns, tensor_parallel_size)
    widths = (_size(facts.text_config, key) for key in _EXPERT_WIDTHS)
    expert = next(filter(None, widths), None)
    ranks = 1 if expert_parallel else tensor_parallel_size
    is_own = facts.text_config.get("model_type") in _PADDED_MLPS  # whose experts are MXFP4
    if facts.is_moe and not is_own and expert is not None and expert % ranks == 0:
        _check_experts(expert // ranks, rows, columns, ranks, facts.text_config)


def _check_groups(checkpoint: Checkpoint, facts: ModelFacts, head_size: int, ranks: int) -> None:
    """AWQ's groups run along a weight's input, which row-parallel layers divide."""
    group = _size(checkpoint, "group_size") or _size(checkpoint, "q_group_size")
    widths = [] if facts.use_mla else [facts.num_attention_heads * head_size]
    ignored = " ".join(_ignored(checkpoint))
    if group is None or "attn" in ignored or "mlp" in ignored:
        return
    tower = facts.config.get("vision_config") if "visual" not in ignored else None
    if facts.config.get("model_type") in _QUANTIZED_TOWERS and isinstance(tower, Mapping):
        widths += filter(None, (_size(tower, key) for key in ("hidden_size", "intermediate_size")))
    if any(width // ranks % group for width in (*widths, *_mlp_widths(facts))):
        raise InputError(
            f"The input size is not aligned with the quantized weight shape (groups of {group}). "
            "This can be caused by too large tensor parallel size: lower --tensor-parallel-size"
        )


def _block_shape(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Rows and columns of a block of the checkpoint's linear weights; None without blocks."""
    shape = checkpoint.get("weight_block_size") if quant_method(checkpoint) == "fp8" else None
    if quant_method(checkpoint) == "compressed-tensors":
        groups = checkpoint.get("config_groups")
        for group in groups.values() if isinstance(groups, Mapping) else ():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(weights, Mapping) and weights.get("strategy") == "block":
                shape = weights.get("block_structure")
    if not isinstance(shape, list) or len(shape) != 2:
        return None
    rows, columns = shape
    whole = isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0
    return (rows, columns) if whole else None


def _ignored(checkpoint: Checkpoint) -> Iterator[str]:
    for key in _IGNORED:
        names = checkpoint.get(key)
        yield from (str(name) for name in names) if isinstance(names, list) else ()


def _mlp_widths(facts: ModelFacts) -> Iterator[int]:
    """Of the MLPs that every rank holds a slice of: dense ones, and shared experts."""
    text = facts.text_config
    dense = text.get("first_k_dense_replace") or text.get("mlp_only_layers")
    if not facts.is_moe or dense:
        yield from filter(None, [_size(text, "intermediate_size")])
    yield from filter(None, [_size(text, "shared_expert_intermediate_size")])
    shared, width = _size(text, "n_shared_experts"), _size(text, "moe_intermediate_size")
    if shared and width:
        yield shared * width


def _check_experts(
    width: int, rows: int, columns: int, ranks: int, text: Mapping[str, Any]
) -> None:
    if width % rows == 0 and (ranks == 1 or width % columns == 0):
        return
    finer = gcd(rows, columns, width, _size(text, "hidden_size") or 0)
    if finer < _SMALLEST_REFINED:
        raise InputError(
            f"The output_size of gate's and up's weight = {width} is not divisible by weight "
            f"quantization block_n = {rows}. Use a smaller --tensor-parallel-size, or "
            "--enable-expert-parallel"
        )


def _check_output(size: int, rows: int) -> None:
    if size % rows:
        raise InputError(
            f"Weight output_partition_size = {size} is not divisible by weight quantization "
            f"block_n = {rows}. Use a smaller --tensor-parallel-size"
        )


def _check_input(size: int, columns: int, ranks: int) -> None:
    if ranks > 1 and size % columns:
        raise InputError(
            f"Weight input_size_per_partition = {size} is not divisible by weight quantization "
            f"block_k = {columns}. Use a smaller --tensor-parallel-size"
        )


def _size(text: Mapping[str, Any], key: str) -> int | None:
    value = text.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
