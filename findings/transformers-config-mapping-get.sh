#!/usr/bin/env bash
# transformers 5.20.2: CONFIG_MAPPING is an OrderedDict that knows every model type by `in` and by [],
# and answers None to .get() for the same type: classes are loaded by __getitem__ alone, and .get()
# of a dict does not call it. Code that looks a type up by .get() takes every model for unknown.
# Seen: "llama" in CONFIG_MAPPING True, .get("llama") None, ["llama"] LlamaConfig
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet transformers==5.20.2
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from collections import OrderedDict

from transformers import CONFIG_MAPPING

assert isinstance(CONFIG_MAPPING, OrderedDict)
known, got, loaded = "llama" in CONFIG_MAPPING, CONFIG_MAPPING.get("llama"), CONFIG_MAPPING["llama"]
print(f'"llama" in CONFIG_MAPPING {known}, .get("llama") {got}, ["llama"] {loaded.__name__}')
assert (known, got, loaded.__name__) == (True, None, "LlamaConfig")
PYTHON
