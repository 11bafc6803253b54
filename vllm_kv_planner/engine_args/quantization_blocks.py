"""Quantised weights that tensor parallelism cannot cut at the borders of blocks or groups.

Restates of vLLM 0.33: ``validate_fp8_block_shape`` and ``validate_fp8_block_shape_moe``
(vllm/model_executor/layers/quantization/utils/fp8_utils.py) and ``refine_fp8_moe_block_shape``
(vllm/model_executor/layers/fused_moe/oracle/fp8.py), and ``AutoAWQLinearMethod.create_weights``
(…/quantization/auto_awq.py), for the layers that a config names by size: plain attention, MLPs,
experts and shared experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd
from typing import Any

from ..errors import InputError
from .checkpoint_quantization import Checkpoint, layer_quantization, quant_method
from .facts import ModelFacts
from .parallel import kv_heads_per_rank

_SMALLEST_REFINED = 32  # finer blocks than the checkpoint's, for experts only
_PADDED_MLPS = ("deepseek_v4", "deepseek_v4_text", "deepseek_v41", "deepseek_v41_text")
"""Types whose MLPs are rounded up to whole blocks (``models/deepseek_v4/`` ``DeepseekV4MLP``)."""
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
    expert = _size(facts.text_config, "moe_intermediate_size")
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
    if any(width // ranks % group for width in (*widths, *_mlp_widths(facts))):
        raise InputError(
            "The input size is not aligned with the quantized weight shape (groups of "
            f"{group}). This can be caused by too large tensor parallel size; use a smaller "
            "--tensor-parallel-size"
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
