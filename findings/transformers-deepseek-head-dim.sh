#!/usr/bin/env bash
# transformers 5.3.0: DeepseekV3Config has a head_dim, and it is neither the width of a query (192)
# nor that of a value (128) but the rotary part alone, qk_rope_head_dim. No layer keeps heads of that
# width in its KV cache.
# Seen: head_dim 64, query 192, value 128
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet transformers==5.3.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from transformers import DeepseekV3Config

config = DeepseekV3Config()
seen = config.head_dim, config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
print("head_dim %d, query %d, value %d" % seen)
assert seen == (64, 192, 128), seen
PYTHON
