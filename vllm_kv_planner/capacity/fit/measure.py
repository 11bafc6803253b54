"""What one set-up holds, likely and at the worst; the search's own quick way to know.

A plan spends most of its time on the weights' shapes, which are the same for every set-up that
divides the model alike. ``Measure`` remembers them for as long as one search takes; what it
measures is what ``PlanRequest.plan()`` says (``tests/test_fit_measure.py`` compares them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...described import described, named
from ...engine_args.setup import EngineSetup, resolve_setup
from ...errors import PlannerError, UnsupportedError
from ...gpu.catalogue import DEFAULT_GPU, find_gpu
from ...gpu.gpu import GPU
from ...kv_cache.capacity import KVCachePlan
from ...kv_cache.specs import RequestLimits
from ...kv_memory import KVMemory, kv_memory, predicted, weights_of
from ...older_versions import older_rules, request_limits, with_defaults
from ...planner import VLLM_VERSION, longest_worth_trying, plan_blocks
from ...records import dataclass, replace
from ...standalone import refusals
from ..request import PlanRequest

if TYPE_CHECKING:
    from ...memory.weights import WeightsEstimate
    from ...model.description import ModelDescription
    from ...plan_types import Plan


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine's KV cache. With data parallelism: of one replica.

    Attributes:
        fits: Whether the engine surely starts: at the pessimistic end.
        why_not: Why it may not; empty where it does.
        may_fit: Whether it starts if the prediction is exact.
        available_bytes: KV memory of the tightest GPU.
        pessimistic_bytes: The same if every part of the budget is as large as it may be.
        weights_bytes: Weights on that GPU; None where nothing was predicted.
        requested_bytes: What the engine may take of it; None likewise.
        concurrency: vLLM's "Maximum concurrency".
        requests: Requests of ``max_model_len`` that really run at once: whole ones, and the null
            block, which is never handed out, not counted; None where nothing is cached.
        pessimistic_requests: The same at the pessimistic end.
        most_requests: More than this no smaller batch holds, likely: with nothing but weights in
            the budget, and nothing in flight; None where nothing is cached, or it is not known.
        blocks_per_request: Blocks of one such request.
        bytes_per_block: On the tightest GPU.
        max_model_len: Tokens.
        longest: The longest ``max_model_len`` that one request may have, likely.
        model_len: Tokens that the model itself allows.
        max_num_seqs: Requests a step takes.
        max_num_batched_tokens: Tokens a step takes.
    """

    fits: bool
    why_not: str
    may_fit: bool
    available_bytes: int
    pessimistic_bytes: int
    weights_bytes: int | None
    requested_bytes: int | None
    concurrency: float
    requests: int | None
    pessimistic_requests: int | None
    most_requests: int | None
    blocks_per_request: int
    bytes_per_block: int
    max_model_len: int
    longest: int
    model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int

    def holds(self, requests: int, *, surely: bool = True) -> bool:
        """Whether so many requests run at once: the KV cache holds them, a step takes them."""
        held = self.pessimistic_requests if surely else self.requests
        starts = self.fits if surely else self.may_fit
        return starts and self.max_num_seqs >= requests and (held is None or held >= requests)

    def spare_bytes(self, requests: int) -> int:
        """KV memory of the tightest GPU that so many requests leave over, at the worst."""
        needed = (requests * self.blocks_per_request + 1) * self.bytes_per_block
        return self.pessimistic_bytes - needed


class Measure:
    """Measures set-ups; remembers weights by how they are divided.

    Args:
        fall_back: Ask vLLM's own code where the rules restated here do not know the engine, as
            ``planner="auto"`` does; a search does not, for it would ask hundreds of times.
    """

    def __init__(self, *, fall_back: bool = True) -> None:
        self._fall_back = fall_back
        self._known: dict[Any, tuple[PlanRequest, Measured | PlannerError]] = {}
        self._weights: dict[Any, tuple[ModelDescription, WeightsEstimate]] = {}

    def __call__(self, request: PlanRequest) -> Measured:
        """What the request's set-up holds.

        Raises:
            PlannerError: It cannot be planned; one line says why.
        """
        key = _key(request)
        if key not in self._known:
            answer: Measured | PlannerError
            try:
                answer = self._measured(request)
            except PlannerError as refusal:
                answer = refusal
            # the request too, so that the ids of its parts cannot come to mean others
            self._known[key] = request, answer
        answer = self._known[key][1]
        if isinstance(answer, PlannerError):
            raise answer
        return answer

    def _measured(self, request: PlanRequest) -> Measured:
        if request.planner == "vllm":
            return measured_by_plan(request)
        try:
            return self._standalone(request)
        except UnsupportedError:
            if request.planner == "standalone" or not self._fall_back:
                raise
            return measured_by_plan(request)

    def weights_bytes(self, request: PlanRequest) -> int:
        """Weights of the fullest GPU, whether they fit or not.

        Raises:
            PlannerError: They are not known.
        """
        setup, _, version = _setup(request)
        return max(self._weights_of(setup, request, version).loaded_bytes)

    def least_request_bytes(self, request: PlanRequest) -> int:
        """KV memory that one request takes at least, over one rank of every stage; 0: none.

        Whatever the batch: with nothing in flight. Weights play no part.

        Raises:
            PlannerError: The set-up cannot be planned.
        """
        setup, rules, _ = _setup(request)
        if not any(setup.cache.stages):
            return 0
        limits = _alone(request_limits(setup, rules))
        blocks = plan_blocks(setup, [0] * len(setup.cache.stages), limits)
        return sum(worker.needed_bytes for worker in blocks.workers)

    def _standalone(self, request: PlanRequest) -> Measured:
        """As ``planner.plan_standalone``, without the words around it."""
        setup, rules, version = _setup(request)
        limits = request_limits(setup, rules)
        memory = self._memory(setup, request, version)
        blocks = plan_blocks(setup, memory.available, limits)
        worst = blocks
        if memory.pessimistic != memory.available:
            worst = plan_blocks(setup, memory.pessimistic, limits)
        return _measured(setup, memory, blocks, worst, limits)

    def _memory(self, setup: EngineSetup, request: PlanRequest, version: str) -> KVMemory:
        if setup.args.kv_cache_memory_bytes is not None or not any(setup.cache.stages):
            return kv_memory(setup, request.found, version, request.machine)
        weights = self._weights_of(setup, request, version)
        return predicted(setup, weights, version, request.machine)

    def _weights_of(
        self, setup: EngineSetup, request: PlanRequest, version: str
    ) -> WeightsEstimate:
        args = setup.args
        key = (
            id(setup.model),
            setup.gpu.compute_capability,
            setup.resolved.layers_per_stage,
            version,
            args.data_parallel_size if args.enable_expert_parallel else 1,
            *(repr(v) for name, v in vars(args).items() if name not in _NOT_IN_WEIGHTS),
        )
        known = self._weights.get(key)
        if known is None:
            # the model itself too, so that its id cannot come to mean another
            known = self._weights[key] = setup.model, weights_of(setup, request.found, version)
        return known[1]


def _key(request: PlanRequest) -> Any:
    """What a measurement depends on; replicas of a model without experts are like one alone."""
    args = vars(request.args)
    is_moe = described(request.found, request.args).is_moe
    return (
        id(request.found),
        request.gpu if isinstance(request.gpu, str) else id(request.gpu),
        request.planner,
        request.vllm_version,
        id(request.environment),
        id(request.machine),
        request.args.data_parallel_size if is_moe else 1,
        *(repr(value) for name, value in args.items() if name != "data_parallel_size"),
    )


_NOT_IN_WEIGHTS = frozenset(
    [
        "data_parallel_size",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
    ]
)
"""What a search changes without changing the weights (``weights_per_rank`` reads none of it)."""


def _setup(request: PlanRequest) -> tuple[EngineSetup, Any, str]:
    """The engine set up, an older version's rules, the version's name."""
    gpu = request.gpu or DEFAULT_GPU
    device = request.machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
    args = request.args
    model = described(request.found, args)
    wanted = request.vllm_version
    rules = None if wanted in (None, VLLM_VERSION) else older_rules(wanted)
    if rules is not None:
        args, _ = with_defaults(args, model, rules)
    with named(request.found):
        setup = resolve_setup(args, model, device, request.environment)
    return setup, rules, VLLM_VERSION if rules is None else rules.name


def _measured(
    setup: EngineSetup,
    memory: KVMemory,
    blocks: KVCachePlan,
    worst: KVCachePlan,
    limits: RequestLimits,
) -> Measured:
    why_not = " ".join(refusals(memory, blocks, worst))
    worker = blocks.workers[blocks.tightest] if blocks.workers else None
    return Measured(
        fits=not why_not,
        why_not=why_not,
        may_fit=blocks.fits and memory.refusal is None,
        available_bytes=min(memory.available),
        pessimistic_bytes=min(memory.pessimistic),
        weights_bytes=memory.info.weights_bytes,
        requested_bytes=memory.info.requested_bytes,
        concurrency=blocks.max_concurrency,
        requests=_whole_requests(blocks),
        pessimistic_requests=_whole_requests(worst),
        most_requests=_most_requests(memory, blocks, limits),
        blocks_per_request=_blocks_per_request(blocks),
        bytes_per_block=0 if worker is None else worker.bytes_per_block,
        max_model_len=blocks.max_model_len,
        longest=blocks.max_model_len_that_fits,
        model_len=longest_worth_trying(setup),
        max_num_seqs=setup.resolved.batch.max_num_seqs,
        max_num_batched_tokens=setup.resolved.batch.max_num_batched_tokens,
    )


def _blocks_per_request(blocks: KVCachePlan) -> int:
    return max((worker.blocks_per_request for worker in blocks.workers), default=0)


def _whole_requests(blocks: KVCachePlan) -> int | None:
    if not blocks.workers:
        return None
    return max(blocks.num_gpu_blocks - 1, 0) // max(_blocks_per_request(blocks), 1)


def _alone(limits: RequestLimits) -> RequestLimits:
    """A request with nothing in flight beside it."""
    return replace(limits, max_in_flight_tokens=1, max_num_encoder_input_tokens=0)


def _most_requests(memory: KVMemory, blocks: KVCachePlan, limits: RequestLimits) -> int | None:
    """What the stage with the least memory held if a step took none, and kept nothing in flight."""
    info = memory.info
    if not blocks.workers or info.activation_peak_bytes is None:
        return None
    alone = _alone(limits)
    worker = blocks.workers[memory.available.index(min(memory.available))]
    each = sum(group.blocks_per_request(alone) for group in worker.groups)
    room = info.available_kv_cache_bytes + info.activation_peak_bytes + (info.cuda_graph_bytes or 0)
    return max(room // max(worker.bytes_per_block, 1) - 1, 0) // max(each, 1)


def measured_by_plan(request: PlanRequest) -> Measured:
    """The same from whole plans; the pessimistic end is planned as ``--kv-cache-memory-bytes``.

    Raises:
        PlannerError: As ``PlanRequest.plan``.
    """
    likely = request.plan()
    memory = likely.memory
    worst_bytes = memory.available_kv_cache_bytes - (memory.uncertainty_bytes or 0)
    worst = likely
    if memory.uncertainty_bytes and worst_bytes > 0:
        worst = request.with_args(kv_cache_memory_bytes=worst_bytes).plan()
    return Measured(
        fits=likely.fits,
        why_not="" if likely.fits else likely.notes[0],
        may_fit=likely.fits or likely.notes[0].startswith("borderline"),
        available_bytes=memory.available_kv_cache_bytes,
        pessimistic_bytes=worst_bytes,
        weights_bytes=memory.weights_bytes,
        requested_bytes=memory.requested_bytes,
        concurrency=likely.kv_cache.max_concurrency,
        requests=_requests_of(likely),
        pessimistic_requests=_requests_of(worst) if worst_bytes > 0 else 0,
        most_requests=None,
        blocks_per_request=sum(group.blocks_per_request for group in likely.kv_cache.groups),
        bytes_per_block=likely.kv_cache.bytes_per_block,
        max_model_len=likely.engine.max_model_len,
        longest=likely.kv_cache.max_model_len_that_fits,
        model_len=max(likely.engine.max_model_len, likely.kv_cache.max_model_len_that_fits),
        max_num_seqs=likely.engine.max_num_seqs,
        max_num_batched_tokens=likely.engine.max_num_batched_tokens,
    )


def _requests_of(plan: Plan) -> int | None:
    each = sum(group.blocks_per_request for group in plan.kv_cache.groups)
    if not plan.kv_cache.groups:
        return None
    return max(plan.kv_cache.num_gpu_blocks - 1, 0) // max(each, 1)
