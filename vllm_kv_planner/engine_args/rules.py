"""What vLLM refuses of a model once the engine is resolved, by device, and of its LoRA adapters.

Source: vLLM 0.33 ``platforms/rocm.py`` and ``platforms/xpu.py`` (``supported_quantization``,
``check_if_supports_dtype``), ``config/model.py`` ``_verify_cuda_graph``; of adapters
``entrypoints/common/cli_args.py`` ``LoRAParserAction``, ``v1/worker/lora_model_runner_mixin.py``
``add_lora``, ``lora/peft_helper.py`` ``validate_legal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError, PlannerError, UnsupportedError
from ..gpu.gpu import GPU
from ..model.description import ModelDescription
from ..records import replace
from .defaults import ResolvedEngine
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts
from .flag_table import flag_of

_QUANTIZATION = {
    "rocm": (
        *("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "inc", "quark", "torchao"),
        *("fp8", "deepseek_v4_fp8", "fbgemm_fp8", "fp8_per_tensor", "fp8_per_block"),
        *("fp8_per_channel", "online", "compressed-tensors", "mxfp4", "gpt_oss_mxfp4", "mxfp8"),
        *("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"),
    ),
    "xpu": (
        *("awq", "gptq", "moe_wna16", "auto_awq", "auto_gptq", "inc", "fp8", "deepseek_v4_fp8"),
        *("mxfp4", "mxfp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "online"),
        *("gpt_oss_mxfp4", "modelopt", "compressed-tensors"),
    ),
}
"""The methods of platforms other than CUDA (``supported_quantization``)."""


def check_rules(
    args: EngineArgs,
    model: ModelDescription,
    facts: ModelFacts,
    resolved: ResolvedEngine,
    capability: tuple[int, int],
) -> None:
    """Refuse quantization, and pipeline stages, that vLLM refuses of a target or a draft.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    if facts.quantization is not None:
        from .parallel import check_blocks
        from .quantization_checks import check_quantization

        check_quantization(
            facts.quantization,
            facts.config,
            dtype=resolved.dtype.name,
            compute_capability=capability,
            has_online_config=args.quantization_config is not None,
        )
        check_blocks(
            facts,
            head_size=model.head_size,
            tensor_parallel_size=args.tensor_parallel_size,
            expert_parallel=args.enable_expert_parallel,
        )
    if args.pipeline_parallel_size > 1:
        from .cache_layers import check_kv_sharing

        check_kv_sharing(model, resolved.layers_per_stage)


def on_platform(
    args: EngineArgs,
    model: ModelDescription,
    gpu: GPU,
    facts: ModelFacts,
    environment: EngineEnvironment,
) -> EngineArgs:
    """The flags as vLLM takes them on an AMD or Intel GPU.

    Raises:
        InputError: What vLLM refuses there, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    method = facts.quantization
    if method is not None and method not in _QUANTIZATION[gpu.platform]:
        raise InputError(f"{method} quantization is currently not supported in {gpu.platform}.")
    if gpu.platform == "xpu":
        _check_on_xpu(args, model, gpu)
        return args
    if environment.rocm_use_aiter:
        raise UnsupportedError(
            "VLLM_ROCM_USE_AITER=1 changes attention backends and MoE kernels, which is not "
            "planned for; --planner vllm can answer"
        )
    if args.kv_transfer_config is not None:
        raise UnsupportedError(
            "--kv-transfer-config on AMD GPUs rules out some attention backends, which is not "
            "planned for; --planner vllm can answer"
        )
    if facts.is_encoder_decoder and not args.enforce_eager:
        return replace(args, enforce_eager=True)
    return args


def _check_on_xpu(args: EngineArgs, model: ModelDescription, gpu: GPU) -> None:
    if args.dtype == "bfloat16" and "a770" in gpu.name.lower():
        raise InputError("Intel Arc A770 have bfloat16 accuracy known issue: use --dtype half")
    unplanned = {
        "latent attention (MLA)": model.use_mla,
        "a hybrid of attention and states": model.is_hybrid,
        "a model without attention": model.is_attention_free,
        "an image that is attended to in both directions": model.is_mm_prefix_lm,
        "--speculative-config": args.speculative_config is not None,
        "--kv-transfer-config": args.kv_transfer_config is not None,
    }
    for what, there in unplanned.items():
        if there:
            raise UnsupportedError(
                f"{what} on Intel GPUs: vLLM's rules for it are not restated; plan for another "
                "GPU, or read the engine's own log there"
            )


def check_modules(words: Iterable[str], args: EngineArgs) -> list[str]:
    """What to know of the adapters that ``--lora-modules`` loads at the start.

    Args:
        words: The flag's values: ``NAME=PATH``, or a JSON object with ``name`` and ``path``.
        args: The engine's flags.

    Raises:
        InputError: vLLM would not start: a value it cannot read, LoRA not enabled, or an adapter
            it does not take.
    """
    from ..config.find import is_offline
    from ..config.reference import find_adapter

    notes = []
    for name, path in map(_name_and_path, filter(None, words)):
        where = f"--lora-modules {name[:60]}"
        if not args.enable_lora:
            raise InputError(f"{where}: LoRA is not enabled. Use --enable-lora to enable LoRA.")
        try:
            adapter = find_adapter(path, offline=is_offline())
        except PlannerError as error:
            raise InputError(f"{where}: {error}") from None
        if adapter is None:
            notes.append(
                f"{where}: {path[:100]} is not known here, so its rank is not held against "
                f"--max-lora-rank {args.max_lora_rank}"
            )
            continue
        _check_adapter(adapter, where, args.max_lora_rank)
        base = adapter.get("base_model_name_or_path")
        if isinstance(base, str) and base and not _may_be(base, args.model):
            notes.append(f"{where}: its config says that it is an adapter of {base[:100]}")
    return notes


def _name_and_path(word: str) -> tuple[str, str]:
    """As vLLM reads one value: JSON where it holds a comma, or no ``=``."""
    if "=" in word and "," not in word:
        name, _, path = word.partition("=")
        return name, path
    from ..files.json_file import parse_config

    try:
        found = parse_config(word.encode(), "--lora-modules")
    except PlannerError:
        raise InputError(f"Invalid JSON format for --lora-modules: {word[:100]}") from None
    known = {"name", "path", "base_model_name", "is_3d_lora_weight"}
    named, at = found.get("name"), found.get("path")
    if not isinstance(named, str) or not isinstance(at, str) or found.keys() - known:
        raise InputError(
            f"Invalid fields for --lora-modules: {word[:100]} - name and path are needed, "
            "base_model_name and is_3d_lora_weight may be given"
        )
    return named, at


def _check_adapter(adapter: Mapping[str, Any], where: str, most: int) -> None:
    from ..config.reference import largest_rank

    rank = largest_rank(adapter)
    if rank is not None and rank > most:
        sizes = flag_of("max_lora_rank").names
        enough = min((size for size in sizes if size >= rank), default=None)
        helps = "" if enough is None else f" --max-lora-rank {enough} takes it"
        raise InputError(f"{where}: LoRA rank {rank} is greater than max_lora_rank {most}.{helps}")
    if adapter.get("use_dora"):
        raise InputError(f"{where}: vLLM does not yet support DoRA.")
    if adapter.get("bias", "none") != "none":
        raise InputError(f"{where}: Adapter bias is not supported.")


def _may_be(base: str, model: str) -> bool:
    """Whether an adapter's base can be the model: names of paths and of owners differ."""
    short = [
        name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].lower() for name in (base, model)
    ]
    return short[0] in short[1] or short[1] in short[0]
