"""Weights per rank: how much of a GPU the model takes before anything runs.

``weights_per_rank`` adds up the tensors that vLLM's layers would hold; ``headers`` reads what a
checkpoint holds.

Source: vLLM 0.33 ``v1/worker/gpu/model_runner.py`` ``load_model``: the model, its LoRA slots and
the draft model are loaded under one measurement, which "Model loading took" reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...config.found import weights_unknown
from ...engine_args.engine_args import EngineArgs
from ...engine_args.parallel import stage_ranges
from ...engine_args.setup import EngineSetup, Keyed
from ...errors import UnsupportedError
from ...model.config import Config
from ...model.description import ModelDescription
from ...records import replace
from ...version import VLLM_MINOR
from ..versions import VersionRules
from .architectures import build, family, text_row
from .architectures.facts import Facts, WeightTree
from .draft import draft_tensors, own_quantization
from .estimate import StageWeights as StageWeights
from .estimate import WeightsEstimate as WeightsEstimate
from .estimate import left_on_gpu, processed, total, uncertainty
from .lora import LoRASlots
from .quantization import quantization
from .rank import Rank, Tensor


def weights_per_rank(
    description: ModelDescription,
    args: EngineArgs,
    *,
    dtype: str,
    method: str | None,
    compute_capability: tuple[int, int] = (9, 0),
    platform: str = "cuda",
    max_model_len: int = 0,
    version: tuple[int, int] = VLLM_MINOR,
    layers_per_stage: tuple[int, ...] | None = None,
    draft_method: str | None = None,
    draft: ModelDescription | None = None,
    draft_quantization: str | None = None,
) -> WeightsEstimate:
    """Bytes of weights on each pipeline stage's ranks.

    ``dtype``: the engine's dtype, resolved. ``method``: the quantisation method, resolved
    (``engine_args.quantization``). ``platform``: cuda, rocm or xpu. ``max_model_len``: tokens a
    request may have. Rotary caches of EAGLE drafts follow it. ``version``: of vLLM: where older
    ones are known to differ, they do.
    ``layers_per_stage``: as resolved (``ResolvedEngine.layers_per_stage``); even by default.
    ``draft_method``: how it drafts (``Speculative.method``), if it does. ``draft``: the draft
    model, where it has a checkpoint of its own. ``draft_quantization``: its quantisation method,
    resolved.

    Raises:
        UnsupportedError: No rule for the architecture, the quantisation or the draft.
        ConfigError: A value is missing or makes no sense.
    """
    size = args.tensor_parallel_size
    beside = args.prefill_context_parallel_size * args.data_parallel_size
    redundant = args.eplb_config.get("num_redundant_experts", 0) if args.enable_eplb else 0
    row = family(description.architecture) or {}
    _check_flags(description.architecture, row.get("unverified", ()), args, method)
    facts = Facts(
        description=description,
        text=Config(description.text_config, "config.json"),
        top=Config(description.config, "config.json"),
        version=version,
        capability=compute_capability,
        mm_limits=_limits(args.limit_mm_per_prompt),
        language_model_only=args.language_model_only,
    )
    tree = build(facts)
    # rank 0 of any stage, which has the most of what does not divide evenly
    rank = Rank(
        dtype=dtype,
        quantization=quantization(method, description.config, is_composite="wrapper" in row),
        tensor_parallel_size=size,
        expert_parallel_size=size * beside if args.enable_expert_parallel else 1,
        beside=beside,
        num_redundant_experts=redundant if isinstance(redundant, int) else 0,
        compute_capability=compute_capability,
        split_limited=platform == "cuda" and VersionRules(version).loads_split_limited,
        moe_backend=args.moe_backend,
        vit_tensor_parallel_size=1 if args.mm_encoder_tp_mode == "data" else size,
        version=version,
        absorbs=description.use_mla,
    )
    drafted = draft_tensors(
        facts,
        rank,
        draft_method,
        draft,
        quantization=draft_quantization,
        over_stages=args.pipeline_parallel_size > 1,
        max_model_len=max_model_len,
    )
    partition = None if layers_per_stage is None else ",".join(map(str, layers_per_stage))
    if sum(layers_per_stage or ()) != len(tree.layers):
        partition = None  # Whisper counts both halves
    ranges = stage_ranges(len(tree.layers), args.pipeline_parallel_size, partition)
    slots = None
    if args.enable_lora:
        inner = text_row(description.architecture) or row
        takes = bool(inner.get("lora_embeddings"))
        slots = LoRASlots(args, rank, takes_embeddings=takes)
    return _estimate(args, tree, ranges, rank, slots, drafted)


def _check_flags(
    architecture: str, unverified: Sequence[str], args: EngineArgs, method: str | None
) -> None:
    """Refuse flags under which a rule was not seen to give vLLM's bytes.

    Raises:
        UnsupportedError: One of them is set.
    """
    said = {
        "quantization": method is not None,
        "mm_encoder_tp_mode": args.mm_encoder_tp_mode == "data" and args.tensor_parallel_size > 1,
        "language_model_only": args.language_model_only,
        "pipeline_parallel_size": args.pipeline_parallel_size > 1,
        "limit_mm_per_prompt": 0 in _limits(args.limit_mm_per_prompt).values(),
    }
    for flag in unverified:
        if said[flag]:
            raise UnsupportedError(
                f"weights of {architecture} with {flag.replace('_', '-')} are not known to the "
                "stand-alone planner; a local checkpoint's safetensors headers or --planner vllm "
                "can answer"
            )


def _limits(given: Mapping[str, Any]) -> Mapping[str, int]:
    """Items per modality: a number, or an object with a ``count``."""
    counts = {
        modality: said.get("count", 999) if isinstance(said, Mapping) else said
        for modality, said in given.items()
    }
    return {modality: count for modality, count in counts.items() if isinstance(count, int)}


def _estimate(
    args: EngineArgs,
    tree: WeightTree,
    ranges: tuple[range, ...],
    rank: Rank,
    slots: LoRASlots | None,
    drafted: list[Tensor],
) -> WeightsEstimate:
    """The bytes of every stage: its part of the tree, adapters, and on the last what drafts."""
    notes: list[str] = []
    if rank.quantization.lists_no_exceptions:
        notes.append(UNLISTED)
    stages: list[StageWeights] = []
    last = len(ranges) - 1
    for number, layers in enumerate(ranges):
        chosen = tree.stage_modules(layers, is_first=number == 0, is_last=number == last)
        tensors = list(tree.tensors(chosen, rank))
        if args.cpu_offload_gb or args.offload_group_size:
            tensors, moved = left_on_gpu(tensors, args)
            if number == 0:
                notes.append(f"--cpu-offload-gb leaves {moved:,} bytes a GPU in host memory")
        if slots is not None:
            tensors += [tensor for each in chosen for tensor in slots.tensors(each)]
            if number == last and tree.tied:
                tensors += slots.of_tied_head(tree.embedding)
        if number == last:
            held = {each.shared for each in tensors if each.shared is not None}
            tensors += [each for each in drafted if each.shared not in held]
        stages.append(total(tensors, processed(tensors, rank), split_limited=rank.split_limited))
    return WeightsEstimate(
        stages=tuple(stages),
        provenance=f"shapes of vLLM 0.33's layers ({rank.quantization.description})",
        uncertainty_bytes=max(uncertainty(stage, rank) for stage in stages),
        notes=tuple(notes),
    )


def setup_weights(
    setup: EngineSetup,
    *,
    version: tuple[int, int] = VLLM_MINOR,
) -> WeightsEstimate:
    """``weights_per_rank`` of an engine that is set up.

    Raises:
        UnsupportedError: As ``weights_per_rank``.
    """
    named = setup.model.unstated_quantization
    if named is not None and setup.facts.quantization is None:
        raise UnsupportedError(weights_unknown(named))
    resolved = setup.resolved
    found = weights_per_rank(
        setup.model,
        setup.args,
        dtype=resolved.dtype.name,
        method=setup.facts.quantization,
        compute_capability=setup.gpu.cuda_capability,
        platform=setup.gpu.platform,
        max_model_len=resolved.length.max_model_len,
        version=version,
        layers_per_stage=resolved.layers_per_stage,
        draft_method=None if resolved.speculative is None else resolved.speculative.method,
        draft=None if setup.draft is None or setup.draft.method == "mtp" else setup.draft.model,
        draft_quantization=own_quantization(setup),
    )
    if not setup.gpu.unified_memory or setup.args.load_format not in _BY_THE_HOST:
        return found
    beside = max(stage.loaded_bytes for stage in found.stages)
    return replace(
        found,
        uncertainty_bytes=found.uncertainty_bytes + beside,
        notes=(*found.notes, _LOADED_TWICE),
    )


_BY_THE_HOST = ("fastsafetensors", "instanttensor")
"""Loaders that read files into memory of their own first (``model_loader/weight_utils.py``)."""
_LOADED_TWICE = (
    "the GPU's memory is the host's: what --load-format fastsafetensors or instanttensor still "
    "holds counts as the engine's; published starts of 0.28 on GB10 had a whole checkpoint less"
)
UNLISTED = (
    "this copy of the quantisation's config lists no layer that is not quantised, which published "
    "checkpoints do: the weights may be a sixth more"
)

NOT_IN_WEIGHTS = frozenset(
    [
        "data_parallel_size",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "kv_cache_memory_bytes",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
    ]
)
"""What changes from set-up to set-up and not the weights: ``weights_per_rank`` reads none of it."""


def remembered_weights(setup: EngineSetup, version: tuple[int, int]) -> WeightsEstimate:
    """As ``setup_weights``, whose last answers are kept: a sweep divides one model in few ways.

    Raises:
        UnsupportedError: As ``setup_weights``.
    """
    return _remembered(Keyed(setup, _key(setup)), version)


@lru_cache(maxsize=256)
def _remembered(setup: Keyed, version: tuple[int, int]) -> WeightsEstimate:
    # the set-up is kept with its answer, so that the ids in its key cannot come to mean others
    return setup_weights(setup.value, version=version)


def _key(setup: EngineSetup) -> tuple[object, ...]:
    args = vars(setup.args)
    return (
        id(setup.model),
        id(setup.draft),
        setup.gpu.platform,
        setup.gpu.compute_capability,
        setup.resolved.layers_per_stage,
        setup.resolved.dtype.name,
        # data-parallel engines share the experts, if there are any
        setup.args.data_parallel_size if setup.model.is_moe else 1,
        *(repr(value) for name, value in args.items() if name not in NOT_IN_WEIGHTS),
    )
