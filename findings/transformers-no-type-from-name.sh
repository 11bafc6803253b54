#!/usr/bin/env bash
# transformers 5.20.2: AutoConfig does not take the model type from the folder's name any more. A
# config.json without model_type in a folder called llama-2-7b is a Llama to transformers 4.57.1 and
# refused by 5.20.2, so configs that lost the key load or not by the version.
# Seen: 4.57.1 LlamaConfig; 5.20.2 ValueError "Unrecognized model"
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
mkdir "$folder/llama-2-7b"
printf '{"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4}' >"$folder/llama-2-7b/config.json"
for version in 4.57.1 5.20.2; do
    python3 -m venv "$folder/$version" && "$folder/$version/bin/pip" install --quiet "transformers==$version"
    (cd "$folder" && HF_HUB_OFFLINE=1 "$version/bin/python" - "$version" 2>/dev/null) <<'PYTHON'
import sys

from transformers import AutoConfig

try:
    seen = type(AutoConfig.from_pretrained("llama-2-7b")).__name__
except ValueError as error:
    seen = f'{type(error).__name__} "{str(error)[:18]}"'
print(sys.argv[1], seen)
assert seen == {"4.57.1": "LlamaConfig", "5.20.2": 'ValueError "Unrecognized model"'}[sys.argv[1]], seen
PYTHON
done
