"""What a user asks of the engine: flags of ``vllm serve`` and environment variables, as values.

Field names and defaults are vLLM 0.33's own (``EngineArgs`` in vllm/engine/arg_utils.py, and
vllm/envs.py); ``None`` means what it means there: vLLM decides from the model and the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..errors import InputError
from ..records import dataclass, field
from .validation import check_engine_args

UsageContext = Literal["server", "llm"]
JsonDict = Mapping[str, Any]


class VersionDefault(float):
    """A default that other versions have otherwise: the same number given by hand is no default."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{float(self)!r} by default"

    def __str__(self) -> str:
        return repr(float(self))


@dataclass(frozen=True, kw_only=True)
class EngineArgs:
    """What a user asked of the engine, checked one field at a time when made.

    Raises InputError naming flag, value and what is valid. Combinations, and what depends on
    the model or the device, are checked where they are resolved (batch, lengths, parallel …).
    """

    # Model
    model: str = "Qwen/Qwen3-0.6B"
    revision: str | None = None
    hf_config_path: str | None = None
    """Where config.json is, when not with the model."""
    hf_overrides: JsonDict = field(default_factory=dict, hash=False)
    runner: str = "auto"
    """auto, generate, pooling or draft."""
    convert: str = "auto"
    pooler_config: JsonDict | None = field(default=None, hash=False)
    dtype: str = "auto"
    max_model_len: int | None = None
    """Tokens a request may have; -1 fits it to the memory."""
    disable_sliding_window: bool = False
    quantization: str | None = None
    allow_deprecated_quantization: bool = False
    quantization_config: JsonDict | None = field(default=None, hash=False)
    load_format: str = "auto"
    enforce_eager: bool = False
    usage_context: UsageContext = "server"
    """Not a flag: ``vllm serve`` ("server") and the LLM class ("llm") differ in batch defaults."""

    # KV cache
    block_size: int | None = None
    """Tokens a block."""
    gpu_memory_utilization: float = VersionDefault(0.92)  # 0.9 before 0.20
    kv_cache_memory_bytes: int | None = None
    """Bytes per GPU for the KV cache: no profiling, ``gpu_memory_utilization`` ignored.

    0 is as if not given (``determine_available_memory`` in vllm/v1/worker/gpu_worker.py).
    """
    kv_cache_dtype: str = "auto"
    kv_cache_dtype_skip_layers: tuple[str, ...] = ()
    """Layer indices, or ``sliding_window``, whose cache keeps the model's dtype."""
    num_gpu_blocks_override: int | None = None
    enable_prefix_caching: bool | None = None
    prefix_match_unit: int | None = None
    swa_bounded_replay: bool = True
    kv_offloading_size: float | None = None
    kv_offloading_backend: str = "native"
    """GiB of host memory; turns a KV connector on."""
    disable_hybrid_kv_cache_manager: bool | None = None
    kv_transfer_config: JsonDict | None = field(default=None, hash=False)

    # Mamba and linear attention
    mamba_backend: str = "triton"
    mamba_block_size: int | None = None
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    mamba_cache_mode: str | None = None
    """Accepted, without effect in 0.33: the mode follows ``enable_prefix_caching``."""
    enable_mamba_shared_prefix_checkpoint: bool = False
    use_replayssm: bool = False
    replayssm_buffer_len: int = 16

    # Attention, compilation, kernels
    attention_backend: str | None = None
    attention_config: JsonDict = field(default_factory=dict, hash=False)
    compilation_config: JsonDict = field(default_factory=dict, hash=False)
    cudagraph_capture_sizes: tuple[int, ...] | None = None
    max_cudagraph_capture_size: int | None = None
    optimization_level: str = "2"
    performance_mode: str = "balanced"
    moe_backend: str = "auto"

    # Scheduler
    max_num_seqs: int | None = None
    max_num_active_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_scheduled_tokens: int | None = None
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool | None = None
    disable_chunked_mm_input: bool = False
    async_scheduling: bool | None = None
    speculative_config: JsonDict | None = field(default=None, hash=False)
    spec_method: str | None = None
    spec_model: str | None = None
    spec_tokens: int | None = None
    diffusion_config: JsonDict | None = field(default=None, hash=False)
    watermark_config: JsonDict | None = field(default=None, hash=False)

    # Parallel
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    dcp_kv_cache_interleave_size: int = 1
    cp_kv_cache_interleave_size: int | None = None
    enable_expert_parallel: bool = False
    all2all_backend: str = "allgather_reducescatter"
    enable_eplb: bool = False
    eplb_config: JsonDict = field(default_factory=dict, hash=False)
    enable_dbo: bool = False
    ubatch_size: int = 0
    distributed_executor_backend: str | None = None
    disable_custom_all_reduce: bool = False

    # Offloading weights to the host
    offload_backend: str = "auto"
    cpu_offload_gb: float = 0.0
    """GiB per GPU."""
    cpu_offload_params: tuple[str, ...] = ()
    offload_group_size: int = 0
    offload_num_in_group: int = 1
    offload_prefetch_step: int = 1
    offload_params: tuple[str, ...] = ()

    # Multimodal
    language_model_only: bool = False
    limit_mm_per_prompt: JsonDict = field(default_factory=dict, hash=False)
    enable_mm_embeds: bool = False
    mm_encoder_only: bool = False
    mm_encoder_tp_mode: str = "weights"
    mm_processor_kwargs: JsonDict | None = field(default=None, hash=False)
    skip_mm_profiling: bool = False
    mm_ipc_gpu_memory_gb: float = 0.0
    """GiB per GPU kept back for images on their way to the encoder."""

    # LoRA
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    lora_dtype: str = "auto"
    lora_target_modules: tuple[str, ...] | None = None
    enable_tower_connector_lora: bool = False
    fully_sharded_loras: bool = False
    specialize_active_lora: bool = False

    def __post_init__(self) -> None:
        if type(self.kv_cache_memory_bytes) is int and self.kv_cache_memory_bytes == 0:
            object.__setattr__(self, "kv_cache_memory_bytes", None)
        check_engine_args(self)

    @property
    def world_size(self) -> int:
        """GPUs one engine (one data-parallel replica) takes, as vLLM counts them."""
        return (
            self.tensor_parallel_size
            * self.pipeline_parallel_size
            * self.prefill_context_parallel_size
        )

    @property
    def num_gpus(self) -> int:
        """GPUs over all data-parallel replicas."""
        return self.world_size * self.data_parallel_size


@dataclass(frozen=True, kw_only=True)
class EngineEnvironment:
    """What vLLM's environment variables say; the defaults are vLLM's."""

    allow_long_max_model_len: bool = False
    """VLLM_ALLOW_LONG_MAX_MODEL_LEN: a longer max_model_len than the model's is allowed."""
    use_v2_model_runner: bool | None = None
    """VLLM_USE_V2_MODEL_RUNNER: forces or forbids Model Runner V2."""
    mla_disable: bool = False
    """VLLM_MLA_DISABLE: plain attention for DeepSeek-like models."""
    pp_layer_partition: str | None = None
    """VLLM_PP_LAYER_PARTITION: layers of each pipeline stage, comma separated."""
    allow_chunked_local_attn_with_hybrid_kv_cache: bool = True
    estimate_cudagraphs: bool = True
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: deduct CUDA graphs from the KV cache."""
    rocm_use_aiter: bool = False
    """VLLM_ROCM_USE_AITER: AMD's own kernels for attention and mixture of experts."""
    visible_devices: tuple[str, ...] | None = None
    """CUDA_VISIBLE_DEVICES (or HIP_…), split at commas; None where not set."""
    others: tuple[str, ...] = field(default=())
    """Other VLLM_ variables that were set; this planner does not read them."""


_BOOLS = {
    # name: (field, words for true; None: a whole number, zero is false)
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": ("allow_long_max_model_len", ("1", "true")),
    "VLLM_USE_V2_MODEL_RUNNER": ("use_v2_model_runner", None),
    "VLLM_MLA_DISABLE": ("mla_disable", None),
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": (
        "allow_chunked_local_attn_with_hybrid_kv_cache",
        None,
    ),
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": ("estimate_cudagraphs", None),
    "VLLM_ROCM_USE_AITER": ("rocm_use_aiter", ("1", "true")),
}
_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def read_environment(variables: Mapping[str, str]) -> EngineEnvironment:
    """The planner's view of ``variables`` (``os.environ``, or what stood before a command).

    Raises InputError where vLLM could not read a value.
    """
    found: dict[str, bool] = {}
    others: list[str] = []
    for name, value in variables.items():
        if name in _BOOLS:
            key, words = _BOOLS[name]
            found[key] = _truth(name, value, words)
        elif name.startswith("VLLM_") and name != "VLLM_PP_LAYER_PARTITION":
            others.append(name)
    devices = next((variables[name] for name in _DEVICES if name in variables), None)
    return EngineEnvironment(
        pp_layer_partition=variables.get("VLLM_PP_LAYER_PARTITION"),
        visible_devices=(
            None if devices is None else tuple(d.strip() for d in devices.split(",") if d.strip())
        ),
        others=tuple(others),
        **found,
    )


def _truth(name: str, value: str, words: tuple[str, ...] | None) -> bool:
    if words is not None:
        return value.strip().lower() in words
    try:
        return int(value) != 0
    except ValueError:
        raise InputError(f"{name}={value[:40]!r}: vLLM reads a whole number, 0 or 1") from None
