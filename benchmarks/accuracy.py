"""How close the memory budget comes to what real engines reported.

    python benchmarks/accuracy.py [--weights record|ours] [--all] [--json FILE]

Every record of ``../shared/ground_truth`` that the planner can express is scored: activation peak,
memory outside PyTorch, CUDA graph estimate, KV memory and concurrency; by family and version. The
rest is listed with the reason. ``--weights record`` takes the weights from the record, so that only
what this package predicts is judged. Whatever was fitted is fitted anew without the model at hand
(``fit_overheads.py``); memory outside PyTorch and the unexplained rest of the logs without the
source at hand (``held_out.py``). A start is inside if it lies in the band of a first start, or of
a later one where these differ; ``reach`` is the whole stated uncertainty. Of engines that did not
start, and of those that did, it prints what the plan would have said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import one_start
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
from benchmarks.held_out import Others, has_more_than_the_card, ninth, rank_of, source_of
from vllm_kv_planner.errors import PlannerError, UnsupportedError
from vllm_kv_planner.kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from vllm_kv_planner.memory.budget import MemoryBudget, memory_budget
from vllm_kv_planner.memory.doubt import is_plain
from vllm_kv_planner.memory.overheads import Overheads, known_overheads
from vllm_kv_planner.memory.rank_budget import Weights
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.memory.weights import WeightsEstimate, setup_weights
from vllm_kv_planner.planning.types import BORDERLINE, DOES_NOT_FIT, FITS
from vllm_kv_planner.planning.versions import request_limits


@dataclass(frozen=True)
class Score:
    """One record's errors: ours over the record's, less one (graphs and outside: GiB)."""

    case: Case
    budget: MemoryBudget
    errors: dict[str, float]
    within: bool | None
    reached: bool | None
    verdict: str
    """What the plan would say of the start."""


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
    others = Others(
        [case for case in asked if isinstance(case, Case)],
        lambda case, overheads: budget_of(case, args.weights, overheads),
    )
    scores: list[Score] = []
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
        if has_more_than_the_card(case, budget):
            left.append(Left(case.record, "its parts are more than the card has: another total"))
            continue
        scores.append(score(case, budget, args.weights))
    print_table(scores)
    print_verdicts(scores)
    print_doubts(others)
    print("\ncalibrate (one_start.py)")
    one_start.print_table()
    if args.all:
        print_all(scores)
    print_left(left)
    if args.json:
        write_json(Path(args.json), scores)


def budget_of(case: Case, weights: str, overheads: Overheads) -> MemoryBudget | None:
    """The budget; None where the record's weights are asked for and it states none."""
    record = case.record
    given: Callable[[int], Weights]
    model, facts = case.setup.model, case.setup.facts
    by_flag = model.unstated_quantization is not None and not facts.quantization_config
    if weights == "ours" and (is_stand_in(record["model"]) or by_flag):
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
    within = reached = None
    if kv and kv > 0:
        first, band = ranks[0].available_bytes, ranks[0].uncertainty_bytes
        kinds = [abs(kv * GIB - first), abs(kv * GIB - first - ranks[0].upside_bytes)]
        errors["KV memory"] = first / GIB / kv - 1
        errors["its kind of start"] = min(kinds) / GIB / kv
        errors["band"] = band / GIB / kv
        errors["reach"] = ranks[0].band_bytes / GIB / kv
        within, reached = min(kinds) <= band, kinds[0] <= ranks[0].band_bytes
    if record.get("max_concurrency") and record.get("max_model_len"):
        blocks = plan_of(case, [rank.available_bytes for rank in ranks])
        errors["concurrency"] = blocks.max_concurrency / record["max_concurrency"] - 1
    return Score(case, budget, errors, within, reached, verdict(case, budget))


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


def verdict(case: Case, budget: MemoryBudget) -> str:
    """The plan's word: promised at the pessimistic end of every rank, refused at the other."""
    low = [rank.pessimistic_bytes for rank in budget.ranks]
    high = [rank.available_bytes + rank.band_bytes for rank in budget.ranks]
    if budget.starts_surely and min(low) > 0 and plan_of(case, low).fits:
        return FITS
    return BORDERLINE if min(high) > 0 and plan_of(case, high).fits else DOES_NOT_FIT


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
    ("  dense text", is_log(lambda s: is_plain(rank_of(s.case)))),
    ("  others", is_log(lambda s: not is_plain(rank_of(s.case)))),
    ("  before 0.17", is_log(lambda s: minor(s) < 17)),
    ("  0.17 to 0.20", is_log(lambda s: 17 <= minor(s) < 21)),
    ("  0.21 to 0.26", is_log(lambda s: 21 <= minor(s) < 27)),
    ("  0.27 to 0.33", is_log(lambda s: minor(s) >= 27)),
    ("H100 sweep", lambda score: score.case.family == "H100 sweep"),
    ("  of 0.15, 0.16", lambda s: s.case.family == "H100 sweep" and minor(s) < 17),
    ("  of 0.17, 0.18", lambda s: s.case.family == "H100 sweep" and 17 <= minor(s) < 19),
    ("  of 0.19", lambda s: s.case.family == "H100 sweep" and minor(s) == 19),
)
MIB = 1 << 20
COLUMNS = (
    *("weights", "activation", "outside (GiB)", "graph estimate (GiB)"),
    *("KV memory", "its kind of start", "concurrency", "band", "reach"),
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
            sources = len({source_of(score.case) for score in group if score.within is not None})
            reached = sum(bool(score.reached) for score in group)
            print(
                f"{name:18}inside: {sum(inside)} of {len(inside)} ({sources} sources); "
                f"within reach {reached}"
            )


def shown(value: float, column: str) -> str:
    """A relative error in percent, an absolute one in GiB."""
    return f"{value:.3f}" if "GiB" in column else f"{value:.2%}"


def print_verdicts(scores: Sequence[Score]) -> None:
    """What would have been said of engines that did not start, and of those that did."""
    logs = [score for score in scores if score.case.family == "logs"]
    for started in (False, True):
        group = [each for each in logs if ran(each.case.record) == started]
        counts = Counter(each.verdict for each in group)
        print(f"\nengines that {'ran' if started else 'did not start'}: {dict(counts)}")
        for each in group:
            if (each.verdict == FITS) != started:
                why = str(each.case.record.get("error") or "")
                print(f"  {each.case.record['id'][:50]:52}{each.verdict:14}{why[:60]}")


def ran(record: Record) -> bool:
    """Whether the engine came up."""
    return record.get("started") is not False and (record.get("available_kv_gib") or 0) >= 0


def print_doubts(others: Others) -> None:
    """The rows of what stays unexplained, as all sources together give them."""
    print("\nunexplained, 90th percentile over sources (overheads.json)")
    for row in known_overheads().unexplained:
        made, count = others.doubt(row), len(others.doubts.get(row, {}))
        whom = f"{row.device or row.platform or 'any'}, {row.ranks[0]} GPUs or more"
        kind = f"plain {row.plain}, quantized {row.quantized}"
        sizes = (made.size_bytes / MIB, made.share, row.size_bytes / MIB, row.share)
        print(
            "  {:6.0f} MiB {:6.2%}  bundled {:6.0f} MiB {:6.2%}  ".format(*sizes)
            + f"{count:3} sources  {whom}; {kind}"
        )


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
