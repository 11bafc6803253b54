"""Every set-up that may be offered, in the order in which it would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...gpu.gpu import GPU
from ...planning.request import PlanRequest
from ...records import dataclass, replace
from .constraints import Constraints


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One way to use some GPUs, of ``num_nodes`` machines; the other names are vLLM's."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    enable_expert_parallel: bool
    num_nodes: int


def shapes(num_gpus: int, constraints: Constraints, *, is_moe: bool) -> Iterator[Shape]:
    """Every shape of exactly so many GPUs that the constraints allow, the simplest first.

    Whether the model can be divided so is not asked here: the planner refuses what vLLM would.
    Experts divided among the ranks of one engine (``--enable-expert-parallel``) come after the
    same shape without, and are for models that cannot be divided so. The replicas of a model with
    experts always divide them, for vLLM keeps such replicas in step.
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


Order = tuple[float | str, ...]
"""What is compared; see ``rank_of``."""
EXPERTS_IN_ORDER = 8
"""Place in it of whether experts are divided."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A set-up before its batch is chosen.

    Attributes:
        rank: Where it stands among all; see ``rank_of``.
        variant: Number of its model among those named.
        num_gpus: Of all machines.
    """

    rank: Order
    variant: int
    gpu: GPU
    num_gpus: int
    kv_cache_dtype: str
    shape: Shape

    def request(self, model: PlanRequest) -> PlanRequest:
        """The engine to plan, one of the replicas' like the others."""
        shape, gpu = self.shape, self.gpu
        if gpu.machine_gpus is not None:
            gpu = replace(gpu, machine_gpus=None)  # of one machine; the set-up may take several
        return model.on(gpu).with_args(
            tensor_parallel_size=shape.tensor_parallel_size,
            pipeline_parallel_size=shape.pipeline_parallel_size,
            data_parallel_size=shape.data_parallel_size,
            enable_expert_parallel=shape.enable_expert_parallel,
            kv_cache_dtype=self.kv_cache_dtype,
        )


def candidates(constraints: Constraints, is_moe: Sequence[bool]) -> Iterator[Candidate]:
    """Every set-up of the constraints, best first."""
    counts = constraints.counts
    # without prices fewer GPUs always come first, so that few of many numbers need be listed
    together = [counts] if constraints.prices else [(number,) for number in counts]
    models = {moe: [n for n, each in enumerate(is_moe) if each == moe] for moe in is_moe}
    for numbers in together:
        found = (
            each
            for num_gpus in numbers
            for moe in sorted(models)
            for shape in shapes(num_gpus, constraints, is_moe=moe)
            for each in _of_shape(constraints, num_gpus, shape, models[moe])
        )
        yield from sorted(found, key=lambda candidate: candidate.rank)


def _of_shape(
    constraints: Constraints, num_gpus: int, shape: Shape, variants: list[int]
) -> Iterator[Candidate]:
    for gpu in constraints.gpus:
        there = 1 if gpu.kind == "embedded" else gpu.machine_gpus
        if there is not None and num_gpus > there * shape.num_nodes:
            continue  # its memory is the machine's, or the name says how many a machine has
        for variant in variants:
            for order, dtype in enumerate(constraints.kv_cache_dtypes):
                yield Candidate(
                    rank=rank_of(constraints, gpu, num_gpus, variant, order, shape),
                    variant=variant,
                    gpu=gpu,
                    num_gpus=num_gpus,
                    kv_cache_dtype=dtype,
                    shape=shape,
                )


def rank_of(
    constraints: Constraints, gpu: GPU, num_gpus: int, variant: int, order: int, shape: Shape
) -> Order:
    """What is compared, first difference first; less is better.

    The price of all GPUs where prices are given; GPUs; their memory together, which is what a
    set-up buys, and the only measure of cheapness that the catalogue knows; machines; the models
    and KV cache dtypes in the order named; replicas, then stages, then divided experts, each of
    which makes the set-up less simple; and the name, so that the order is always the same.
    """
    return (
        constraints.prices.get(gpu.short_name, 0.0) * num_gpus,
        num_gpus,
        gpu.total_memory_bytes * num_gpus,
        shape.num_nodes,
        variant,
        order,
        shape.data_parallel_size,
        shape.pipeline_parallel_size,
        shape.enable_expert_parallel,
        gpu.short_name,
    )
