"""What is fitted in ``overheads.json``, fitted from the records, with any model left out.

    python benchmarks/fit_overheads.py

prints the figures that all records give: medians of the H100 sweep's memory outside PyTorch by
number of ranks, and the constants of the CUDA graph model by least squares.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ground_truth import GIB, SWEEP, Case, all_records, as_case
from vllm_kv_planner.memory.cuda_graphs import accumulator_bytes, pool_activation_bytes
from vllm_kv_planner.memory.overheads import GraphCosts, Measured, Overheads, known_overheads
from vllm_kv_planner.memory.rank import Rank
from vllm_kv_planner.memory.versions import version_rules

MIB = 1 << 20


@dataclass(frozen=True)
class GraphSample:
    """One record's printed estimate beside what the model knows of the engine; bytes."""

    layers: int
    pool: int
    accumulators: int
    first_piecewise: float
    per_piecewise: float
    first_full: float
    per_full: float


@cache
def sweep_cases() -> tuple[Case, ...]:
    """The sweep's records that the planner can express."""
    cases = (as_case(file, record) for file, record in all_records() if file == SWEEP)
    return tuple(case for case in cases if isinstance(case, Case))


@cache
def fitted_without(model: str | None) -> Overheads:
    """The measurements with the sweep's rows fitted to every model but ``model``."""
    known = known_overheads()
    cases = [case for case in sweep_cases() if case.record["model"] != model]
    if not cases:
        return known
    return replace_fitted(known, cases)


def replace_fitted(known: Overheads, cases: Sequence[Case]) -> Overheads:
    """The bundled measurements with what the cases say in place of the sweep's own rows."""
    rows = tuple(refitted(row, cases) for row in known.non_torch)
    return Overheads(
        non_torch=rows,
        warm_up=known.warm_up,
        unexplained=known.unexplained,
        at_start=known.at_start,
        graphs=fit_graphs(cases, known.graphs),
    )


def refitted(row: Measured, cases: Sequence[Case]) -> Measured:
    """The row with the median of the cases it speaks of; unchanged where there are none."""
    if row.device != "H100":
        return row
    found = [
        case.record["non_torch_gib"] * GIB
        for case in cases
        if case.record.get("non_torch_gib") is not None and speaks_of(row, case)
    ]
    if not found:
        return row
    return changed(row, int(statistics.median(found)))


def speaks_of(row: Measured, case: Case) -> bool:
    """Whether the row is meant for the case."""
    args = case.setup.args
    pipeline = args.tensor_parallel_size == 1 and args.pipeline_parallel_size > 1
    version = version_rules(case.version).version
    return row.fits(version, "H100-SXM-80GB", args.tensor_parallel_size, pipeline)


def changed(row: Measured, size: int) -> Measured:
    """The row with another figure."""
    return Measured(
        first=row.first,
        last=row.last,
        device=row.device,
        ranks=row.ranks,
        pipeline=row.pipeline,
        size_bytes=size,
        spread_bytes=row.spread_bytes,
        source=row.source,
    )


def fit_graphs(cases: Sequence[Case], known: GraphCosts) -> GraphCosts:
    """Constants of the graph model: medians of what each record leaves for them."""
    samples = [sample for case in cases if (sample := graph_sample(case)) is not None]
    if not samples:
        return known

    def middle(of: Callable[[GraphSample], float]) -> int:
        return int(statistics.median(of(sample) for sample in samples))

    return GraphCosts(
        first_piecewise_bytes=middle(lambda s: s.first_piecewise - s.pool),
        first_full_bytes=middle(lambda s: s.first_full - s.accumulators),
        least_elsewhere_bytes=known.least_elsewhere_bytes,
        piecewise_bytes_per_layer=middle(lambda s: s.per_piecewise / s.layers),
        full_bytes_per_layer=middle(lambda s: s.per_full / s.layers),
        source=known.source,
    )


def graph_sample(case: Case) -> GraphSample | None:
    """A record's estimate; None where it prints none of both modes."""
    printed = case.record.get("cuda_graph_estimate") or {}
    if "piecewise" not in printed or "full" not in printed:
        return None
    rank = Rank(setup=case.setup, rules=version_rules(case.version))
    return GraphSample(
        layers=case.setup.resolved.layers_per_stage[0],
        pool=pool_activation_bytes(rank, 512),
        accumulators=accumulator_bytes(rank, 512),
        first_piecewise=printed["piecewise"]["first_capture_mib"] * MIB,
        per_piecewise=printed["piecewise"]["per_graph_mib"] * MIB,
        first_full=printed["full"]["first_capture_mib"] * MIB,
        per_full=printed["full"]["per_graph_mib"] * MIB,
    )


def main() -> None:
    """Print what all records give."""
    fitted = fitted_without(None)
    for row in fitted.non_torch:
        if row.device == "H100":
            print(row.ranks, row.pipeline, f"{row.size_bytes / MIB:.0f} MiB", row.source)
    graphs = fitted.graphs
    for name in ("first_piecewise", "first_full"):
        print(name, f"{getattr(graphs, f'{name}_bytes') / MIB:.1f} MiB")
    for name in ("piecewise", "full"):
        print(name, f"{getattr(graphs, f'{name}_bytes_per_layer') / MIB:.3f} MiB a layer and graph")


if __name__ == "__main__":
    main()
