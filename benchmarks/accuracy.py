"""How close the memory budget comes to what real engines reported.

    python benchmarks/accuracy.py [--weights record|ours] [--all] [--json FILE]

Every record of ``../shared/ground_truth`` that the planner can express is scored: activation peak,
memory outside PyTorch, CUDA graph estimate, KV memory and concurrency; by family and version. The
rest is listed with the reason. ``--weights record`` takes the weights from the record, so that only
what this package predicts is judged. Whatever was fitted is fitted anew without the model at hand
(``fit_overheads.py``); memory outside PyTorch and the unexplained rest of the logs without the
source at hand (``Others``). Engines that refused to start must not be promised to fit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fit_overheads import changed, fitted_without
from benchmarks.ground_truth import (
    FOLDER,
    GIB,
    Case,
    Left,
    Record,
    all_records,
    as_case,
    is_stand_in,
)
from vllm_kv_planner.errors import PlannerError, UnsupportedError
from vllm_kv_planner.kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from vllm_kv_planner.memory.budget import MemoryBudget, Weights, memory_budget
from vllm_kv_planner.memory.overheads import Measured, Overheads, find_row, known_overheads
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.memory.weights import WeightsEstimate, setup_weights
from vllm_kv_planner.planning.versions import request_limits
from vllm_kv_planner.records import replace


@dataclass(frozen=True)
class Score:
    """One record's errors: ours over the record's, less one (graphs and outside: GiB)."""

    case: Case
    budget: MemoryBudget
    errors: dict[str, float]
    within: bool | None


def main() -> None:
    """Score, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", choices=("record", "ours"), default="record")
    parser.add_argument("--all", action="store_true", help="print every record")
    parser.add_argument("--json", metavar="FILE", help="write every record's errors")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not FOLDER.is_dir():
        print(f"skipped: {FOLDER} is absent (reference data, not part of the repository)")
        return
    asked = [as_case(file, record) for file, record in all_records()]
    left = [case for case in asked if isinstance(case, Left)]
    others = Others([case for case in asked if isinstance(case, Case)], args.weights)
    scores: list[Score] = []
    refused: list[tuple[Case, bool | None]] = []
    for case in asked:
        if isinstance(case, Left):
            continue
        try:
            budget = budget_of(case, args.weights, others.without(case))
        except PlannerError as error:
            left.append(Left(case.record, str(error).splitlines()[0]))
            continue
        if budget is None:
            left.append(Left(case.record, "the weights are not stated"))
            continue
        if case.record.get("started") is False:
            refused.append((case, promised(case, budget)))
        scores.append(score(case, budget, args.weights))
    print_table(scores)
    print_refused(refused)
    if args.all:
        print_all(scores)
    print_left(left)
    if args.json:
        write_json(Path(args.json), scores)


class Others:
    """What the logs of other sources leave unexplained, row by row of ``overheads.json``."""

    def __init__(self, cases: Sequence[Case], weights: str) -> None:
        self.left: dict[Measured, list[tuple[str, float]]] = {}
        for case in cases:
            kv = case.record.get("available_kv_gib")
            row = self.row_of(case)
            if case.family == "H100 sweep" or row is None or not kv or kv <= 0:
                continue
            try:
                budget = budget_of(case, weights, known_overheads())
            except PlannerError:
                continue
            if budget is not None:
                rank = budget.ranks[0]
                left = rank.available_bytes - kv * GIB
                # a start from the compile cache is held to what such a start would have
                nearest = min((left, left + rank.upside_bytes), key=abs)
                self.left.setdefault(row, []).append((source_of(case), nearest))

    @staticmethod
    def row_of(case: Case) -> Measured | None:
        """The row of memory outside PyTorch that speaks of the case."""
        args = case.setup.args
        pipeline = args.tensor_parallel_size == 1 and args.pipeline_parallel_size > 1
        version = version_rules(case.version).version
        rows, device = known_overheads().non_torch, case.setup.gpu.short_name
        return find_row(rows, version, device, args.tensor_parallel_size, pipeline)

    def without(self, case: Case) -> Overheads:
        """The measurements as the other sources alone would have them."""
        fitted = fitted_without(case.record["model"])
        row = self.row_of(case)
        if row is None or case.family == "H100 sweep":
            return fitted
        own = source_of(case)
        found = [left for source, left in self.left.get(row, ()) if source != own]
        if len(found) < FEWEST:
            return fitted
        middle = statistics.median(found)
        rest = ninth(abs(left - middle) for left in found)
        outside = changed(row, max(0, int(row.size_bytes + middle)))
        return replace(
            fitted,
            non_torch=tuple(outside if each == row else each for each in fitted.non_torch),
            unexplained=(changed(row, int(rest)), *fitted.unexplained),
        )


FEWEST = 4
"""Starts of other sources from which a row is made anew; with fewer the bundled row stays."""


def source_of(case: Case) -> str:
    """Who published the record: one repository, issue or machine."""
    return str(case.record.get("source") or case.record["id"])


def budget_of(case: Case, weights: str, overheads: Overheads) -> MemoryBudget | None:
    """The budget; None where the record's weights are asked for and it states none."""
    record = case.record
    given: Callable[[int], Weights]
    if weights == "ours" and is_stand_in(record["model"]):
        raise UnsupportedError(
            "the checkpoint's quantisation is not known here: no weights of ours"
        )
    if weights == "record":
        load = record.get("model_load_gib") or record.get("weights_gib")
        if load is None:
            return None
        given = lambda stage: Weights(size_bytes=int(load * GIB))  # noqa: E731
    else:
        estimate = our_weights(case)
        given = lambda stage: Weights(  # noqa: E731
            size_bytes=estimate.loaded_bytes[stage], uncertainty_bytes=estimate.uncertainty_bytes
        )
    free = record.get("free_at_start_gib")
    return memory_budget(
        case.setup,
        given,
        vllm_version=case.version,
        free_memory_bytes=None if free is None else int(free * GIB),
        other_processes_bytes=case.machine.other_processes_bytes,
        overheads=overheads,
    )


def our_weights(case: Case) -> WeightsEstimate:
    """The planner's own weights."""
    major, minor = (int(part) for part in case.version.split(".")[:2])
    return setup_weights(case.setup, version=(major, minor))


def score(case: Case, budget: MemoryBudget, weights: str) -> Score:
    """A record's errors, of every figure it states."""
    record = case.record
    errors: dict[str, float] = {}
    ranks = budget.ranks
    reported = record.get("activation_gib") or record.get("activation_peak_gib")
    if reported and not record.get("consumed_gib"):
        errors["activation"] = ranks[0].activation.peak_bytes / GIB / reported - 1
    if (outside := record.get("non_torch_gib")) is not None:
        errors["outside (GiB)"] = ranks[0].outside.size_bytes / GIB - outside
    if graphs := record.get("est_cuda_graph_gib"):
        errors["graph estimate (GiB)"] = ranks[0].graphs.estimate_bytes / GIB - graphs
    load = record.get("model_load_gib") or record.get("weights_gib")
    if weights == "ours" and load:
        errors["weights"] = ranks[0].weights.size_bytes / GIB / load - 1
    kv = record.get("available_kv_gib")
    within = None
    if kv and kv > 0:
        errors["KV memory"] = ranks[0].available_bytes / GIB / kv - 1
        within = abs(budget.available_kv_cache_bytes - kv * GIB) <= budget.uncertainty_bytes
        errors["band"] = budget.uncertainty_bytes / GIB / kv
    if record.get("max_concurrency") and record.get("max_model_len"):
        blocks = plan_of(case, [rank.available_bytes for rank in ranks])
        errors["concurrency"] = blocks.max_concurrency / record["max_concurrency"] - 1
    return Score(case, budget, errors, within)


def plan_of(case: Case, available: Sequence[int]) -> KVCachePlan:
    """The blocks of every stage's memory, with the steps in flight of its version."""
    setup = case.setup
    return plan_kv_cache(
        [
            Worker(layers=layers, available_bytes=memory)
            for layers, memory in zip(setup.cache.stages, available, strict=True)
        ],
        request_limits(setup, version_rules(case.version)),
        layout=setup.cache.layout,
        model_max_len=setup.resolved.length.max_model_len,
        hybrid_kv_cache_manager=not setup.resolved.disable_hybrid_kv_cache_manager,
    )


def promised(case: Case, budget: MemoryBudget) -> bool | None:
    """Whether a fit would be promised: at the pessimistic end of every rank."""
    memory = [rank.available_bytes - rank.uncertainty_bytes for rank in budget.ranks]
    return budget.starts_surely and min(memory) > 0 and plan_of(case, memory).fits


def is_log(*tests: Callable[[Score], bool]) -> Callable[[Score], bool]:
    """A record that is not of the sweep, and of which all of this holds."""
    return lambda score: score.case.family == "logs" and all(test(score) for test in tests)


def total(score: Score) -> float:
    """GiB of the GPU."""
    return score.case.setup.gpu.total_memory_bytes / GIB


def gpus(score: Score) -> int:
    """GPUs of the engine."""
    return int(score.case.setup.args.num_gpus)


def is_amd(score: Score) -> bool:
    """A Radeon or an Instinct."""
    return bool(score.case.setup.gpu.platform == "rocm")


GROUPS: tuple[tuple[str, Callable[[Score], bool]], ...] = (
    ("all but the sweep", is_log()),
    ("  up to 32 GiB", is_log(lambda s: gpus(s) == 1 and total(s) < 33)),
    ("  33 to 96 GiB", is_log(lambda s: gpus(s) == 1 and 33 <= total(s) < 97 and not is_amd(s))),
    ("  above, one GPU", is_log(lambda s: gpus(s) == 1 and total(s) >= 97 and not is_amd(s))),
    ("  several GPUs", is_log(lambda s: gpus(s) > 1)),
    ("  AMD", is_log(is_amd)),
    ("  before 0.17", is_log(lambda s: minor(s) < 17)),
    ("  0.17 to 0.20", is_log(lambda s: 17 <= minor(s) < 21)),
    ("  0.21 to 0.26", is_log(lambda s: 21 <= minor(s) < 27)),
    ("  0.27 to 0.33", is_log(lambda s: minor(s) >= 27)),
    ("H100 sweep", lambda score: score.case.family == "H100 sweep"),
    ("  of 0.15, 0.16", lambda s: s.case.family == "H100 sweep" and minor(s) < 17),
    ("  of 0.17, 0.18", lambda s: s.case.family == "H100 sweep" and 17 <= minor(s) < 19),
    ("  of 0.19", lambda s: s.case.family == "H100 sweep" and minor(s) == 19),
)
COLUMNS = (
    *("weights", "activation", "outside (GiB)", "graph estimate (GiB)"),
    *("KV memory", "concurrency", "band"),
)


def minor(score: Score) -> int:
    """The minor version."""
    return int(score.case.version.lstrip("v").split(".")[1])


def print_table(scores: Sequence[Score]) -> None:
    """Mean, median, 90th percentile and worst absolute error by group."""
    print(f"{'':18}{'':22}{'records':>8}{'mean':>9}{'median':>9}{'90 %':>9}{'worst':>9}")
    for name, belongs in GROUPS:
        group = [score for score in scores if belongs(score)]
        for column in COLUMNS:
            found = [abs(score.errors[column]) for score in group if column in score.errors]
            if found:
                figures = (statistics.fmean(found), statistics.median(found), ninth(found))
                print(
                    f"{name:18}{column:22}{len(found):8}"
                    + "".join(f"{shown(value, column):>9}" for value in (*figures, max(found)))
                )
        inside = [score.within for score in group if score.within is not None]
        if inside:
            print(f"{name:18}within the stated band  {sum(inside)} of {len(inside)}")


def shown(value: float, column: str) -> str:
    """A relative error in percent, an absolute one in GiB."""
    return f"{value:.3f}" if "GiB" in column else f"{value:.2%}"


def ninth(values: Iterable[float]) -> float:
    """The 90th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def print_refused(refused: Sequence[tuple[Case, bool | None]]) -> None:
    """Engines that did not start, and what would have been said."""
    print(f"\nengines that did not start: {len(refused)}")
    for case, fits in refused:
        said = "PROMISED TO FIT" if fits else "not promised"
        print(f"  {case.record['id'][:50]:52}{said:18}{str(case.record.get('error'))[:70]}")


def print_all(scores: Sequence[Score]) -> None:
    """Every record."""
    print()
    for score in scores:
        rank = score.budget.ranks[0]
        errors = "  ".join(f"{name} {shown(e, name)}" for name, e in score.errors.items())
        print(
            f"{score.case.record['id'][:46]:48}{score.case.version[:8]:9}"
            f"{'V2' if minor(score) >= 22 and rank.buffers else '':3}"
            f"peak {rank.activation.peak.name:8}{rank.activation.peak_bytes / GIB:6.2f}  "
            f"KV {rank.available_bytes / GIB:7.2f} ± {rank.uncertainty_bytes / GIB:5.2f} "
            f"({score.case.record.get('available_kv_gib')})  {errors}"
        )


def print_left(left: Sequence[Left]) -> None:
    """Records that cannot be asked about."""
    print(f"\nnot expressible: {len(left)}")
    reasons: dict[str, list[Record]] = {}
    for case in left:
        reasons.setdefault(case.why, []).append(case.record)
    for why, records in sorted(reasons.items(), key=lambda item: -len(item[1])):
        print(f"  {len(records):4}  {why[:120]}")


def write_json(path: Path, scores: Sequence[Score]) -> None:
    """Every record's errors, for other programs."""
    rows = [{"id": s.case.record["id"], "version": s.case.version, **s.errors} for s in scores]
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
