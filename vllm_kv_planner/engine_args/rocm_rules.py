"""What vLLM decides differently on AMD GPUs, and what of it has no rule here.

Source: vLLM 0.33 ``platforms/rocm.py`` (``RocmPlatform.supported_quantization``,
``_get_backend_priorities``) and ``config/model.py`` ``_verify_cuda_graph``.
"""

from __future__ import annotations

from ..errors import InputError, UnsupportedError
from ..records import replace
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts

QUANTIZATION = frozenset(
    {
        *("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "inc", "quark", "torchao"),
        *("fp8", "deepseek_v4_fp8", "fbgemm_fp8", "fp8_per_tensor", "fp8_per_block"),
        *("fp8_per_channel", "online", "compressed-tensors", "mxfp4", "gpt_oss_mxfp4", "mxfp8"),
        *("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"),
    }
)
AITER = "VLLM_ROCM_USE_AITER"


def on_rocm(args: EngineArgs, facts: ModelFacts, environment: EngineEnvironment) -> EngineArgs:
    """The flags as vLLM takes them on an AMD GPU.

    Raises:
        InputError: What vLLM refuses there, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    if facts.quantization is not None and facts.quantization not in QUANTIZATION:
        raise InputError(f"{facts.quantization} quantization is currently not supported in rocm.")
    if environment.rocm_use_aiter:
        raise UnsupportedError(
            f"{AITER}=1 changes attention backends and MoE kernels, which is not planned for; "
            "--planner vllm can answer"
        )
    if args.kv_transfer_config is not None:
        raise UnsupportedError(
            "--kv-transfer-config on AMD GPUs rules out some attention backends, which is not "
            "planned for; --planner vllm can answer"
        )
    if facts.is_encoder_decoder and not args.enforce_eager:
        return replace(args, enforce_eager=True)
    return args
