"""Single flags: what each change buys, and the smallest one that makes a plan fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ...engine_args.flag_table import flag_text
from ...errors import InputError, PlannerError, UnsupportedError
from ...planning.request import PlanRequest
from ...planning.types import ChangeInfo, HostInfo, Plan
from ...records import dataclass, replace
from ...report import Answer
from ...report.document import Column, Document, Lines, Section, Table, noted, table_of
from ...units import GIB, gib
from .changes import CHANGES, OF_WEIGHTS, Change, Changes, Start
from .constraints import MOST_REQUESTS, whole
from .measure import Measure, Measurer
from .solve import HUNDREDTHS, at_utilization


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One change of one flag, planned again for real.

    Attributes:
        flag: vLLM's name of it, such as ``kv_cache_dtype``; ``gpu`` for another device.
        value: Its new value.
        text: As it stands on the command line.
        costs: What one gives for it, in a few words.
        fits: Whether the changed set-up surely does what is asked for.
        available_kv_cache_bytes: KV memory of the tightest GPU, after the change.
        available_delta_bytes: How much more that is than before.
        concurrency: Requests of ``max_model_len`` at once, all engines together, after the change.
        concurrency_ratio: Times as many as before; None where there were none.
        max_model_len_that_fits: The longest context one request may have, after the change.
    """

    flag: str
    value: Any
    text: str
    costs: str
    fits: bool
    available_kv_cache_bytes: int
    available_delta_bytes: int
    concurrency: float
    concurrency_ratio: float | None
    max_model_len_that_fits: int

    @property
    def line(self) -> str:
        """``--enforce-eager: +0.50 GiB a GPU, 1.10x the requests (slower decoding)``."""
        bought = []
        if self.available_delta_bytes:
            bought.append(f"{self.available_delta_bytes / GIB:+,.2f} GiB a GPU")
        if self.concurrency_ratio is not None:
            bought.append(f"{self.concurrency_ratio:.2f}x the requests")
        does = "fits: " if self.fits else ""
        return f"{self.text}: {does}{', '.join(bought)} ({self.costs})"


@dataclass(frozen=True, kw_only=True)
class Suggestions(Answer):
    """What each single change of one engine buys.

    Attributes:
        model: The model's id.
        gpu: The device, by its name.
        num_gpus: Of all ranks.
        concurrency: Requests at once asked for.
        fits: Whether the engine does that already.
        why_not: Why not; empty where it does.
        available_kv_cache_bytes: KV memory of its tightest GPU.
        current_concurrency: Requests of ``max_model_len`` at once, all engines together.
        max_model_len: Tokens.
        suggestions: Those that make it fit first, the smallest change first.
        command: The engine as it is.
        notes: Sentences for the reader.
    """

    model: str
    gpu: str
    num_gpus: int
    concurrency: int
    fits: bool
    why_not: str
    available_kv_cache_bytes: int
    current_concurrency: float
    max_model_len: int
    suggestions: tuple[Suggestion, ...]
    command: str
    notes: tuple[str, ...]

    def table(self) -> Table:
        """One row a change."""
        return table_of(self.suggestions, CHANGE)

    def document(self) -> Document:
        """What there is, and what each change buys."""
        does = "fits" if self.fits else f"does not fit: {self.why_not}"
        engine = f"{self.model} on {self.num_gpus} x {self.gpu}"
        state = f"{engine}, {self.concurrency:,} x {self.max_model_len:,} tokens: {does}"
        lines = [f"  {each.line}" for each in self.suggestions] or ["  no single flag changes that"]
        return Document(sections=(Section(state, (Lines((*lines, *noted(self.notes))),)),))


CHANGE = (
    *map(Column, ("flag", "text", "fits")),
    *(Column(name, form="gib") for name in ("available_kv_cache_bytes", "available_delta_bytes")),
    *(Column(name, form="times") for name in ("concurrency", "concurrency_ratio")),
    Column("max_model_len_that_fits", form="count"),
    Column("costs"),
)


def suggestions_of(
    request: PlanRequest, *, concurrency: int = 1, measure: Measurer | None = None
) -> tuple[Suggestion, ...]:
    """What each single change buys; those that make the plan fit come first, the smallest first.

    Args:
        request: The engine, whether it fits or not.
        concurrency: Requests of ``max_model_len`` that must run at once, all data-parallel
            engines together.
        measure: A search's own, which remembers; a new one by default.

    Raises:
        PlannerError: The engine itself cannot be planned.
    """
    found = list(_suggested(_start(request, concurrency, measure)))
    return tuple(sorted(found, key=lambda each: not each.fits))


def smallest_change(
    request: PlanRequest, *, concurrency: int = 1, measure: Measurer | None = None
) -> Suggestion | None:
    """The smallest single change that makes a plan fit; None where it fits, or none does.

    Raises:
        PlannerError: The engine itself cannot be planned.
    """
    start = _start(request, concurrency, measure)
    if start.measured.holds(start.each):
        return None
    changes = OF_WEIGHTS if start.weights_fill_gpu else CHANGES
    return next((each for each in _suggested(start, changes) if each.fits), None)


def with_changes(request: PlanRequest, plan: Plan) -> Plan:
    """The plan with the smallest change that makes it surely fit, or leaves its host enough.

    Each was planned again; none where there is nothing to change, or no single flag is enough.
    By the rules restated here alone: vLLM takes seconds a plan.
    """
    if plan.fits and plan.host is None:
        return plan
    return replace(plan, changes=_changes_of(request, plan))


def _changes_of(request: PlanRequest, plan: Plan) -> tuple[ChangeInfo, ...]:
    if plan.memory.available_kv_cache_bytes is None:
        return ()
    request = replace(request, planner="standalone")
    try:
        measure = Measure()
        change = smallest_change(request, measure=measure)
        if change is None and plan.fits and plan.host is not None:
            return tuple(_for_host(request, plan.host, measure))
    except PlannerError:
        return ()
    if change is None:
        return ()
    gains = f"{gib(change.available_kv_cache_bytes)} of KV cache, {change.concurrency:.2f}x"
    return (ChangeInfo(flag=change.flag, value=change.value, gains=f"{gains}; {change.costs}"),)


def _for_host(request: PlanRequest, host: HostInfo, measure: Measurer) -> Iterator[ChangeInfo]:
    """A share of unified memory that leaves the host enough, if the engine fits in it."""
    if host.left_bytes >= host.wanted_bytes or request.args.kv_cache_memory_bytes is not None:
        return
    share = int(HUNDREDTHS * (host.total_bytes - host.wanted_bytes) / host.total_bytes)
    if at_utilization(request, share, measure).fits:
        left = gib(host.total_bytes - host.total_bytes * share // HUNDREDTHS)
        yield ChangeInfo(
            flag="gpu_memory_utilization",
            value=share / HUNDREDTHS,
            gains=f"{left} is left for the host",
        )


def _start(request: PlanRequest, concurrency: int, measure: Measurer | None) -> Start:
    if not isinstance(request, PlanRequest):
        raise InputError("suggestions: a PlanRequest is needed; plan_request() makes one")
    measure = measure or Measure()
    concurrency = whole("concurrency", concurrency, most=MOST_REQUESTS)
    measured = None
    if request.planner == "vllm":
        # seconds a plan, and a hundred of them: the rules restated here say the same, if they can
        restated = replace(request, planner="standalone")
        with suppress(UnsupportedError):
            request, measured = restated, measure(restated)
    measured = measured or measure(request)
    return Start(request=request, measured=measured, concurrency=concurrency, measure=measure)


def _suggested(start: Start, kinds: Changes = CHANGES) -> Iterator[Suggestion]:
    """Every change of these kinds that vLLM accepts and that gains something."""
    for changes in kinds:
        try:
            for change in changes(start):
                suggestion = suggested(start, change)
                if suggestion is not None:
                    yield suggestion
        except PlannerError:
            continue  # not accepted by vLLM for this model on this device


def suggested(start: Start, change: Change) -> Suggestion | None:
    """What one change buys; None where that is nothing."""
    before, after = start.measured, start.measure(change.request)
    flag, value = change.flag, change.value
    engines = change.request.args.data_parallel_size
    concurrency = after.concurrency * engines
    had = before.concurrency * start.request.args.data_parallel_size
    fits = after.holds(-(-start.concurrency // engines))
    delta = after.available_bytes - before.available_bytes
    if delta <= 0 and concurrency <= had and not (fits and not before.holds(start.each)):
        return None
    return Suggestion(
        flag=flag,
        value=value,
        text=f"--gpu {value}" if flag == "gpu" else flag_text(flag, value),
        costs=change.costs,
        fits=fits,
        available_kv_cache_bytes=after.available_bytes,
        available_delta_bytes=delta,
        concurrency=concurrency,
        concurrency_ratio=concurrency / had if had > 0 else None,
        max_model_len_that_fits=after.longest,
    )
