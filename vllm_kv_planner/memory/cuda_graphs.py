"""CUDA graphs: which an engine captures, and the estimate for them that vLLM deducts.

vLLM captures the two largest sizes of each mode, takes the larger first capture of the modes and
adds the second's cost for every further graph. Here each is modelled:

* first piecewise capture: the pool's activations at the largest size, cuBLAS's workspace on the
  capture stream, loaded kernels (a constant of ``overheads.json``);
* first full capture: FlashAttention 3's accumulators, 32 splits x heads x tokens x head size in
  float32 (exact to a few MiB on every record), sparse attention's scores (``sparse.py``), elsewhere
  a constant;
* every further graph: so much a layer, a mean over the records; FlashInfer adds a workspace of
  8 MiB for each full graph.

Source: ``VllmConfig._set_cudagraph_sizes`` (vLLM 0.19 to 0.33 ``config/vllm.py``), the override of
gpt-oss (``model_executor/models/config.py``), ``CudagraphDispatcher.initialize_cudagraph_keys``
(``v1/cudagraph_dispatcher.py``); ``profile_cudagraph_memory`` of vLLM 0.19 and 0.33
``v1/worker/gpu_model_runner.py`` and ``v1/worker/gpu/cudagraph_utils.py``;
``v1/attention/backends/flash_attn.py``, ``flashinfer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine_args.caching import needs_piecewise
from ..records import dataclass
from .overheads import GraphCosts
from .rank import Rank
from .sampler import draft_of
from .sparse import decode_logits
from .widths import head_widths

_BY_NUMBER = {0: "NONE", 1: "PIECEWISE", 2: "FULL"}
_BY_LEVEL = {"0": "NONE", "1": "PIECEWISE"}
_DEFAULT_MODE = "FULL_AND_PIECEWISE"


@dataclass(frozen=True)
class Captures:
    """Graphs by mode; a size is a number of tokens.

    Attributes:
        mode: vLLM's name of the mode.
        piecewise: Sizes captured piece by piece, between attentions.
        full: Sizes captured whole, decode batches.
    """

    mode: str
    piecewise: tuple[int, ...] = ()
    full: tuple[int, ...] = ()


def captures(rank: Rank) -> Captures:
    """What one rank captures; nothing with ``--enforce-eager``."""
    mode = capture_mode(rank)
    if mode == "NONE":
        return Captures(mode)
    sizes = capture_sizes(rank)
    query = _query_length(rank)
    decode = rank.setup.resolved.batch.max_num_seqs * query
    decodes = tuple(size for size in sizes if query <= size <= decode)
    return Captures(
        mode,
        piecewise=() if mode in ("FULL", "FULL_DECODE_ONLY") else sizes,
        full={"PIECEWISE": (), "FULL": sizes}.get(mode, decodes),
    )


def capture_mode(rank: Rank) -> str:
    """``cudagraph_mode`` after the optimisation level and what the attention can do."""
    setup = rank.setup
    asked = setup.args.compilation_config.get("cudagraph_mode")
    level = setup.args.optimization_level
    if setup.args.enforce_eager or (asked is None and _BY_LEVEL.get(level) == "NONE"):
        return "NONE"
    if asked is None:
        mode = _BY_LEVEL.get(level, _DEFAULT_MODE)
    elif isinstance(asked, int):
        mode = _BY_NUMBER.get(asked, _DEFAULT_MODE)
    else:
        mode = str(asked).upper().rpartition(".")[2]
    kinds = {spec.kind for layers in setup.cache.stages for spec in dict(layers).values()}
    # cannot be captured whole (Llama 4; 51 piecewise graphs in logs)
    if mode == _DEFAULT_MODE and "chunked_local_attention" in kinds:
        return "PIECEWISE"
    if mode != "NONE" and needs_piecewise(setup.args.kv_transfer_config):
        return "PIECEWISE"
    # "Pooling models do not support full cudagraphs" (``VllmConfig.__post_init__``, 0.22 to 0.33)
    if mode.startswith("FULL") and setup.model.runner_type == "pooling":
        return "PIECEWISE"
    return mode


def captures_full(rank: Rank) -> bool:
    """Whether whole steps are captured, decode batches at the least.

    Source: vLLM 0.33 ``CUDAGraphMode.has_full_cudagraphs``.
    """
    return capture_mode(rank).startswith("FULL")


def capture_sizes(rank: Rank) -> tuple[int, ...]:
    """Sizes in ascending order."""
    setup = rank.setup
    batch = setup.resolved.batch
    tokens, seqs, query = batch.max_num_batched_tokens, batch.max_num_seqs, _query_length(rank)
    config: Mapping[str, Any] = setup.args.compilation_config
    asked = setup.args.cudagraph_capture_sizes or config.get("cudagraph_capture_sizes")
    if asked:
        return tuple(sorted({int(size) for size in asked if int(size) <= tokens}))
    major = setup.gpu.cuda_capability[0]
    ceiling = 1024 if major == 10 and rank.rules.version >= (0, 29) else 512
    largest = setup.args.max_cudagraph_capture_size or config.get("max_cudagraph_capture_size")
    chosen = largest is None
    if largest is None and setup.model.architecture == "GptOssForCausalLM":
        largest = 1024
    if largest is None:
        largest = min(seqs * query * 2, ceiling)
    largest = min(tokens, int(largest))
    sizes = {size for size in (1, 2, 4) if size <= largest}
    sizes.update(range(8, min(largest + 1, 256), 8), range(256, largest + 1, 16))
    if rank.rules.version >= (0, 22) and tokens <= largest:
        sizes.add(tokens)
    if rank.rules.version >= (0, 29) and chosen and query == 1 and seqs <= largest:
        sizes.add(seqs)
    return tuple(sorted(sizes))


def _query_length(rank: Rank) -> int:
    speculative = rank.setup.resolved.speculative
    return 1 + (0 if speculative is None else speculative.num_speculative_tokens or 0)


MIB = 1 << 20
_SPLITS = 32  # flash_attn_max_num_splits_for_cuda_graph
_FLASHINFER_PER_GRAPH = 8 * MIB  # the integer workspace of each batch size's wrapper
_UNSURE = {"FLASH_ATTN": 0.25}
_VERY_UNSURE = 0.6
_SPECIALIZED_FROM = (0, 11)
"""vLLM 0.10 captures with adapters only."""
_SEEN_UNSURE = 0.1
"""Of an estimate that the same model's start on the device printed, should flags differ."""


@dataclass(frozen=True)
class GraphEstimate:
    """What vLLM estimates before it captures.

    Attributes:
        deducted_bytes: What comes off the KV cache: the estimate, or 0 where vLLM ignores it.
        uncertainty_bytes: How far off ``estimate_bytes`` may be.
    """

    estimate_bytes: int
    deducted_bytes: int
    uncertainty_bytes: int
    num_graphs: int
    how: str


def graph_estimate(rank: Rank, costs: GraphCosts, *, deduct: bool = True) -> GraphEstimate:
    """The estimate for one rank; ``deduct`` is VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS."""
    taken = captures(rank)
    cases = capture_cases(rank)
    piecewise, full = len(taken.piecewise) * cases, len(taken.full) * cases
    count = piecewise + full
    if count == 0:
        return GraphEstimate(0, 0, 0, 0, "no CUDA graphs are captured")
    layers = rank.setup.resolved.layers_per_stage[rank.stage]
    first = 0
    further = 0
    if taken.piecewise:
        pool = pool_activation_bytes(rank, taken.piecewise[-1])
        first = costs.first_piecewise_bytes + pool
        further += (piecewise - 1) * _per_graph(costs.piecewise_bytes_per_layer, layers)
    if taken.full:
        largest = taken.full[-1]
        scores = accumulator_bytes(rank, largest) + 2 * decode_logits(rank, largest)
        first = max(first, costs.first_full_bytes + scores)
        per_graph = _per_graph(costs.full_bytes_per_layer, layers)
        if _uses(rank, "FLASHINFER"):
            per_graph += _FLASHINFER_PER_GRAPH
        further += (full - 1) * per_graph
    estimate = first + further + drafted_bytes(rank, costs, piecewise, full)
    if rank.setup.gpu.cuda_capability[0] != 9:
        estimate = max(estimate, costs.least_elsewhere_bytes)
    backend = next(iter(rank.setup.cache.backends), "")
    doubt, source = _UNSURE.get(backend, _VERY_UNSURE), costs.source
    model = rank.setup.args.model
    seen = costs.ratio(rank.setup.gpu.short_name, backend or None, model)
    if seen is not None:
        estimate, source = int(estimate * seen.ratio), seen.source
        doubt = _SEEN_UNSURE if (seen.model, seen.backend) == (model, backend or None) else doubt
    unsure = int(estimate * doubt)
    applies = deduct and rank.rules.deducts_graphs(rank.uses_v2, rank.setup.gpu.platform)
    how = (
        f"{piecewise} piecewise and {full} full graphs; {source}"
        if applies
        else f"vLLM {rank.rules.name} captures {count} graphs but deducts nothing for them"
    )
    return GraphEstimate(estimate, estimate if applies else 0, unsure, count, how)


def capture_cases(rank: Rank) -> int:
    """How many graphs are captured of each size: for batches without and with adapters.

    ``--specialize-active-lora`` captures one set for each power of two of adapters. Source: vLLM
    0.33 ``lora/utils.py`` ``get_captured_lora_counts``, ``v1/cudagraph_dispatcher.py``
    ``_get_lora_cases``, ``v1/worker/gpu/lora_utils.py`` ``get_lora_capture_cases``.
    """
    args = rank.setup.args
    if not args.enable_lora or rank.rules.version < _SPECIALIZED_FROM:
        return 1
    if args.compilation_config.get("cudagraph_specialize_lora", True) is False:
        return 2 if rank.uses_v2 else 1
    if not args.specialize_active_lora:
        return 2
    counts = {1 << n for n in range(args.max_loras.bit_length())} | {args.max_loras + 1}
    return 1 + len(counts)


def drafted_bytes(rank: Rank, costs: GraphCosts, piecewise: int, full: int) -> int:
    """Graphs of the draft: its pass over the target's batch, and decode steps of its own.

    Model Runner V1 captures the draft's layers with the target's. An independent draft model is
    not captured. Source: vLLM 0.33 ``v1/worker/gpu/spec_decode/target_dependent_ar/speculator.py``
    ``init_cudagraph_manager``, ``multi_module_mtp/speculator.py``; ``GPUModelRunner._dummy_run``.
    """
    draft, speculative = draft_of(rank), rank.setup.resolved.speculative
    if draft is None or speculative is None or draft.method == "draft_model":
        return 0
    layers = len({layer.index for layer in draft.layers})
    if not rank.uses_v2:
        return layers * (
            piecewise * costs.piecewise_bytes_per_layer + full * costs.full_bytes_per_layer
        )
    modules = min(speculative.num_mtp_layers, speculative.num_speculative_tokens or 0)
    steps = 2 if modules == 1 and (speculative.num_speculative_tokens or 0) > 1 else 1
    pieces = 0 if modules > 1 else piecewise
    return pieces * _per_graph(costs.piecewise_bytes_per_layer, layers) + (
        steps * full * _per_graph(costs.full_bytes_per_layer, layers)
    )


def _per_graph(bytes_per_layer: int, layers: int) -> int:
    return max(MIB, bytes_per_layer * layers)


def pool_activation_bytes(rank: Rank, tokens: int) -> int:
    """A layer's tensors at the largest captured size."""
    shapes = rank.shapes
    width = 3 * rank.hidden + shapes.mlp_up + shapes.mlp_down_in
    if shapes.experts is not None:
        # the constants of ``overheads.json`` were fitted with the widest head in every KV head
        width = 4 * rank.hidden + sum(head_widths(rank.setup.model, rank.tp))
    return tokens * width * rank.element


def accumulator_bytes(rank: Rank, tokens: int) -> int:
    """FlashAttention 3's buffers for split keys and values."""
    major = rank.setup.gpu.cuda_capability[0]
    sinks = any(getattr(layer, "has_sink", False) for layer in rank.setup.model.layers)
    if major != 9 or not _uses(rank, "FLASH_ATTN") or sinks:
        return 0
    return _SPLITS * tokens * rank.shapes.query * 4


def _uses(rank: Rank, backend: str) -> bool:
    return backend in rank.setup.cache.backends
