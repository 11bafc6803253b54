"""How GPUs are shared out: tensor, pipeline and data parallel, over how many machines."""

from __future__ import annotations

from collections.abc import Iterator

from ...records import dataclass
from .constraints import Constraints


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One way to use some GPUs.

    Attributes:
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: Stages.
        data_parallel_size: Engines side by side.
        enable_expert_parallel: Experts divided among the GPUs of all engines.
        num_nodes: Machines.
    """

    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    enable_expert_parallel: bool
    num_nodes: int


def shapes(num_gpus: int, constraints: Constraints, *, is_moe: bool) -> Iterator[Shape]:
    """Every shape of exactly so many GPUs that the constraints allow, the simplest first.

    Whether the model can be divided so is not asked here: the planner refuses what vLLM would.
    Experts divided among the ranks of one engine (``--enable-expert-parallel``) come after the
    same shape without, and are for models that cannot be divided so.

    Args:
        num_gpus: GPUs of all machines together.
        constraints: What is fixed, and what a machine holds.
        is_moe: Whether the model has experts: its replicas then divide them, for vLLM keeps
            the replicas of such a model in step (``--enable-expert-parallel``).
    """
    args = constraints.args
    contexts = args.prefill_context_parallel_size
    nodes = -(-num_gpus // constraints.gpus_per_node)
    for dp in _divisors(num_gpus):
        for pp in _divisors(num_gpus // dp):
            ranks = num_gpus // dp // pp
            if ranks % contexts:
                continue
            sizes = {
                "data_parallel_size": dp,
                "pipeline_parallel_size": pp,
                "tensor_parallel_size": ranks // contexts,
            }
            if any(getattr(args, n) != v for n, v in sizes.items() if n in constraints.fixed):
                continue
            tp_is_fixed = "tensor_parallel_size" in constraints.fixed
            if not _lies_well(num_gpus, nodes, ranks, pp, tp_is_fixed=tp_is_fixed):
                continue
            for experts in _expert_parallel(constraints, ranks, dp, is_moe=is_moe):
                yield Shape(**sizes, enable_expert_parallel=experts, num_nodes=nodes)


def _expert_parallel(
    constraints: Constraints, ranks: int, dp: int, *, is_moe: bool
) -> tuple[bool, ...]:
    """Without, then with; replicas of a model with experts always divide them."""
    if "enable_expert_parallel" in constraints.fixed:
        return (constraints.args.enable_expert_parallel,)
    if not is_moe or ranks * dp == 1:
        return (False,)
    return (True,) if dp > 1 else (False, True)


def _lies_well(num_gpus: int, nodes: int, ranks: int, pp: int, *, tp_is_fixed: bool) -> bool:
    """Whether machines hold equal shares, and no group of ranks that talk all the time is torn.

    Source: vLLM 0.33 ``EngineArgs.create_engine_config`` (``--nnodes`` divides the world),
    ``ParallelConfig.nnodes_within_dp``. That tensor parallelism stays inside a machine is
    advice of vLLM's, not a rule: who fixes its size may tear it.
    """
    if nodes == 1:
        return True
    if num_gpus % nodes:
        return False
    local, engine = num_gpus // nodes, ranks * pp
    if local % engine and engine % local:
        return False
    return tp_is_fixed or (ranks <= local and local % ranks == 0)


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
