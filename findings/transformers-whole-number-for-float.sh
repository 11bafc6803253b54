#!/usr/bin/env bash
# transformers 5.20.2: a config.json whose rms_norm_eps is 1 is refused where 1.0 is taken, though JSON
# knows one kind of number and a file that JavaScript rewrites has 1 for 1.0. The same
# config's attention_dropout may be 0, because that field is declared as either. And null for
# is_encoder_decoder, which every class has, is refused by T5 and taken by Llama and BART.
# Seen: rms_norm_eps 1.0 taken, 1 refused; attention_dropout 0 taken; null refused by T5Config
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet transformers==5.20.2
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import json

from transformers import BartConfig, LlamaConfig, T5Config


def taken(kind, text):
    try:
        kind.from_dict(json.loads(text))
    except Exception as error:
        assert "expected" in str(error), error
        return "refused"
    return "taken"


seen = [taken(LlamaConfig, text) for text in ('{"rms_norm_eps": 1.0}', '{"rms_norm_eps": 1}', '{"attention_dropout": 0}')]
null = [kind.__name__ for kind in (T5Config, LlamaConfig, BartConfig) if taken(kind, '{"is_encoder_decoder": null}') == "refused"]
print(f"rms_norm_eps 1.0 {seen[0]}, 1 {seen[1]}; attention_dropout 0 {seen[2]}; null refused by {', '.join(null)}")
assert seen == ["taken", "refused", "taken"], seen
assert null == ["T5Config"], null
PYTHON
