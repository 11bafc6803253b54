"""What ``calibrate`` gains: engines planned before and after one other start on their device.

    python benchmarks/one_start.py [--all]

Every record of the logs (not of the H100 sweep, to which the bundled figures are fitted) that has
another of the same GPU, version and number of ranks is planned twice: with the bundled figures, and
with what that other start's log teaches. The log is written anew from the record, at INFO level.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ground_truth import (
    FOLDER,
    SWEEP,
    Record,
    all_records,
    is_stand_in,
    record_flags,
    record_gpu,
    unusable,
)
from vllm_kv_planner.calibration.calibration import Calibration
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.explain.compare import compare
from vllm_kv_planner.explain.learn import learn
from vllm_kv_planner.explain.predict import Given, predict
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.logs.parse import parse_lines
from vllm_kv_planner.logs.start_log import StartLog


def main() -> None:
    """Plan each twice, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="print every record")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not FOLDER.is_dir():
        print(f"skipped: {FOLDER} is absent (reference data, not part of the repository)")
        return
    print_table(show_each=given.all)


def print_table(*, show_each: bool = False) -> None:
    """Mean, median and worst error of KV memory before and after one other start."""
    before, after = [], []
    for group in groups():
        for record in group:
            other = next((each for each in group if is_another(each, record)), None)
            errors = None if other is None else errors_of(record, other)
            if other is None or errors is None:
                continue
            before.append(abs(errors[0]))
            after.append(abs(errors[1]))
            if show_each:
                print(f"{record['id'][:48]:50}{errors[0]:8.1%}{errors[1]:8.1%}  {other['id'][:48]}")
    print(f"{'KV memory of':24}{'records':>8}{'mean':>9}{'median':>9}{'worst':>9}")
    for name, found in (("bundled figures", before), ("after one other start", after)):
        figures = (statistics.fmean(found), statistics.median(found), max(found))
        print(f"{name:24}{len(found):8}" + "".join(f"{value:9.2%}" for value in figures))


def groups() -> list[list[Record]]:
    """Records of the same GPU, version and ranks, where there are two or more."""
    found: dict[tuple[object, ...], list[Record]] = {}
    for file, record in all_records():
        usable = unusable(record) is None and not is_stand_in(record["model"])
        # flags that only ``asked`` holds do not come into the log that is written here
        usable = usable and not (record.get("asked") and record.get("other_args"))
        if file != SWEEP and usable and (record.get("available_kv_gib") or 0) > 0:
            minor = tuple(record["vllm_version"].split(".")[:2])
            key = (record["gpu"], record.get("gpu_total_gib"), minor, record.get("tp"))
            found.setdefault(key, []).append(record)
    return [group for group in found.values() if len(group) > 1]


def is_another(other: Record, record: Record) -> bool:
    """Whether it is another engine's start, and not the same one told twice."""
    figures = ("model", "available_kv_gib", "max_model_len", "kv_cache_dtype", "attention_backend")
    return any(other.get(name) != record.get(name) for name in figures)


def errors_of(record: Record, other: Record) -> tuple[float, float] | None:
    """Relative error of KV memory with the bundled figures, and after the other start."""
    gpu = Given(gpu=find_gpu(record_gpu(record).short_name))
    log = log_of(record)
    try:
        taught = Calibration(records=(learn(log_of(other), gpu, today="2026-01-01"),))
        found = [
            next(
                part.difference / part.actual
                for part in compare(log, predict(log, gpu, known), ()).parts
                if part.name == "KV cache memory" and part.difference is not None and part.actual
            )
            for known in (None, taught)
        ]
    except (PlannerError, StopIteration):
        return None
    return found[0], found[1]


def log_of(record: Record) -> StartLog:
    """The record as the log of its start."""
    flags = {"model": record["model"], **record_flags(record)}
    lines = [
        f"INFO vLLM API server version {record['vllm_version']}",
        f"INFO non-default args: {flags!r}",
        f"INFO Available KV cache memory: {record['available_kv_gib']} GiB",
    ]
    if record.get("model_runner") == "V2":
        lines.append("INFO Using V2 Model Runner")
    if record.get("model_load_gib"):
        file = "gpu_model_runner.py:1" if record.get("model_runner") == "V1" else "model_runner.py"
        load = record["model_load_gib"]
        lines.append(f"INFO [{file}] Model loading took {load} GiB memory and 1 seconds")
    if record.get("est_cuda_graph_gib"):
        lines.append(f"INFO Estimated CUDA graph memory: {record['est_cuda_graph_gib']} GiB total")
    if record.get("gpu_total_gib") and record.get("free_at_start_gib"):
        free, total = record["free_at_start_gib"], record["gpu_total_gib"]
        lines.append(f"INFO Free memory on device ({free}/{total} GiB) on startup. {split(record)}")
    return parse_lines(lines, where=str(record["id"]))


def split(record: Record) -> str:
    """The summary's parts, where the record has them."""
    consumed, activation = record.get("consumed_gib"), record.get("activation_peak_gib")
    if consumed is None or activation is None:
        return ""
    return (
        f"Actual usage is {consumed} GiB for consumed memory (weights + non-torch), {activation} "
        f"GiB for peak activation, and {record.get('cuda_graph_gib') or 0.0} GiB for CUDAGraph "
        "memory."
    )


if __name__ == "__main__":
    main()
