#!/usr/bin/env bash
# transformers 5.3.0: a config read with rope_theta, rope_scaling and torch_dtype has none of the three
# afterwards, neither as an attribute nor when saved again: rope_theta moves into rope_parameters,
# rope_scaling becomes it, and the saved word is dtype. A reader of config.json has to know both ways.
# Seen: saved dtype, rope_parameters; rope_theta is no attribute
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet transformers==5.3.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from transformers import LlamaConfig

given = {"rope_theta": 500000.0, "torch_dtype": "bfloat16"}
config = LlamaConfig(**given, rope_scaling={"type": "linear", "factor": 4.0})
saved = sorted(key for key in config.to_dict() if "rope" in key or "dtype" in key)
print("saved", ", ".join(saved) + ";", "rope_theta is", "an" if hasattr(config, "rope_theta") else "no", "attribute")
assert saved == ["dtype", "rope_parameters"], saved
assert not hasattr(config, "rope_theta")
assert config.rope_parameters["rope_theta"] == 500000.0
PYTHON
