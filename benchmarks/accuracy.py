"""How close the memory budget comes to what real engines reported.

    python benchmarks/accuracy.py [--weights record|ours] [--all] [--json FILE]

Every record of ``../shared/ground_truth`` that the planner can express is scored: activation peak,
memory outside PyTorch, CUDA graph estimate, KV memory and concurrency; by family and version. The
rest is listed with the reason. ``--weights record`` takes the weights from the record, so that only
what this package predicts is judged. Whatever was fitted (``fit_overheads.py``) is fitted anew
without the model at hand. Engines that refused to start must not be promised to fit.
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

from benchmarks.fit_overheads import fitted_without
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
from vllm_kv_planner.memory.budget import MemoryBudget, Weights, memory_budget, request_limits
from vllm_kv_planner.memory.weights import WeightsEstimate, setup_weights


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
    scores: list[Score] = []
    refused: list[tuple[Case, bool | None]] = []
    for case in asked:
        if isinstance(case, Left):
            continue
        try:
            budget = budget_of(case, args.weights)
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


def budget_of(case: Case, weights: str) -> MemoryBudget | None:
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
        overheads=fitted_without(record["model"]),
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
        within = abs(ranks[0].available_bytes / GIB - kv) * GIB <= ranks[0].uncertainty_bytes
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
        request_limits(setup, case.version),
        layout=setup.cache.layout,
        model_max_len=setup.resolved.length.max_model_len,
        hybrid_kv_cache_manager=not setup.resolved.disable_hybrid_kv_cache_manager,
    )


def promised(case: Case, budget: MemoryBudget) -> bool | None:
    """Whether a fit would be promised: at the pessimistic end of every rank."""
    memory = [rank.available_bytes - rank.uncertainty_bytes for rank in budget.ranks]
    return budget.starts_surely and min(memory) > 0 and plan_of(case, memory).fits


GROUPS: tuple[tuple[str, Callable[[Score], bool]], ...] = (
    ("H100 sweep", lambda score: score.case.family == "H100 sweep"),
    ("  of 0.15, 0.16", lambda s: s.case.family == "H100 sweep" and minor(s) < 17),
    ("  of 0.17, 0.18", lambda s: s.case.family == "H100 sweep" and 17 <= minor(s) < 19),
    ("  of 0.19", lambda s: s.case.family == "H100 sweep" and minor(s) == 19),
    ("logs", lambda score: score.case.family == "logs"),
    ("  before 0.17", lambda s: s.case.family == "logs" and minor(s) < 17),
    ("  0.17 to 0.20", lambda s: s.case.family == "logs" and 17 <= minor(s) < 21),
    ("  0.21 to 0.26", lambda s: s.case.family == "logs" and 21 <= minor(s) < 27),
    ("  0.27 to 0.33", lambda s: s.case.family == "logs" and minor(s) >= 27),
)
COLUMNS = (
    *("weights", "activation", "outside (GiB)", "graph estimate (GiB)"),
    *("KV memory", "concurrency"),
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
