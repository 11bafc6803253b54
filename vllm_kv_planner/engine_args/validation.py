"""One field of EngineArgs at a time: ranges and choices, as vLLM 0.33's configs declare them.

Sources: the ``Field(ge=…)`` and ``Literal`` types of vllm/config/*.py; ``CompilationConfig``
(vllm/config/compilation.py) and ``MultiModalConfig`` (vllm/config/multimodal.py) for what their
JSON objects hold beside the types (``value_types.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import InputError, UnknownNameError
from .flag_table import Flag, all_flags
from .value_types import check_types, flag_name, read_config, shown

# field: smallest allowed value
_AT_LEAST = {
    "block_size": 1,
    "prefix_match_unit": 1,
    "mamba_block_size": 1,
    "replayssm_buffer_len": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "prefill_context_parallel_size": 1,
    "dcp_kv_cache_interleave_size": 1,
    "cp_kv_cache_interleave_size": 1,
    "ubatch_size": 0,
    "max_num_seqs": 1,
    "max_num_active_seqs": 1,
    "max_num_batched_tokens": 1,
    "max_num_scheduled_tokens": 1,
    "long_prefill_token_threshold": 0,
    "max_loras": 1,
    "cpu_offload_gb": 0,
    "offload_group_size": 0,
    "offload_num_in_group": 1,
    "offload_prefetch_step": 0,
    "mm_ipc_gpu_memory_gb": 0,
    # vLLM checks these later, with a worse message, or not at all.
    "kv_cache_memory_bytes": 1,
    "num_gpu_blocks_override": 1,
    "kv_offloading_size": 0,
    "max_cudagraph_capture_size": 0,
    "spec_tokens": 1,
}


_LARGEST = 1 << 62
"""No count or size of vLLM's comes near."""

# field: largest allowed value, where that is not the largest of all
_AT_MOST = {"data_parallel_size": 1 << 16}

_SKIP_LAYERS = ("sliding_window",)
"""Kinds of layers whose cache can keep the model's dtype; other words are layer indices."""


def check_engine_args(args: Any) -> None:
    """Raise InputError for the first field whose value vLLM would refuse by itself.

    Objects of JSON are put into their types, as vLLM does (``"3"`` is 3).
    """
    check_types(args)
    for name, least in _AT_LEAST.items():
        _check_number(name, getattr(args, name), least)
    for name, valid in CHOICES.items():
        _check_choice(name, getattr(args, name), valid)
    _check_choice("kv_cache_dtype", args.kv_cache_dtype, KV_CACHE_DTYPES)
    if not 0 < args.gpu_memory_utilization <= 1:
        raise InputError(
            f"--gpu-memory-utilization: {shown(args.gpu_memory_utilization)}; "
            "it must be greater than 0 and at most 1"
        )
    length = args.max_model_len
    if length is not None and not (1 <= length <= _LARGEST or length == -1):
        raise InputError(
            f"--max-model-len: max_model_len must be a positive integer, got {shown(length)}; "
            "-1 or auto fits it to the memory"
        )
    backend = args.attention_backend
    if backend is not None and backend.lower() != "auto":
        _check_choice("attention_backend", backend.upper(), ATTENTION_BACKENDS)
    if args.quantization is not None:
        # marlin: a name for GPTQ and AWQ checkpoints alone
        _check_choice("quantization", args.quantization.lower(), (*QUANTIZATION_METHODS, "marlin"))
    if args.limit_mm_per_prompt:
        check_multimodal_limits(args.limit_mm_per_prompt)
    _check_configs(args)
    check_capture_sizes("--cudagraph-capture-sizes", args.cudagraph_capture_sizes)
    for word in args.kv_cache_dtype_skip_layers:
        if word not in _SKIP_LAYERS and not (word.isascii() and word.isdigit()):
            raise InputError(
                f"--kv-cache-dtype-skip-layers: {shown(word)}; valid: a layer's index, "
                f"{', '.join(_SKIP_LAYERS)}"
            )
    if args.usage_context not in ("server", "llm"):
        raise InputError(f"usage context {shown(args.usage_context)}; valid: server, llm")


def _check_configs(args: Any) -> None:
    for flag in _with_keys():
        value = getattr(args, flag.field)
        if value:
            object.__setattr__(args, flag.field, read_config(flag, value))
    if args.attention_config:
        check_attention(args.attention_config)
    if args.compilation_config:
        check_compilation(args.compilation_config)


@lru_cache(maxsize=1)
def _with_keys() -> tuple[Flag, ...]:
    return tuple(flag for flag in all_flags() if flag.keys and flag.is_understood)


def _check_number(name: str, value: Any, least: int) -> None:
    most = _AT_MOST.get(name, _LARGEST)
    if value is None or least <= value <= most:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag_name(name)}: {value!r} is not a number")
    bound = f"at least {least}" if value < least else f"at most {most:,}"
    raise InputError(f"{flag_name(name)}: {shown(value)}; it must be {bound}")


def _check_choice(name: str, value: Any, valid: tuple[Any, ...]) -> None:
    if value is None or value in valid:
        return
    words = [str(choice) for choice in valid]
    if len(words) > 12:
        from difflib import get_close_matches

        near = get_close_matches(str(value), words, n=4, cutoff=0.3) or words[:6]
        raise UnknownNameError(
            f"{flag_name(name)}: {shown(value)} is not known to vLLM 0.33; "
            f"nearest: {', '.join(near)}"
        )
    raise InputError(f"{flag_name(name)}: {shown(value)}; valid: {', '.join(words)}")


_MODES = (
    "NONE",
    "PIECEWISE",
    "FULL",
    "FULL_DECODE_ONLY",
    "FULL_AND_PIECEWISE",
)
_LEVELS = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE")
_MOST = 1 << 40


def check_multimodal_limits(limits: Mapping[str, Any]) -> None:
    """``{"image": 2, "video": {"count": 1, "num_frames": 32}}``: whole numbers from 0 up."""
    for kind, limit in limits.items():
        values = limit if isinstance(limit, Mapping) else {"count": limit}
        for name, value in values.items():
            if value is not None and not _is_count(value, 0):
                raise InputError(
                    f"--limit-mm-per-prompt: {kind} {name} is {shown(value)}; "
                    "expected a whole number from 0 up"
                )


def check_attention(config: Mapping[str, Any]) -> None:
    """The part of ``--attention-config`` that its class reads in a way of its own."""
    backend = config.get("backend")
    if backend is not None and not isinstance(backend, str):
        raise InputError(
            f"--attention-config: backend is {shown(backend)}; expected a backend's name"
        )


def check_compilation(config: Mapping[str, Any]) -> None:
    """The parts of ``--compilation-config`` that decide what graphs are captured."""
    flag = "--compilation-config"
    check_capture_sizes(f"{flag}: cudagraph_capture_sizes", config.get("cudagraph_capture_sizes"))
    largest = config.get("max_cudagraph_capture_size")
    if largest is not None and not _is_count(largest, 0):
        raise InputError(
            f"{flag}: max_cudagraph_capture_size is {shown(largest)}; "
            "expected a whole number from 0 up"
        )
    mode = config.get("mode")
    if mode is not None and mode not in range(len(_LEVELS)) and str(mode).upper() not in _LEVELS:
        raise InputError(f"{flag}: mode is {shown(mode)}; valid: 0 to 3, {', '.join(_LEVELS)}")
    mode = config.get("cudagraph_mode")
    if mode is not None and _mode_name(mode) not in _MODES:
        raise InputError(f"{flag}: cudagraph_mode is {shown(mode)}; valid: {', '.join(_MODES)}")


def _mode_name(mode: Any) -> str:
    if isinstance(mode, int):
        return "NONE" if mode in range(3) else ""
    if isinstance(mode, (list, tuple)):  # an enum's value, as logs show it
        return "FULL" if all(each in range(3) for each in mode) and mode else ""
    return str(mode).upper().rpartition(".")[2]


def check_capture_sizes(flag: str, sizes: Any) -> None:
    """Batch sizes to capture: whole numbers from 1 up."""
    if sizes is None:
        return
    good = isinstance(sizes, (list, tuple)) and all(_is_count(size, 1) for size in sizes)
    if not good:
        raise InputError(f"{flag}: {shown(sizes)}; expected a list of whole numbers from 1 up")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# vllm/config/cache.py, CacheDType
KV_CACHE_DTYPES: tuple[str, ...] = _words(
    """
    auto float16 bfloat16 fp8 fp8_e4m3 fp8_e5m2 fp8_inc fp8_ds_mla nvfp4_ds_mla turboquant_k8v4
    turboquant_4bit_nc turboquant_k3v4_nc turboquant_3bit_nc octave_k3v4 octave_k3v3
    octave_k3v3_compact ultraquant_4bit int4_per_token_head int8_per_token_head
    fp8_per_token_head nvfp4 nvfp4_4over6
    """
)

# vllm/v1/attention/backends/registry.py, AttentionBackendEnum; taken in any case
ATTENTION_BACKENDS: tuple[str, ...] = _words(
    """
    FLASH_ATTN FLASH_ATTN_DIFFKV TRITON_ATTN TRITON_ATTN_DIFFKV TRITON_FLASH_ATTN ROCM_ATTN
    ROCM_SEGMENTED_ATTN ROCM_AITER_MLA ROCM_AITER_TRITON_MLA ROCM_AITER_FA ROCM_AITER_MLA_SPARSE
    XPU_MLA_SPARSE TORCH_SDPA FLASHINFER TRITON_FLASHINFER FLASHINFER_MLA TOKENSPEED_MLA
    FLASHINFER_MLA_SPARSE FLASHINFER_MLA_SPARSE_SM120 FLASHINFER_MLA_SPARSE_SM90 TRITON_MLA
    CUTLASS_MLA FLASHMLA FLASHMLA_SPARSE FLASHMLA_SPARSE_DSV4 FLASHINFER_MLA_SPARSE_DSV4
    ROCM_FLASHMLA_SPARSE_DSV4 FLASHMLA_SPARSE_DSV41 FLASHINFER_MLA_SPARSE_DSV41
    ROCM_FLASHMLA_SPARSE_DSV41 FLASHMLA_MEGA_ATTN_DSV41 B12X FLASH_ATTN_MLA
    FLASH_ATTN_MLA_SPARSE FLASH_ATTN_MLA_SPARSE_FA4 MINIMAX_M3_SPARSE CUTLASS_MSA TRITON_MSA
    STEP5_DSA NO_ATTENTION FLEX_ATTENTION HPC_ATTN ROCM_AITER_UNIFIED_ATTN CPU_ATTN CPU_MLA
    AMX_MLA TURBOQUANT ROCM_OCTAVE ULTRAQUANT CUSTOM
    """
)

# vllm/model_executor/layers/quantization/__init__.py; plugins may add to it
QUANTIZATION_METHODS: tuple[str, ...] = _words(
    """
    awq auto_awq fp8 fbgemm_fp8 fp_quant modelopt modelopt_fp4 modelopt_mxfp8 modelopt_mixed
    auto_gptq gptq gptq_marlin awq_marlin humming compressed-tensors experts_int8 quark
    moe_wna16 torchao inc mxfp4 gpt_oss_mxfp4 deepseek_v4_fp8 online fp8_per_tensor
    fp8_per_block fp8_per_channel int8_per_channel_weight_only nvfp4_per_token mxfp8
    """
)
DEPRECATED_QUANTIZATION: tuple[str, ...] = ("fbgemm_fp8", "fp_quant")

# field: what it may be (None is checked nowhere: it means unset)
CHOICES: dict[str, tuple[Any, ...]] = {
    "runner": ("auto", "draft", "generate", "pooling"),
    "convert": ("auto", "classify", "embed", "none"),
    "dtype": ("auto", "bfloat16", "float", "float16", "float32", "half"),
    # vllm/model_executor/model_loader/__init__.py; plugins may add to it
    "load_format": _words(
        """
        auto hf dummy fastsafetensors instanttensor ipc_cache mistral modelexpress npcache pt
        runai_streamer runai_streamer_sharded safetensors sharded_state tensorizer
        """
    ),
    "all2all_backend": _words(
        """
        allgather_reducescatter deepep_high_throughput deepep_low_latency deepep_v2
        flashinfer_all2allv flashinfer_nvlink_one_sided flashinfer_nvlink_two_sided moonep
        mori_high_throughput mori_low_latency naive nixl_ep pplx
        """
    ),
    "mamba_cache_mode": ("align", "none"),
    "mamba_cache_dtype": ("auto", "bfloat16", "float16", "float32"),
    "mamba_ssm_cache_dtype": ("auto", "bfloat16", "float16", "float32"),
    "offload_backend": ("auto", "prefetch", "uva"),
    "mm_encoder_tp_mode": ("data", "weights"),
    "kv_offloading_backend": ("lmcache", "native"),
    "max_lora_rank": (1, 8, 16, 32, 64, 128, 256, 320, 512),
    "lora_dtype": ("auto", "bfloat16", "float16"),
    "moe_backend": _words(
        """
        aiter aiter_mega_moe aiter_triton_mxfp4_bf16 aiter_triton_mxfp4_mxfp4 auto b12x
        batched_triton cutlass deep_gemm deep_gemm_mega_moe emulation flashinfer_b12x
        flashinfer_cutedsl flashinfer_cutlass flashinfer_moe_ep_cutedsl
        flashinfer_moe_ep_mega_deep_gemm flashinfer_trtllm flydsl hpc humming marlin rdna3
        triton triton_unfused
        """
    ),
    "spec_method": _words(
        """
        bailing_hybrid_mtp bailing_hybrid_v3_mtp custom_class deepseek_mtp dflash
        dots3_note_mtp draft_model dspark eagle eagle3 ernie_mtp exaone4_5_mtp exaone_moe_mtp
        extract_hidden_states gemma4_mtp glm4_moe_lite_mtp glm4_moe_mtp glm5_next_mtp
        glm_ocr_mtp hy_v3_mtp hy_v4_mtp inkling_mtp kimi_k3_mtp longcat_flash_mtp mimo_mtp
        mimo_v2_mtp minimax_m3_mtp mtp nemotron_h_mtp ngram ngram_gpu pangu_ultra_moe_mtp
        qwen3_5_mtp qwen3_next_mtp qwen4_exp_mtp step3p5_mtp step5_mtp suffix
        """
    ),
    "performance_mode": ("balanced", "interactivity", "throughput"),
    "optimization_level": ("0", "1", "2", "3"),
    "mamba_backend": ("triton", "flashinfer", "cpu"),
}
