"""``paging``: what blocks save against reserving max_model_len tokens for every request."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..engine_args.engine_args import EngineEnvironment
from ..errors import InputError, PlannerError, UnsupportedError
from ..planning.parts import stored_kv_cache_dtype
from ..planning.request import UNKNOWN_MACHINE, Machine, PlanRequest, plan_request
from ..planning.standalone import StandalonePlan
from ..planning.verdict import refusal
from ..records import dataclass, replace
from .paged import GroupHeld, PagedScenario, PagingComparison, held_by_request

if TYPE_CHECKING:
    from ..config.find import FoundConfig
    from ..gpu.gpu import GPU


MOST_REQUESTS = 10**9
_FORM = re.compile(r"([^x@]+)x([^x@]+)(?:@([^x@]+))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Requests that are alike.

    Attributes:
        requests: How many.
        tokens: Prompt and answer of each, as far as it is computed.
        max_model_len: What the engine is started with, in tokens; None: as its flags say.
    """

    requests: int
    tokens: int
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        from ..config.found import LONGEST
        from ..engine_args.value_types import shown

        most = {"requests": MOST_REQUESTS, "tokens": LONGEST, "max_model_len": LONGEST}
        for name, limit in most.items():
            value = getattr(self, name)
            if name == "max_model_len" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
                raise InputError(f"scenario: {name} {shown(value)}: a number from 1 to {limit:,}")
        if self.max_model_len is not None and self.tokens > self.max_model_len:
            raise InputError(
                f"scenario: requests of {self.tokens:,} tokens do not exist with max_model_len "
                f"{self.max_model_len:,}"
            )


CLASSIC = (
    Scenario(requests=100, tokens=512, max_model_len=8192),
    Scenario(requests=50, tokens=2048, max_model_len=8192),
    Scenario(requests=20, tokens=4096, max_model_len=32768),
    Scenario(requests=10, tokens=8192, max_model_len=131072),
)
"""Short requests in long contexts: what paging is usually explained with."""


def parse_scenario(text: str) -> Scenario:
    """The scenario that a person wrote; ``8K`` is 8,192 as on vLLM's command line."""
    from ..units import parse_quantity

    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"scenario {text[:40]!r}: REQUESTSxTOKENS@MAX_MODEL_LEN, such as 100x512@8K"
        )
    try:
        requests, tokens = map(parse_quantity, match.groups()[:2])
        length = None if match[3] is None else parse_quantity(match[3])
    except InputError as error:
        raise InputError(f"scenario {text[:40]!r}: {error}") from None
    return Scenario(requests=requests, tokens=tokens, max_model_len=length)


def scenario_of(value: object) -> Scenario:
    """What the Python API takes for a scenario."""
    from ..engine_args.value_types import shown

    if isinstance(value, Scenario):
        return value
    if isinstance(value, str):
        return parse_scenario(value)
    raise InputError(f"scenario: {shown(value)} is neither a Scenario nor text such as 100x512@8K")


MOST_SCENARIOS = 1000


def paging(
    model: str | os.PathLike[str] | FoundConfig,
    scenarios: Sequence[Scenario | str] = CLASSIC,
    *,
    gpu: str | GPU | None = None,
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> PagingComparison:
    """What paging saves for these requests, by the groups and block sizes of the real engine.

    Args:
        model: As ``plan()`` takes it.
        scenarios: ``Scenario`` or text such as ``100x512@8K``; the four classic ones.
        gpu: The GPU of every rank; H100 where none is given.
        vllm_version: As ``plan()`` takes it.
        machine: As ``plan()`` takes it.
        **engine_args: vLLM's own names. ``max_model_len`` is for scenarios that state none.

    Raises:
        PlannerError: The input is wrong or not plannable; one line says what and where.
    """
    if isinstance(scenarios, str | Scenario) or not isinstance(scenarios, Iterable):
        raise InputError("scenarios: a list, such as ['100x512@8K']")
    checked = [scenario_of(each) for each in scenarios]
    check_one_length(engine_args.get("max_model_len"), checked)
    request = plan_request(
        model, gpu=gpu, vllm_version=vllm_version, machine=machine, **engine_args
    )
    return compare_paging(request, checked)


def check_one_length(max_model_len: object, scenarios: Sequence[Scenario]) -> None:
    """Refuse a length that no scenario would use."""
    if max_model_len is not None and all(each.max_model_len is not None for each in scenarios):
        raise InputError(
            "--max-model-len: every scenario states its own (100x512@8K); leave one of them out"
        )


def compare_paging(request: PlanRequest, scenarios: Sequence[Scenario]) -> PagingComparison:
    """The same for a request that is made already."""
    if not 0 < len(scenarios) <= MOST_SCENARIOS:
        raise InputError(f"{len(scenarios)} scenarios; give 1 to {MOST_SCENARIOS:,}")
    lengths = dict.fromkeys(each.max_model_len for each in scenarios)
    unknown = None if is_known(request) else HAND_MADE
    try:
        planned = request if unknown is None else with_stand_in(request)
        engines = {length: engine_of(planned, length) for length in lengths}
    except PlannerError as refusal:
        if unknown is not None or is_given(request):
            raise
        try:
            planned = sizes_only(request)
            engines = {length: engine_of(planned, length) for length in lengths}
        except PlannerError:
            raise refusal from None
        unknown = f"memory not known: {refusal}"
    known = unknown is None
    rows = [paged(engines[each.max_model_len], each, memory_known=known) for each in scenarios]
    first = next(iter(engines.values())).setup
    return PagingComparison(
        model=request.found.id,
        gpu=first.gpu.name,
        num_gpus=first.args.num_gpus,
        kv_cache_dtype=stored_kv_cache_dtype(first),
        scenarios=tuple(rows),
        notes=(*request.said, *notes_of([*engines.values()], rows, unknown)),
    )


def engine_of(request: PlanRequest, max_model_len: int | None) -> StandalonePlan:
    """The engine that a scenario runs in; its length may exceed the model's."""
    if request.planner == "vllm":
        raise UnsupportedError(
            "--planner vllm tells sums of the cache layers, not the layers: leave it at auto"
        )
    if max_model_len is not None:
        environment = request.environment or EngineEnvironment()
        longer = replace(environment, allow_long_max_model_len=True)
        request = replace(request.with_args(max_model_len=max_model_len), environment=longer)
    made = StandalonePlan(request)
    _ = made.blocks  # whatever is wrong with the engine is told here
    return made


def paged(cache: StandalonePlan, scenario: Scenario, *, memory_known: bool) -> PagedScenario:
    """One scenario in its engine."""
    length = cache.planned_limits.max_model_len
    if scenario.tokens > length:
        raise InputError(
            f"scenario: requests of {scenario.tokens:,} tokens in an engine of max_model_len "
            f"{length:,}; state a longer one: {scenario.requests}x{scenario.tokens}@N"
        )
    worker = cache.blocks.worker
    each = (
        ()
        if worker is None
        else held_by_request(worker, cache.planned_limits, tokens=scenario.tokens)
    )

    def total(name: str) -> int:
        sizes: list[int] = [getattr(group, name) for group in each]
        return scenario.requests * sum(sizes)

    tokens, unfilled, padding = map(total, ("token_bytes", "unfilled_bytes", "padding_bytes"))
    contiguous, by_blocks = total("contiguous_bytes"), tokens + unfilled + padding
    pool = None
    if worker is not None and memory_known:
        pool = cache.blocks.num_gpu_blocks * worker.bytes_per_block
    return PagedScenario(
        requests=scenario.requests,
        tokens=scenario.tokens,
        max_model_len=length,
        contiguous_bytes=contiguous,
        paged_bytes=by_blocks,
        token_bytes=tokens,
        unfilled_bytes=unfilled,
        padding_bytes=padding,
        freed_bytes=total("freed_bytes"),
        saved_bytes=contiguous - by_blocks,
        saved_share=(contiguous - by_blocks) / contiguous if contiguous else None,
        kv_cache_bytes=pool,
        fit_contiguous=None if pool is None else pool * scenario.requests // max(contiguous, 1),
        fit_paged=None if pool is None else requests_that_fit(cache.blocks.num_gpu_blocks, each),
        groups=each,
    )


def requests_that_fit(num_gpu_blocks: int, each: Sequence[GroupHeld]) -> int:
    """Requests at once, one of them while its prompt is computed; without the null block."""
    usable = num_gpu_blocks - 1
    peak = sum(group.peak_blocks for group in each)
    if usable < peak:
        return 0
    return 1 + (usable - peak) // max(sum(group.blocks for group in each), 1)


def notes_of(
    engines: Sequence[StandalonePlan], rows: Sequence[PagedScenario], unknown: str | None
) -> Iterator[str]:
    """What the reader should know of these engines; ``unknown``: why the KV memory is not known."""
    setup = engines[0].setup
    derived = setup.resolved.length.derived
    lengths = [cache.planned_limits.max_model_len for cache in engines]
    long = [length for length in lengths if length > derived]
    if long:
        yield (
            f"max_model_len {listed(long)}: more than the model's own {int(derived):,}; vLLM takes "
            "it with VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 only, the sizes hold all the same"
        )
    if engines[0].blocks.worker is None:
        yield "the model keeps no KV cache: there is nothing to page"
    elif unknown is not None:
        yield unknown
    refused = [cache for cache in engines if not cache.blocks.fits]
    if refused and unknown is None:
        which = listed(cache.planned_limits.max_model_len for cache in refused)
        yield f"max_model_len {which} does not start here: {refusal(refused[0].blocks)}"
    most = setup.resolved.batch.max_num_seqs
    if any(row.fit_paged is not None and row.fit_paged > most for row in rows):
        yield f"more requests fit than the {most:,} of max_num_seqs, which run at once at most"


def listed(lengths: Iterable[int]) -> str:
    """``8,192 and 32,768``."""
    return " and ".join(f"{each:,}" for each in lengths)


STAND_IN_BYTES = 1 << 30
"""KV memory that a plan needs to be made; nothing that depends on it is shown."""

HAND_MADE = (
    "a hand-made model's weights are not known, so neither is what fits: --kv-cache-memory-bytes N"
)


def is_known(request: PlanRequest) -> bool:
    """Whether the KV memory is given, or the model has weights to predict it from."""
    return request.found.source != "custom" or is_given(request)


def is_given(request: PlanRequest) -> bool:
    """Whether the user states the KV memory."""
    return request.args.kv_cache_memory_bytes is not None


def with_stand_in(request: PlanRequest) -> PlanRequest:
    """The request in a form that can be planned whatever its weights are."""
    return request.with_args(kv_cache_memory_bytes=STAND_IN_BYTES)


def sizes_only(request: PlanRequest) -> PlanRequest:
    """The same by the rules restated here, after a refusal: vLLM has had its say."""
    planner = "vllm" if request.planner == "vllm" else "standalone"
    return replace(with_stand_in(request), planner=planner)
