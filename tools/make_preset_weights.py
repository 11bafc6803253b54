"""Write ``tests/data/vllm_0_33_preset_weights.jsonl``: vLLM's own bytes of bundled models' weights.

    PYTHON tools/make_preset_weights.py tests/data/vllm_0_33_preset_weights.jsonl

Needs a Python that has vLLM 0.33, no GPU. One bundled config of every architecture and way of
quantising; vLLM builds its class without storage on both pipeline stages at TP 2, and counts
parameters and buffers before loading. What it does not build is left out, and said.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from weights_read import Builder, NotBuiltError, enter  # noqa: E402

from vllm_kv_planner.config.presets import find_preset  # noqa: E402

PRESETS = ROOT / "vllm_kv_planner" / "config" / "presets.jsonl"
FLAGS = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
LAST = 2
"""The first rank of the last stage."""


def kind(config: dict[str, Any]) -> tuple[str, ...]:
    """Architecture and quantisation: configs alike in it are built the same way."""
    quantized = config.get("quantization_config") or {}
    names = ("quant_method", "quant_algo", "bits", "format")
    return tuple(map(str, [config.get("architectures"), *map(quantized.get, names)]))


def main() -> int:
    """Build and write, line by line."""
    enter()
    builder = Builder()
    seen: set[tuple[str, ...]] = set()
    with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
        for line in PRESETS.read_text(encoding="utf-8").splitlines()[1:]:
            preset = json.loads(line)
            found = find_preset(preset["id"])
            config = dict(found.config) if found else {}
            if kind(config) in seen:
                continue
            seen.add(kind(config))
            try:
                built = [builder.build(config, rank=rank, **FLAGS) for rank in (0, LAST)]
            except NotBuiltError as error:
                print(f"{preset['id']}: {str(error)[:150]}", flush=True)
                continue
            row = {"id": preset["id"], "dtype": built[0]["dtype"]}
            file.write(json.dumps({**row, "bytes": [each["bytes"] for each in built]}) + "\n")
            file.flush()
    builder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
