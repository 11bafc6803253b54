"""Compiled kernels, which are not run: what they write, and what they would have given.

A kernel that returns nothing writes into tensors that its caller made. It is passed over where its
source says that it allocates nothing that counts (``WRITES``); any other ends the run by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..absent_gpu import absent_gpu

MADE_OF_PYTHON = frozenset({"vllm", "vllm_ir"})
"""Namespaces of operators that are Python functions on CUDA."""

SHAPES_ALONE = frozenset({"aten", "prims", "c10d", "_c10d_functional"})
"""Namespaces of torch's own, whose functions for tensors without storage give what is allocated."""

ON_HOST = frozenset({"_C::get_cuda_view_from_cpu_tensor"})
"""What gives a view of the host's memory."""

WRITES = frozenset(
    {
        *(
            f"_C::{name}"
            for name in (
                "rms_norm",
                "fused_add_rms_norm",
                "rotary_embedding",
                "fused_qk_norm_rope",
                "vocab_parallel_embedding",
                "silu_and_mul",
                "mul_and_silu",
                "gelu_and_mul",
                "gelu_tanh_and_mul",
                "fatrelu_and_mul",
                "swigluoai_and_mul",
                "silu_and_mul_with_clamp",
                "relu_squared",
                "gelu_new",
                "gelu_fast",
                "gelu_quick",
                "static_scaled_fp8_quant",
                "dynamic_scaled_fp8_quant",
                "dynamic_per_token_scaled_fp8_quant",
                "per_token_group_fp8_quant",
                "per_token_group_fp8_quant_packed",
                "rms_norm_static_fp8_quant",
                "rms_norm_dynamic_per_token_quant",
                "silu_and_mul_quant",
                "cutlass_scaled_mm",
                "cutlass_scaled_mm_azp",
                "cutlass_scaled_fp4_mm",
            )
        ),
        *(
            f"_moe_C::{name}"
            for name in ("topk_softmax", "topk_sigmoid", "moe_align_block_size", "moe_sum")
        ),
        *(
            f"deep_gemm::{name}"
            for name in (
                "fp8_fp4_gemm_nt",
                "m_grouped_fp8_fp4_gemm_nt_contiguous",
                "bf16_gemm_nt",
                "tf32_hc_prenorm_gemm",
            )
        ),
    }
)
"""Source: vLLM 0.33 ``csrc`` (``layernorm_kernels.cu``, ``pos_encoding_kernels.cu``,
``activation_kernels.cu``, ``quantization/w8a8/fp8``, ``moe``); DeepGEMM ``csrc/apis``, which
makes scales anew only where they are not as its kernels read them."""

GIVES = frozenset(
    {
        *(
            f"_C::{name}"
            for name in (
                "marlin_gemm",
                "gptq_marlin_repack",
                "awq_marlin_repack",
                "machete_prepack_B",
                "machete_mm",
                "scaled_fp4_quant",
            )
        ),
        "_moe_C::grouped_topk",
    }
)
"""Kernels whose fake implementations in vLLM 0.33 ``_custom_ops.py`` make all that they give; what
they take besides is a few MiB (``csrc/quantization``: sums of partial products), or below."""

FLASHINFER = frozenset({"rope", "sampling"})
"""Modules of FlashInfer's whose Python makes every tensor that their kernels write."""


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The device's view of pinned memory."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def agree(answer: bool) -> Callable[..., Any]:
    """Whether any, or all, of a tensor's values hold, where each one is 1."""

    def agreed(tensor: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        if rest or more:
            return torch.all(tensor, *rest, **more)
        return torch.full((), answer, dtype=torch.bool, device="cpu")

    return agreed


def only_one(tensor: torch.Tensor, *rest: Any, **more: Any) -> tuple[torch.Tensor, ...]:
    """The different values of a tensor whose values are alike."""
    indices = torch.empty((0,), dtype=torch.int64, device="meta")
    return tensor.new_empty((1,)), indices, indices


def copied(tensor: torch.Tensor, **more: Any) -> torch.Tensor:
    """A copy; on the host one of a few scales, all 1, and nothing larger."""
    device = more.get("device")
    few = tensor.numel() <= _FEW and tensor.device.type == "meta"
    if few and device is not None and torch.device(device).type == "cpu":
        return torch.ones(tensor.shape, dtype=more.get("dtype") or tensor.dtype, device="cpu")
    return torch.ops.aten._to_copy.default(tensor, **more)


_FEW = 4096


def experts_by_marlin(
    tokens: torch.Tensor, output: torch.Tensor | None, *rest: Any
) -> torch.Tensor:
    """What Marlin's kernel for experts gives, whose fake implementation of 0.33 takes too few."""
    top_k, size_m, size_n = rest[12], rest[15], rest[16]
    return tokens.new_empty((size_m * top_k, size_n)) if output is None else output


def marlin_sums(*args: Any) -> int:
    """Bytes of partial products that Marlin's kernel for experts adds up in float32.

    Source: vLLM 0.33 ``csrc/moe/marlin_moe_wna16/ops.cu`` (``c_tmp``).
    """
    sorted_ids, block, size_n = args[9], int(args[13]), int(args[18])
    rows = absent_gpu().num_sms * 4 * block * 256
    return 4 * min(size_n * int(sorted_ids.numel()), rows) * (2 if block == 8 else 1)


def unchanged(tensor: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
    """A tensor whose values alone change."""
    return tensor


def one(tensor: torch.Tensor) -> Any:
    """The value of a number that no weights were read for: 1, for scales."""
    return torch.ones((), dtype=tensor.dtype, device="cpu").item()


def scales(
    sf: torch.Tensor,
    mn: int,
    k: int,
    recipe: list[int],
    num_groups: int | None = None,
    is_sfa: bool | None = None,
    disable_ue8m0_cast: bool = False,
    psum_layout: torch.Tensor | None = None,
) -> torch.Tensor:
    """DeepGEMM's scales as its kernels read them.

    Hopper's, one for a block, stay as they are; those of a row are turned. Blackwell's are packed,
    four to an int32, a row of them for every row of the matrix. Rows are padded to 16 bytes.

    Source: DeepGEMM ``csrc/apis/layout.hpp`` ``transform_sf_into_required_layout``.
    """
    as_float = absent_gpu().capability[0] == 9 or disable_ue8m0_cast
    rows = recipe[0] if len(recipe) == 2 or is_sfa else recipe[1]
    if as_float and rows != 1:
        return sf
    columns, dtype = sf.shape[-1], torch.float32
    if not as_float:
        columns, dtype = -(-columns // 4), torch.int32
    padded = -(-mn // 4) * 4
    whole = torch.empty((*sf.shape[:-2], columns, padded), dtype=dtype, device="meta")
    return whole.transpose(-1, -2)[..., :mn, :]


ANSWERS: dict[str, Callable[..., Any]] = {
    "_C::get_cuda_view_from_cpu_tensor": on_host,
    "aten::_local_scalar_dense": one,
    "_moe_C::moe_wna16_marlin_gemm": experts_by_marlin,
    "aten::_to_copy": copied,
    "aten::exponential_": unchanged,
    "aten::_unique2": only_one,
    "aten::all": agree(True),
    "aten::any": agree(False),
    "aten::equal": lambda first, second: True,
    "deep_gemm::transform_sf_into_required_layout": scales,
}

SCRATCH: dict[str, Callable[..., int]] = {"_moe_C::moe_wna16_marlin_gemm": marlin_sums}
"""Bytes that live while the kernel runs."""
