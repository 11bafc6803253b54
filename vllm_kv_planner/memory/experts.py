"""Workspaces of the fused-experts kernels, allocated in the profiled forward pass.

From vLLM 0.13 on they stay allocated. A kernel asks vLLM's workspace manager for two buffers, in
the activations' dtype; M tokens, k experts a token, N gate and up, K hidden:

===============  =================  =============
kernel           first buffer       second buffer
===============  =================  =============
Triton, CUTLASS  M k max(N / 2, K)  M k max(N, K)
Marlin           M k max(N / 2, K)  M k max(N, K)
OpenAI Triton    none that stays    none
FlashInfer       M K, the output    none
===============  =================  =============

Source: ``workspace_shapes`` of vLLM 0.33 ``model_executor/layers/fused_moe/experts/*.py``;
``modular_kernel.py`` ``_allocate_buffers``; ``v1/worker/workspace.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..errors import UnsupportedError
from ..kv_cache.spec import cdiv
from .phase import Parts, Phase, parts, round_up
from .rank import Rank

_OPENAI_TRITON = ("mxfp4", "gpt_oss_mxfp4")
_FP8_BLOCK = ("fp8", "deepseek_v4_fp8")
_ONE_SHOT_RANK = 128
_SORTED_BLOCK = 64
_TMA_FROM = (9, 0)


def expert_workspace(rank: Rank) -> int:
    """Bytes that stay allocated from the forward pass on; 0 without experts."""
    experts = rank.shapes.experts
    if experts is None:
        return 0
    kernel = expert_kernel(rank)
    tokens = expert_tokens(rank)
    routed = tokens * experts.top_k
    hidden = rank.hidden
    narrow, wide = max(experts.down_in, hidden), max(experts.up, hidden)
    if kernel == "openai_triton":
        # inside the kernel, and gone when it returns; see forward.py
        return 0
    if kernel == "own":
        return tokens * hidden * rank.element
    first = max(routed * narrow, tokens * hidden) * rank.element
    return round_up(first, 256) + round_up(routed * wide * rank.element, 256)


def transient_expert_bytes(rank: Rank) -> int:
    """What a kernel allocates beside the workspaces and gives back."""
    experts = rank.shapes.experts
    if experts is None:
        return 0
    routed = expert_tokens(rank) * experts.top_k
    kernel = expert_kernel(rank)
    if kernel == "openai_triton":
        # gate and up, their activation, and the down projection before it is summed
        return routed * max(experts.up + experts.down_in, experts.down_in + rank.hidden) * 2
    # weights and ids of the chosen experts, sorted ids; and once more for adapters
    chosen = routed * 2 * 8 + expert_bytes(rank, expert_tokens(rank))
    if "fp8" not in (rank.setup.facts.quantization or "").lower():
        return chosen
    return chosen + expert_tokens(rank) * rank.hidden + routed * experts.down_in  # one byte each


def expert_bytes(rank: Rank, tokens: int) -> int:
    """What adapters of routed experts take beside the kernel's own buffers.

    Tokens are sorted once more, per adapter; above rank 128 the narrow product of every sorted
    token is kept, too. Source: vLLM 0.33 ``lora/ops/triton_ops/fused_moe_lora_op.py``.
    """
    args, experts = rank.setup.args, rank.shapes.experts
    if not args.enable_lora or experts is None:
        return 0
    # room for every expert's last block, once per adapter
    padded = tokens * experts.top_k + experts.count * (_SORTED_BLOCK - 1)
    total = args.max_loras * padded * 4
    if args.max_lora_rank > _ONE_SHOT_RANK and rank.uses_v2:  # V1 profiles without adapters
        slices = 2 if experts.up > experts.down_in else 1
        capability = rank.setup.gpu.cuda_capability
        sorts = capability >= _TMA_FROM and not args.fully_sharded_loras
        rows = args.max_loras * padded if sorts else tokens * experts.top_k
        total += slices * rows * args.max_lora_rank * rank.element
    return total


def expert_tokens(rank: Rank) -> int:
    """Tokens a rank's experts see: of every data-parallel rank, which vLLM gathers."""
    return rank.tokens * rank.setup.args.data_parallel_size


def expert_kernel(rank: Rank) -> str:
    """``triton``, ``openai_triton`` or ``own``: which buffers are needed.

    A simplification of vLLM's oracles (``fused_moe/oracle/*.py``): Hopper runs OpenAI's Triton
    kernels for MXFP4, and FlashInfer's for block-quantised fp8 under expert parallelism;
    data-centre Blackwell runs FlashInfer's; the rest runs Triton, CUTLASS or Marlin, whose
    buffers are alike.
    """
    setup = rank.setup
    method = (setup.facts.quantization or "").lower()
    major = setup.gpu.cuda_capability[0]
    if major == 10 and rank.rules.version >= (0, 20):
        return "own"
    if major == 9 and method in _OPENAI_TRITON and not setup.args.enable_lora:
        return "openai_triton"  # with adapters its parts run one by one, in workspaces
    args = setup.args
    ranks = args.tensor_parallel_size * args.data_parallel_size
    grouped = args.enable_expert_parallel and ranks * args.prefill_context_parallel_size > 1
    blocks = (setup.facts.quantization_config or {}).get("weight_block_size")
    if major == 9 and grouped and method in _FP8_BLOCK and blocks is not None:
        return "own"
    return "triton"


def rocm_padding(rank: Rank) -> tuple[int, int]:
    """Bytes that ROCm's padding of unquantised experts takes: the pads, and holes that stay.

    Every row of both matrices gets 256 bytes more where it is a multiple of 512. The padded down
    projection then lies in the freed segment of the old gate and up, which can no longer be given
    back: what it leaves of it is lost, and counts where memory is read from the device. Derived
    20.3 GiB for Qwen3-30B-A3B; starts on an MI300X (0.28) printed 23.6 GiB less KV memory than
    planned without.

    Source: vLLM 0.28 and 0.33 ``fused_moe/unquantized_fused_moe_method.py`` ``_maybe_pad_weight``
    and ``process_weights_after_loading``; PyTorch ``c10/cuda/CUDACachingAllocator.cpp``.
    """
    experts, setup = rank.shapes.experts, rank.setup
    args = setup.args
    if (
        experts is None
        or setup.gpu.platform != "rocm"
        or setup.facts.quantization is not None
        or args.enable_eplb
    ):
        return 0, 0
    ranks = args.tensor_parallel_size * args.data_parallel_size
    count = experts.count // ranks if args.enable_expert_parallel else experts.count
    dense = setup.model.text_config.get("first_k_dense_replace") or 0
    layers = max(0, setup.resolved.layers_per_stage[rank.stage] - (dense if rank.is_first else 0))
    rows = ((experts.up, rank.hidden), (rank.hidden, experts.down_in))
    pads = [count * high * 256 for high, wide in rows if wide * rank.element % 512 == 0]
    first, second = (count * high * wide * rank.element for high, wide in rows)
    padded_second = second + (pads[-1] if experts.down_in * rank.element % 512 == 0 else 0)
    held = first - padded_second if pads and rank.rules.counts_runner_buffers else 0
    return layers * sum(pads), layers * max(0, held)


_PLACES = 1024
"""MAX_EXPERT_REDUNDANCY + 1."""
_WINDOW = 1000
_BYTES = {"float32": 4, "float8_e4m3fn": 1, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}


def eplb_buffers(rank: Rank) -> Parts:
    """What balancing experts keeps from the loading on; nothing without ``--enable-eplb``.

    A map of every expert's copies (1,024 places each, 8 bytes a place), the loads of the last
    steps, and a buffer for one layer's experts. Source: vLLM 0.33
    ``distributed/eplb/eplb_state.py`` ``add_model``.
    """
    experts = rank.shapes.experts
    if experts is None or not rank.setup.args.enable_eplb:
        return ()
    dense = rank.setup.model.text_config.get("first_k_dense_replace")
    layers = sum(rank.setup.resolved.layers_per_stage) - (dense if isinstance(dense, int) else 0)
    layers = max(1, layers)
    window = _whole(rank, "window_size", _WINDOW)
    return parts(
        expert_places=layers * experts.count * _PLACES * 8,
        expert_loads=window * layers * (experts.count + _redundant(rank)) * 4,
        expert_buffer=sum(_expert_tensors(rank)),
    )


def eplb_phases(rank: Rank, held: Parts) -> list[Phase]:
    """The balancing step of the profile run, which gathers one layer's experts from all ranks.

    PyTorch's ``all_gather`` stacks what comes in before it hands it on. NIXL has buffers of its
    own and gathers nothing; vLLM takes it where it is installed. Source: vLLM 0.33
    ``distributed/eplb/rebalance_execute.py`` ``rearrange_expert_weights_inplace``,
    ``config/parallel.py`` (the communicator); PyTorch ``ProcessGroupNCCL::allgather``.
    """
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
    from .weights.quantization import quantization
    from .weights.quantization.base import ExpertsMethod, ExpertsShape, UnquantizedExperts

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
        num_experts=cdiv(experts.count + _redundant(rank), _ranks(rank)),
        hidden=rank.hidden,
        intermediate=experts.down_in,
        shards=2 if experts.up > experts.down_in else 1,
        bias=False,
        dtype=rank.setup.resolved.dtype.name,
    )
    return [
        prod(dimensions) * _BYTES.get(dtype, rank.element)
        for _, dimensions, dtype in method.experts(shape)
    ]
