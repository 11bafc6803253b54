"""Write ``tests/data/vllm_0_33_quantization_methods.json``: what vLLM's methods ask of a device.

    PYTHON tools/make_quantization_methods.py tests/data/vllm_0_33_quantization_methods.json

Needs a Python that has vLLM 0.33, no GPU. Of every method its class's minimum capability, dtypes
of activations and names of config files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, get_quantization_config


def main() -> int:
    """Ask every class and write."""
    rows = {}
    for method in sorted(QUANTIZATION_METHODS):
        config = get_quantization_config(method)
        dtypes = config.get_supported_act_dtypes
        # CompressedTensorsConfig's is no class method
        listed = dtypes() if hasattr(dtypes, "__self__") else dtypes(config)
        rows[method] = {
            "capability": config.get_min_capability(),
            "dtypes": sorted(str(dtype).removeprefix("torch.") for dtype in listed),
            "files": sorted(config.get_config_filenames()),
        }
    lines = (f"{json.dumps(method)}: {json.dumps(row)}" for method, row in rows.items())
    Path(sys.argv[1]).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
