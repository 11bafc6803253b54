"""The CUDA graph estimate that vLLM deducts: first capture plus so much a graph.

vLLM captures the two largest sizes of each mode, takes the larger first capture of the modes and
adds the second's cost for every further graph. Here each is modelled:

* first piecewise capture: the pool's activations at the largest size, cuBLAS's workspace on the
  capture stream, loaded kernels (a constant of ``overheads.json``);
* first full capture: FlashAttention 3's accumulators, 32 splits x heads x tokens x head size in
  float32 (exact to a few MiB on every record), elsewhere a constant;
* every further graph: so much a layer, a mean over the records; FlashInfer adds a workspace of
  8 MiB for each full graph.

Source: ``profile_cudagraph_memory`` of vLLM 0.19 and 0.33 ``v1/worker/gpu_model_runner.py`` and
``v1/worker/gpu/cudagraph_utils.py``; ``v1/attention/backends/flash_attn.py``, ``flashinfer.py``.
"""

from __future__ import annotations

from ..records import dataclass
from .capture_sizes import captures
from .draft import draft_of
from .lora import capture_cases
from .overheads import GraphCosts
from .rank import Rank

MIB = 1 << 20
_SPLITS = 32  # flash_attn_max_num_splits_for_cuda_graph
_FLASHINFER_PER_GRAPH = 8 * MIB  # the integer workspace of each batch size's wrapper
_UNSURE = {"FLASH_ATTN": 0.25}
_VERY_UNSURE = 0.6
_SEEN_UNSURE = 0.1
"""Of an estimate that the same model's start on the device printed, should flags differ."""


@dataclass(frozen=True)
class GraphEstimate:
    """What vLLM estimates before it captures.

    Attributes:
        estimate_bytes: The estimate.
        deducted_bytes: What comes off the KV cache: the estimate, or 0 where vLLM ignores it.
        uncertainty_bytes: How far off ``estimate_bytes`` may be.
        num_graphs: Graphs captured.
        how: Where it comes from.
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
        first = max(first, costs.first_full_bytes + accumulator_bytes(rank, taken.full[-1]))
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
        doubt = _SEEN_UNSURE if seen.model == model else doubt
    unsure = int(estimate * doubt)
    applies = deduct and rank.rules.deducts_graphs(rank.uses_v2)
    how = (
        f"{piecewise} piecewise and {full} full graphs; {source}"
        if applies
        else f"vLLM {rank.rules.name} captures {count} graphs but deducts nothing for them"
    )
    return GraphEstimate(estimate, estimate if applies else 0, unsure, count, how)


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
        width = 4 * rank.hidden + shapes.query + shapes.key_value
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
