"""What balancing experts takes (``--enable-eplb``), beside the redundant experts' own weights.

Kept from the loading on: a map of every expert's copies (1,024 places each, 8 bytes a place), the
loads of the last steps, and a buffer for one layer's experts. The profile run then gathers one
layer's experts from all ranks, as a balancing step might: PyTorch's ``all_gather`` stacks what
comes in before it hands it on. NIXL has buffers of its own and gathers nothing; vLLM takes it
where it is installed.

Source: vLLM 0.33 ``distributed/eplb/eplb_state.py`` ``add_model``, ``rebalance_execute.py``
``rearrange_expert_weights_inplace``, ``config/parallel.py`` (the communicator); PyTorch
``ProcessGroupNCCL::allgather``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..errors import UnsupportedError
from ..kv_cache.math import cdiv
from .phase import Parts, Phase, parts
from .rank import Rank

_PLACES = 1024
"""MAX_EXPERT_REDUNDANCY + 1."""
_WINDOW = 1000
_BYTES = {"float32": 4, "float8_e4m3fn": 1, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}


def eplb_buffers(rank: Rank) -> Parts:
    """What stays; nothing without ``--enable-eplb``."""
    experts = rank.shapes.experts
    if experts is None or not rank.setup.args.enable_eplb:
        return ()
    layers = _layers(rank)
    window = _whole(rank, "window_size", _WINDOW)
    return parts(
        expert_places=layers * experts.count * _PLACES * 8,
        expert_loads=window * layers * (experts.count + _redundant(rank)) * 4,
        expert_buffer=sum(_expert_tensors(rank)),
    )


def eplb_phases(rank: Rank, held: Parts) -> list[Phase]:
    """The balancing step of the profile run."""
    sizes = _expert_tensors(rank) if rank.setup.args.enable_eplb else ()
    if not sizes or rank.setup.args.eplb_config.get("communicator") == "nixl":
        return []
    gathered = max(sizes) * _ranks(rank)
    live = parts(
        hidden_states=rank.tokens * rank.hidden * rank.element,
        expert_profile_buffer=sum(sizes),
        gathered_experts=gathered,
    )
    return [Phase("balancing of experts", (*held, *live), gathered // 4)]


def _layers(rank: Rank) -> int:
    text = rank.setup.model.text_config
    dense = text.get("first_k_dense_replace")
    layers = sum(rank.setup.resolved.layers_per_stage)
    return max(1, layers - dense if isinstance(dense, int) else layers)


def _ranks(rank: Rank) -> int:
    args = rank.setup.args
    return rank.tp * args.data_parallel_size * args.prefill_context_parallel_size


def _redundant(rank: Rank) -> int:
    return _whole(rank, "num_redundant_experts", 0)


def _whole(rank: Rank, name: str, default: int) -> int:
    value = rank.setup.args.eplb_config.get(name, default)
    return value if isinstance(value, int) else default


def _expert_tensors(rank: Rank) -> Sequence[int]:
    """Bytes of one layer's expert tensors on a rank."""
    from .weights.quantization.base import ExpertsMethod, ExpertsShape, UnquantizedExperts
    from .weights.quantization.choose import quantization

    experts, facts = rank.shapes.experts, rank.setup.facts
    if experts is None:
        return ()
    prefix = f"model.layers.{sum(rank.setup.resolved.layers_per_stage) - 1}.mlp.experts"
    method: ExpertsMethod
    try:
        method = quantization(facts.quantization, facts.config).experts(prefix)
    except UnsupportedError:
        method = UnquantizedExperts()
    shape = ExpertsShape(
        prefix=prefix,
        num_experts=cdiv(experts.count + _redundant(rank), _ranks(rank)),
        hidden=rank.hidden,
        intermediate=experts.down_in,
        shards=2 if experts.up > experts.down_in else 1,
        bias=False,
        dtype=rank.setup.resolved.dtype.name,
        whole_intermediate=experts.down_in,
    )
    return [
        prod(dimensions) * _BYTES.get(dtype, rank.element)
        for _, dimensions, dtype in method.experts(shape)
    ]
