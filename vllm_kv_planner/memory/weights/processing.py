"""What changes once a layer's weights are loaded (``process_weights_after_loading``).

Kernels want weights in layouts of their own. Most keep the size; the exceptions known are here,
each with its source. What is not derived widens ``uncertainty_bytes``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...kv_cache.math import round_up
from .estimate import StageWeights
from .modules.kernels import uses_triton_mxfp4
from .quantization.mxfp4 import GptOssMxfp4
from .rank import Rank
from .tensor import Tensor

MIB = 1 << 20


def processed(tensors: Sequence[Tensor], rank: Rank) -> list[Tensor]:
    """The tensors as they lie in memory once the model is loaded."""
    if isinstance(rank.quantization, GptOssMxfp4) and uses_triton_mxfp4(rank):
        if rank.version <= (0, 19):
            return [*tensors, *_layout_of_0_19(tensors)]
        return [_swizzled(tensor) for tensor in tensors]
    # Machete, on Hopper only, leaves the zero points of symmetric GPTQ where they are.
    is_marlin = rank.compute_capability != (9, 0)
    if is_marlin and not rank.quantization.keeps_zeros:
        return [tensor for tensor in tensors if not tensor.name.endswith("qzeros")]
    return list(tensors)


_MORE_AT_0_19 = 0.0812


def _layout_of_0_19(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What Hopper's layout of gpt-oss's experts took more at 0.19.

    Measured, not derived: gpt-oss-20b on one H100 at 0.19.0 printed 13.64 GiB where its tensors
    take 12.87.
    """
    experts = sum(tensor.num_bytes for tensor in tensors if ".routed_experts." in tensor.name)
    return [Tensor("layout of 0.19", (int(experts * _MORE_AT_0_19),), "uint8", "experts")]


def _swizzled(tensor: Tensor) -> Tensor:
    """Hopper's layout of MXFP4 scales, and float32 biases.

    Rows of scales are padded to 256, columns to 4. Source: ``utils/mxfp4_utils.py``
    ``_swizzle_mxfp4``; triton_kernels ``HopperMXScaleLayout.swizzle_data``.
    """
    if tensor.name.endswith(("w13_weight_scale", "w2_weight_scale")):
        count, rows, columns = tensor.shape
        shape = (count, round_up(rows, 256), round_up(columns, 4))
        return Tensor(tensor.name, shape, tensor.dtype, tensor.part)
    if tensor.name.endswith(("w13_bias", "w2_bias")):
        return Tensor(tensor.name, tensor.shape, "float32", tensor.part)
    return tensor


_SHARE = {
    None: 0.001,
    "fp8": 0.016,
    "deepseek_v4_fp8": 0.016,
    "compressed-tensors": 0.016,
    "gpt_oss_mxfp4": 0.02,
}
"""How much kernels may add, by method: block scales repacked for DeepGEMM (1/128 of the weights)
or Marlin (1/64) are the largest. Engines on RTX PRO 4500 printed 0.9 % and 1.6 % more for
Qwen3-8B-FP8; unquantised models came within 0.1 % on H100 at 0.19.0."""
_OTHER_SHARE = 0.02


def uncertainty(stage: StageWeights, rank: Rank) -> int:
    """How far off a stage's figure may be."""
    share = _SHARE.get(rank.quantization.name, _OTHER_SHARE)
    workspaces = 16 * MIB if rank.tensor_parallel_size == 1 else 96 * MIB
    return int(stage.num_bytes * share) + workspaces
