"""The planner's measurements as all sources but one would have them.

A source is whoever published a start: one owner of repositories, one issue, one page. Whatever a
start is scored with was measured or fitted without its source: memory outside PyTorch (the median
of what the others leave), what stays unexplained (their 90th percentile), and rows that rest on
this one source alone are left out. Every source weighs the same, however many starts it has.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

from benchmarks.fit_overheads import changed, fitted_without
from benchmarks.ground_truth import GIB, Case
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.memory.budget import MemoryBudget
from vllm_kv_planner.memory.doubt import Doubt, find_doubt
from vllm_kv_planner.memory.overheads import Measured, Overheads, find_row, known_overheads
from vllm_kv_planner.memory.rank import Rank
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.records import replace

FEWEST = 4
"""Other sources from which a row is made anew; with fewer the bundled row stays."""
WIDENED = 1.4
"""The rules themselves were read in these logs: a source nobody has seen has more to it."""
_SAME = {"graz-dev": "akamaslabs", "TheBuccaneer": "thebuccaneer"}
"""Owners that publish the same studies."""
_ALONE: dict[tuple[str | None, int], str] = {
    ("RTX-3090", 2): "leadawon",
    ("RTX-50", 2): "55002292133",
    ("RTX-PRO-4500", 1): "akamaslabs",
    ("RTX-50", 1): "36973",
    ("RTX-PRO", 1): "36973",
    ("H200", 2): "69102865712",
    ("RTX-PRO-6000", 2): "59838495763",
    ("MI300X", 1): "cmontemuino",
}
"""Rows of ``overheads.json`` (device, fewest ranks) that one source alone gave."""

BudgetOf = Callable[[Case, Overheads], MemoryBudget | None]
Found = dict[str, list[float]]


def source_of(case: Case) -> str:
    """Who published the record."""
    said = str(case.record.get("source") or case.record["id"])
    named = (
        re.search(r"issues/(\d+)|#(\d+)|pull/(\d+)", said),
        re.search(r"index (?:ids? )?(\d+)", said),
        re.search(r"github\.com/([^/ ]+)/", said),
    )
    found = next((match[match.lastindex or 0] for match in named if match), said)
    return _SAME.get(found, found)


class Others:
    """What the starts of other sources say, row by row of ``overheads.json``."""

    def __init__(self, cases: Sequence[Case], budget_of: BudgetOf) -> None:
        """``budget_of``: a case's budget with given measurements."""
        self.outside: dict[Measured, Found] = {}
        self.doubts: dict[Doubt, Found] = {}
        for case in cases:
            kv = case.record.get("available_kv_gib")
            if case.family == "H100 sweep" or not kv or kv <= 0:
                continue
            # a row that rests on this source alone knows the start already; a known defect is one
            known = known_overheads()
            measured = replace(without_alone(known, source_of(case)), warm_up=known.warm_up)
            try:
                budget = budget_of(case, measured)
            except PlannerError:
                continue
            if budget is not None and not has_more_than_the_card(case, budget):
                self._learn(case, budget, kv * GIB, measured)

    def _learn(self, case: Case, budget: MemoryBudget, kv: float, measured: Overheads) -> None:
        part, source = budget.ranks[0], source_of(case)
        left = part.available_bytes - kv
        # a start from the compile cache is held to what such a start would have
        left = min((left, left + part.upside_bytes), key=abs)
        load = case.record.get("model_load_gib") or case.record.get("weights_gib")
        if load:
            left -= load * GIB - part.weights.size_bytes
        row, doubt = (
            row_of(case, measured),
            find_doubt(rank_of(case), known_overheads().unexplained),
        )
        if row is not None:
            self.outside.setdefault(row, {}).setdefault(source, []).append(left)
        if doubt is not None:
            scale = case.setup.gpu.total_memory_bytes if doubt.share else 1
            self.doubts.setdefault(doubt, {}).setdefault(source, []).append(abs(left) / scale)

    def without(self, case: Case) -> Overheads:
        """The measurements as the other sources alone would have them."""
        fitted = fitted_without(case.record["model"])
        if case.family == "H100 sweep":
            return fitted
        own = source_of(case)
        fitted = without_alone(fitted, own)
        return replace(
            fitted,
            non_torch=tuple(self._outside(row, own) for row in fitted.non_torch),
            unexplained=tuple(self.doubt(row, own) for row in fitted.unexplained),
        )

    def _outside(self, row: Measured, own: str) -> Measured:
        found = {name: each for name, each in self.outside.get(row, {}).items() if name != own}
        if len(found) < FEWEST:
            return row
        return changed(row, max(0, int(row.size_bytes + quantile(found, 0.5))))

    def doubt(self, row: Doubt, own: str | None = None) -> Doubt:
        """The row as the sources but ``own`` give it."""
        found = {name: each for name, each in self.doubts.get(row, {}).items() if name != own}
        if len(found) < FEWEST:
            return row
        rest = quantile(found, 0.9) * WIDENED
        return replace(row, share=rest) if row.share else replace(row, size_bytes=int(rest))


def has_more_than_the_card(case: Case, budget: MemoryBudget) -> bool:
    """Whether weights and KV memory as printed leave nothing of what was requested."""
    load, kv = (case.record.get(name) or 0 for name in ("model_load_gib", "available_kv_gib"))
    printed = (load + kv) * GIB
    return bool(load and kv) and printed > budget.ranks[0].requested_bytes


def without_alone(overheads: Overheads, own: str) -> Overheads:
    """The measurements without the rows that rest on this source alone."""
    return replace(
        overheads,
        non_torch=tuple(row for row in overheads.non_torch if _ALONE.get(_key(row)) != own),
        warm_up=tuple(row for row in overheads.warm_up if _ALONE.get(_key(row)) != own),
    )


def _key(row: Measured) -> tuple[str | None, int]:
    return row.device, row.ranks[0]


def rank_of(case: Case) -> Rank:
    """The case's first rank."""
    return Rank(setup=case.setup, rules=version_rules(case.version))


def row_of(case: Case, measured: Overheads) -> Measured | None:
    """The row of memory outside PyTorch that speaks of the case."""
    args = case.setup.args
    pipeline = args.tensor_parallel_size == 1 and args.pipeline_parallel_size > 1
    version, device = version_rules(case.version).version, case.setup.gpu.short_name
    return find_row(measured.non_torch, version, device, args.tensor_parallel_size, pipeline)


def quantile(found: Found, share: float) -> float:
    """A quantile over all values, the sources weighing the same; between two values in between."""
    weighed = sorted((value, 1 / len(each)) for each in found.values() for value in each)
    wanted = share * (len(found) - weighed[-1][1])
    reached, below = 0.0, weighed[0][0]
    for (value, weight), (above, _) in itertools.pairwise(weighed):
        below = value
        if reached + weight >= wanted:
            return value + (above - value) * max(0.0, wanted - reached) / weight
        reached += weight
    return weighed[-1][0] if len(weighed) > 1 else below


def ninth(values: Iterable[float]) -> float:
    """The 90th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
