#!/usr/bin/env bash
# transformers 5.3.0: a Qwen2 config that does not state num_key_value_heads has 32 KV heads, whatever
# its num_attention_heads. Llama's has as many as attention heads. A model of 28 heads written without
# the key would be given a KV cache of 32.
# Seen: Qwen2 28 -> 32, Llama 28 -> 28
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet transformers==5.3.0
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from transformers import LlamaConfig, Qwen2Config

heads = {"num_attention_heads": 28, "hidden_size": 3584}
seen = Qwen2Config(**heads).num_key_value_heads, LlamaConfig(**heads).num_key_value_heads
print("Qwen2 28 -> %d, Llama 28 -> %d" % seen)
assert seen == (32, 28), seen
PYTHON
