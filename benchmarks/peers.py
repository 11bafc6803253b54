"""The planners that install from PyPI beside ours, on the H100 sweep of real engines.

    python benchmarks/peers.py [--json] [--no-install]

Fixed versions, each in a virtual environment of its own below the user's cache folder. A peer that
cannot be installed is skipped, plainly. Peers are handed the model's config and the weights that
the engine printed (``peer_driver.py``); ours derives its weights, and is fitted without the model
at hand (``accuracy.py --weights ours``). Errors are of KV memory on one GPU and of the maximum
concurrency; each peer is scored on the records it can express, and ours on the same ones beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.accuracy import budget_of, score
from benchmarks.fit_overheads import fitted_without
from benchmarks.ground_truth import FOLDER, GIB, SWEEP, Case, all_records, as_case, record_model
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.model.defaults import defaults_for

PEERS = {"hf-mem": "0.5.6", "kvfit": "0.3.0", "ridgepoint": "0.1.2", "llm-d-planner": "0.3.3"}
INSTALL_SECONDS = 600
ANSWER_SECONDS = 300
DRIVER = Path(__file__).with_name("peer_driver.py")
OURS = "vllm-kv-planner"


@dataclass(frozen=True)
class Errors:
    """Relative errors of one record: of KV memory and concurrency."""

    kv: float
    concurrency: float


@dataclass(frozen=True)
class Row:
    """One line of the table; errors in shares of the engine's own figure."""

    planner: str
    version: str
    records: int
    not_expressed: int
    kv_mean: float
    kv_worst: float
    concurrency_mean: float
    concurrency_worst: float
    ours_kv_mean: float
    ours_concurrency_mean: float
    why_not: tuple[str, ...]


def main() -> None:
    """Install, ask, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-install", action="store_true", help="only peers already installed")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not FOLDER.is_dir():
        print(f"skipped: {FOLDER} is absent (reference data, not part of the repository)")
        return
    ours = our_errors()
    cases = {name: peer_case(case) for name, (case, _) in ours.items()}
    mine = {name: errors for name, (_, errors) in ours.items()}
    rows = [table_row(OURS, "this one", mine, mine, [])]
    skipped: dict[str, str] = {}
    for peer, version in PEERS.items():
        python = installed(peer, version, install=not given.no_install)
        if isinstance(python, str):
            skipped[peer] = python
            continue
        answers = ask(peer, python, list(cases.values()))
        errors, refused = scored(ours, dict(zip(cases, answers, strict=True)))
        if errors:
            rows.append(table_row(peer, version, errors, mine, refused))
        else:
            skipped[peer] = f"expressed no record: {refused[0] if refused else 'no answer'}"
    if given.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "skipped": skipped}, indent=1))
    else:
        print_table(rows, skipped)


def our_errors() -> dict[str, tuple[Case, Errors]]:
    """Every record of the sweep that states KV memory and concurrency, with our errors."""
    found = {}
    for file, record in all_records():
        if file != SWEEP or not record.get("available_kv_gib") or not record.get("max_concurrency"):
            continue
        case = as_case(file, record)
        if not isinstance(case, Case):
            continue
        try:
            budget = budget_of(case, "ours", fitted_without(case.record["model"]))
        except PlannerError:
            continue
        if budget is None:
            continue
        errors = score(case, budget, "ours").errors
        if "KV memory" in errors and "concurrency" in errors:
            found[str(record["id"])] = (
                case,
                Errors(errors["KV memory"], errors["concurrency"]),
            )
    return found


def peer_case(case: Case) -> dict[str, Any]:
    """The record in the driver's words."""
    record, args = case.record, case.setup.args
    return {
        "config": completed(record_model(record["model"]).config),
        "weights_bytes": int(record["model_load_gib"] * GIB),
        "total_bytes": case.setup.gpu.total_memory_bytes,
        "utilization": args.gpu_memory_utilization,
        "tp": args.tensor_parallel_size,
        "pp": args.pipeline_parallel_size,
        "max_model_len": case.setup.resolved.length.max_model_len,
        "kv_cache_dtype": args.kv_cache_dtype,
    }


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the defaults of its transformers class, which peers leave to that class."""
    known = defaults_for(str(config.get("model_type", "")))
    found = {**known, **config}
    for name, value in found.items():
        if name.endswith("_config") and isinstance(value, dict) and "model_type" in value:
            found[name] = completed(value)
    return found


def scored(
    ours: dict[str, tuple[Case, Errors]], answers: dict[str, dict[str, Any]]
) -> tuple[dict[str, Errors], list[str]]:
    """A peer's errors by record, and why it has none for the others."""
    errors: dict[str, Errors] = {}
    refused: list[str] = []
    for name, answer in answers.items():
        record = ours[name][0].record
        if "error" in answer:
            refused.append(f"{record['model']}: {answer['error']}")
            continue
        errors[name] = Errors(
            answer["kv_bytes"] / GIB / record["available_kv_gib"] - 1,
            answer["concurrency"] / record["max_concurrency"] - 1,
        )
    return errors, refused


def installed(peer: str, version: str, *, install: bool) -> Path | str:
    """The Python that has the peer, or why there is none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / OURS / "peers" / f"{peer}-{version}"
    python, done = folder / "bin" / "python", folder / "installed"
    if done.is_file() and python.exists():
        return python
    if not install:
        return "not installed"
    try:
        run([sys.executable, "-m", "venv", "--clear", str(folder)], INSTALL_SECONDS)
        run([str(python), "-m", "pip", "install", "-q", f"{peer}=={version}"], INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        last = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return f"cannot be installed: {last[-1][:160] if last else 'no reason given'}"
    done.write_text(version, encoding="utf-8")
    return python


def ask(peer: str, python: Path, cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The peer's answers, in the order of the cases."""
    command = [str(python), "-I", str(DRIVER), peer]
    try:
        done = run(command, ANSWER_SECONDS, json.dumps(cases))
        answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return [{"error": f"no answer: {error}"[:200]} for _ in cases]
    return answers


def run(command: list[str], seconds: int, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command that must succeed in time."""
    return subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=seconds, check=True
    )


def table_row(
    planner: str,
    version: str,
    errors: dict[str, Errors],
    ours: dict[str, Errors],
    refused: Sequence[str],
) -> Row:
    """Mean and worst absolute errors, and ours on the same records."""
    kv = [abs(each.kv) for each in errors.values()]
    concurrency = [abs(each.concurrency) for each in errors.values()]
    return Row(
        planner=planner,
        version=version,
        records=len(errors),
        not_expressed=len(refused),
        kv_mean=statistics.fmean(kv),
        kv_worst=max(kv),
        concurrency_mean=statistics.fmean(concurrency),
        concurrency_worst=max(concurrency),
        ours_kv_mean=statistics.fmean(abs(ours[name].kv) for name in errors),
        ours_concurrency_mean=statistics.fmean(abs(ours[name].concurrency) for name in errors),
        why_not=tuple(sorted(set(refused))),
    )


def print_table(rows: Sequence[Row], skipped: dict[str, str]) -> None:
    """Markdown, and below it what could not be asked."""
    print(
        "| planner | version | records | KV memory: mean error | worst | concurrency: mean error "
        "| worst | ours on these: KV memory | concurrency |"
    )
    print(f"| --- | --- |{' ---: |' * 7}")
    for row in rows:
        shares = (
            *(row.kv_mean, row.kv_worst, row.concurrency_mean, row.concurrency_worst),
            *(row.ours_kv_mean, row.ours_concurrency_mean),
        )
        figures = " | ".join(f"{share:.1%}" if share >= 0.1 else f"{share:.2%}" for share in shares)
        print(f"| {row.planner} | {row.version} | {row.records} | {figures} |")
    for row in rows:
        if row.why_not:
            print(f"\n{row.planner} could not express {row.not_expressed}:")
            print("\n".join(f"  {why[:150]}" for why in row.why_not))
    for peer, why in skipped.items():
        print(f"\n{peer} {PEERS[peer]}: skipped, {why}")


if __name__ == "__main__":
    main()
