#!/usr/bin/env python3
"""Our bytes of weights against vLLM's own, for published configs.

PYTHON tools/compare_weights.py [--each] [--tensor-parallel-size N ...]

Run by a Python that has vLLM 0.33; no GPU. The first published config of every architecture in
../shared/configs, or with ``--each`` all of them; as the checkpoint is quantised. vLLM builds its
class without storage, and counts parameters and buffers as they are before loading. Every
difference is listed; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from weights_read import Builder, NotBuiltError, enter  # noqa: E402

from vllm_kv_planner.engine_args.engine_args import EngineArgs  # noqa: E402
from vllm_kv_planner.engine_args.quantization import resolve_quantization  # noqa: E402
from vllm_kv_planner.errors import PlannerError  # noqa: E402
from vllm_kv_planner.memory.weights import weights_per_rank  # noqa: E402
from vllm_kv_planner.model.describe import describe  # noqa: E402


def ours(config: dict[str, Any], dtype: str, size: int) -> int:
    """The planner's bytes on one GPU of ``size``."""
    model = describe(config, where="config.json")
    method = resolve_quantization(None, config, architecture=model.architecture)
    args = EngineArgs(tensor_parallel_size=size)
    return weights_per_rank(model, args, dtype=dtype, method=method).num_bytes[0]


def main() -> int:
    """Build, compare, list."""
    parser = argparse.ArgumentParser(description="Weights against vLLM's own.")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--tensor-parallel-size", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    enter()
    builder = Builder()
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for path in sorted((ROOT.parent / "shared" / "configs").glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config.get("architectures") or [""]
        if path.name.endswith("hf_quant_config.json") or (names[0] in seen and not given.each):
            continue
        seen.add(names[0])
        for size in given.tensor_parallel_size:
            try:
                built = builder.build(config, tensor_parallel_size=size)
                mine: int | str = ours(config, built["dtype"], size)
            except (NotBuiltError, PlannerError) as error:
                counts["refused"] += 1
                print(f"{path.stem} TP {size}: {str(error)[:150]}", flush=True)
                continue
            counts["same" if mine == built["bytes"] else "different"] += 1
            if mine != built["bytes"]:
                print(f"{path.stem} TP {size}: {mine:,}, vLLM {built['bytes']:,}", flush=True)
    builder.close()
    print(dict(counts))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
