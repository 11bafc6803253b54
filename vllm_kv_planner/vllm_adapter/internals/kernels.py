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
            )
        ),
    }
)
"""Source: vLLM 0.33 ``csrc`` (``layernorm_kernels.cu``, ``pos_encoding_kernels.cu``,
``activation_kernels.cu``, ``quantization/w8a8/fp8``, ``moe``); DeepGEMM ``csrc/apis``, which
makes scales anew only where they are not yet as its kernels read them."""

FLASHINFER = frozenset({"rope", "sampling"})
"""Modules of FlashInfer's whose Python makes every tensor that their kernels write."""


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The device's view of pinned memory."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


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
    "deep_gemm::transform_sf_into_required_layout": scales,
}
