"""Which model runner, whether steps overlap, and how many are in flight: vLLM 0.33.

Restates ``use_v2_model_runner``, ``_get_v2_model_runner_unsupported_features``, the async
scheduling part of ``__post_init__``, ``max_concurrent_batches`` and
``_limit_max_model_len_to_draft`` of ``VllmConfig`` (vllm/config/vllm.py).
"""

from __future__ import annotations

from ..errors import InputError
from ..records import dataclass
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts
from .speculative import Speculative

_ASYNC_ON_V1 = (
    *("eagle", "eagle3", "mtp", "dflash", "dspark"),
    *("extract_hidden_states", "ngram_gpu", "draft_model"),
)


@dataclass(frozen=True)
class Runner:
    """How steps are run."""

    uses_v2: bool
    """Model Runner V2 (else V1)."""
    async_scheduling: bool
    max_concurrent_batches: int
    """Steps whose blocks are held at once."""
    reason: str | None = None
    """Why not V2, or why not async, where vLLM says so."""


def resolve_runner(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
    *,
    has_triton: bool = True,
) -> Runner:
    """Raises InputError where ``--async-scheduling`` or a runner is asked for in vain."""
    uses_v2, reason = _uses_v2(args, facts, speculative, environment, has_triton)
    overlap, why_not = _async_scheduling(args, facts, speculative, uses_v2)
    if not uses_v2:
        _check_v1(args, facts, speculative, overlap)
    batches = args.pipeline_parallel_size
    if overlap and uses_v2:
        batches += 1
    elif overlap and batches == 1:  # V1 does not overlap with pipeline stages
        batches = 2
    return Runner(uses_v2, overlap, batches, reason or why_not)


def v2_unsupported(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
) -> list[str]:
    """Features of this set-up that Model Runner V2 lacks, in vLLM's words."""
    lacking: list[str] = []
    if args.distributed_executor_backend == "external_launcher" and args.pipeline_parallel_size > 1:
        lacking.append("pipeline parallelism with external_launcher")
    if speculative is not None:
        if speculative.method in ("suffix", "custom_class"):
            lacking.append(f"speculative method '{speculative.method}'")
        if speculative.parallel_drafting and speculative.method not in ("dflash", "dspark"):
            lacking.append("parallel drafting for EAGLE speculative decoding")
        if speculative.use_heterogeneous_vocab:
            lacking.append("heterogeneous-vocabulary draft models")
    if args.enable_dbo or args.ubatch_size > 1:
        lacking += _dbo_unsupported(args, facts, speculative, environment)
    return lacking


def _dbo_unsupported(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
) -> list[str]:
    if environment.use_v2_model_runner is None:
        return ["dual batch overlap"]
    context_parallel = args.decode_context_parallel_size * args.prefill_context_parallel_size
    piecewise = str(args.compilation_config.get("cudagraph_mode", "")).upper() == "PIECEWISE"
    tests = (
        (args.enable_lora, "LoRA"),
        (speculative is not None, "speculative decoding"),
        (args.pipeline_parallel_size > 1, "pipeline parallelism"),
        (context_parallel > 1, "context parallelism"),
        (facts.is_multimodal or facts.is_encoder_decoder, "multimodal models"),
        (facts.is_hybrid, "hybrid models"),
        (piecewise, "PIECEWISE CUDA graphs"),
        (args.mm_encoder_only, "encoder only models"),
    )
    return [f"dual batch overlap with {what}" for found, what in tests if found]


def _uses_v2(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
    has_triton: bool,
) -> tuple[bool, str | None]:
    forced = environment.use_v2_model_runner
    if args.attention_config.get("hisparse_config") is not None:
        if forced is False:
            raise InputError("HiSparse requires Model Runner V2; remove VLLM_USE_V2_MODEL_RUNNER=0")
        return True, None
    if args.watermark_config is not None:
        return True, None
    lacking = v2_unsupported(args, facts, speculative, environment)
    if forced is not None:
        if forced and lacking:
            raise InputError(f"Model Runner V2 does not yet support: {', '.join(lacking)}")
        return forced, None if forced else "VLLM_USE_V2_MODEL_RUNNER=0"
    if not has_triton:
        return False, "Model Runner V2 requires Triton"
    if lacking:
        return False, f"Model Runner V2 does not yet support {', '.join(lacking)}"
    return True, None


def _async_scheduling(
    args: EngineArgs, facts: ModelFacts, speculative: Speculative | None, uses_v2: bool
) -> tuple[bool, str | None]:
    if args.async_scheduling is False:
        return False, None
    why_not: str | None = None
    if not uses_v2:
        if speculative is not None and speculative.method not in _ASYNC_ON_V1:
            why_not = f"{speculative.method}-based speculative decoding"
        elif speculative is not None and speculative.disable_padded_drafter_batch:
            why_not = "disable_padded_drafter_batch=True"
        elif args.pipeline_parallel_size > 1:
            why_not = "pipeline parallelism"
    if args.async_scheduling:
        if why_not is not None:
            raise InputError(
                f"Async scheduling is not supported by the V1 model runner with {why_not}"
            )
        return True, None
    if facts.runner_type == "pooling":
        return False, "async scheduling is off for pooling models"
    if why_not is not None:
        return False, f"the V1 model runner cannot schedule ahead with {why_not}"
    return True, None


def _check_v1(
    args: EngineArgs, facts: ModelFacts, speculative: Speculative | None, overlap: bool
) -> None:
    lacking: list[str] = []
    if args.prefill_context_parallel_size > 1:
        lacking.append("prefill context parallel")
    if args.pipeline_parallel_size > 1 and overlap:
        lacking.append("pipeline parallelism with async scheduling")
    if speculative is not None and speculative.method == "dspark":
        lacking.append("dspark speculative decoding")
    if facts.is_diffusion:
        lacking.append("diffusion models")
    if facts.architecture in ("Step5ForCausalLM", "Step5ForConditionalGeneration"):
        lacking.append("Step5")
    if lacking:
        raise InputError(f"Model Runner V1 does not support: {', '.join(lacking)}")


def limit_to_draft(
    max_model_len: int,
    draft_max_model_len: int,
    speculative: Speculative,
    *,
    uses_v2: bool,
    draft_rope_types: tuple[str, ...] = ("default",),
) -> int:
    """``max_model_len`` once the draft model had its say; tokens.

    V2 cannot skip drafting for longer requests. Drafts that share the target's positions (all
    but independent draft models, with a RoPE that only sizes a cache) do not limit it.
    """
    cache_only = {"default", "linear", "llama3", "ntk", "proportional"}
    shares = speculative.method != "draft_model" and set(draft_rope_types) <= cache_only
    if not uses_v2 or shares:
        return max_model_len
    return min(max_model_len, draft_max_model_len)
