"""Write ``vllm_kv_planner/config/presets.jsonl`` anew from a folder of published configs.

    python tools/make_presets.py ../shared/configs

The folder holds one JSON file a model, ``hf_quant_config.json`` beside it where the repository
has one, and an INDEX.tsv (hf_id, file, architectures, model_type, certainty). Lines of models
that are not in that folder were entered by hand; they are kept as they are, and so are the
aliases on the first line.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
PRESETS = REPOSITORY / "vllm_kv_planner" / "model" / "presets.jsonl"

# What no size, layer or cache decision can depend on.
DROPPED = re.compile(
    r"""_name_or_path | _attn_.* | _from_model_config | auto_map | .*dropout.*
    | .*_pdrop | .*layerdrop | id2label | label2id | _num_labels
    | init_(std|device|config|method.*) | .*initializer.* | emb_init.*
    | transformers_version | transformers.js_config
    | use_cache | cache_implementation | tokenizer.* | task_specific_params | .*aux_loss.*
    | (bos|eos|pad|sep|unk|boi|eoi|boa|eoa|cls|mask)_token_(id|index) | begin_suppress_tokens
    | (decoder_start|forced_bos|forced_eos)_token_id | forced_decoder_ids | suppress_tokens
    | bad_words_ids | (min|max)_length | num_(beams|beam_groups|return_sequences) | typical_p
    | (encoder_)?no_repeat_ngram_size | (diversity|length|repetition)_penalty | temperature
    | top_[kp] | do_sample | early_stopping | exponential_decay_length_penalty | prefix
    | output_(attentions|hidden_states|scores) | return_dict(_in_generate)? | remove_invalid_values
    | finetuning_task | problem_type | tf_legacy_loss | torchscript | use_bfloat16 | pruned_heads
    | gradient_checkpointing | mask_(feature|time)_.* | apply_spec_augment | classif.*
    | summary_.* | median_filter_width | chunk_size_feed_forward | router_jitter_noise
    | z_loss_weight | attn_implementation | use_flash_attn | flash_(attn|rotary) | fused_dense
    | verbose | onnx_safe | freeze_.* | unfreeze_.* | tune_.* | mm_use_.*
    | observer.* | damp_percent | model_(name_or_path|file_base_name) | ignore_index
    | processor_config | image_placeholder | video_placeholder""",
    re.VERBOSE,
)

_FP8 = {"dynamic": False, "num_bits": 8, "strategy": "channel", "symmetric": True, "type": "float"}
# Where the collected file is known to differ from the published one: INDEX.tsv says so, or it
# lacks the quantisation that its name promises.
CORRECTED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-32B-Instruct": {"max_position_embeddings": 32768},
    "google/gemma-3-12b-it": {"text_config": {"max_position_embeddings": 131072}},
    # tied, it would have 1.5 billion parameters
    "Qwen/Qwen1.5-1.8B-Chat": {"max_position_embeddings": 32768, "tie_word_embeddings": False},
    "zai-org/GLM-4.7-FP8": {
        "num_nextn_predict_layers": 1,
        "quantization_config": {
            "config_groups": {
                "group_0": {
                    "input_activations": {**_FP8, "dynamic": True, "strategy": "token"},
                    "targets": ["Linear"],
                    "weights": _FP8,
                }
            },
            "format": "float-quantized",
            "ignore": ["lm_head"],
            "quant_method": "compressed-tensors",
        },
    },
}
# Side files that were not collected, as a sibling's has it.
SIDE_FILES: dict[str, dict[str, Any]] = {
    "nvidia/Qwen3-30B-A3B-NVFP4": {
        "producer": {"name": "modelopt"},
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "group_size": 16,
            "exclude_modules": [*(f"model.layers.{i}.mlp.gate" for i in range(48)), "lm_head"],
        },
    },
}
# Entered by hand all the same: the collected file names an architecture that no vLLM has.
BY_HAND = {"MiniMaxAI/MiniMax-M3"}
# Confirmed once more, beyond INDEX.tsv: by the defaults of transformers' GPT2Config.
CONFIRMED = {"openai-community/gpt2"}
SIDE_FILE = "hf_quant_config.json"

LONG = 400  # characters of JSON from which module names are written as patterns


def main() -> None:
    """Rewrite the lines of the models in the folder, keep the others, sort all."""
    folder = Path(sys.argv[1])
    old = (
        [json.loads(line) for line in PRESETS.read_text().splitlines()] if PRESETS.exists() else []
    )
    head = old[0] if old else {"format": 1, "aliases": {}, "spellings": {}, "owners": {}}
    presets = {line["id"]: {"id": line["id"], "certainty": "derived", **line} for line in old[1:]}
    with open(folder / "INDEX.tsv", newline="") as index:
        for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["hf_id"] not in BY_HAND:
                presets[row["hf_id"]] = preset(folder, row)
    lines: list[dict[str, Any]] = [{**head, "aliases": dict(sorted(head["aliases"].items()))}]
    lines += sorted(presets.values(), key=lambda preset: preset["id"].lower())
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    PRESETS.write_text(text)
    print(f"{len(presets)} presets, {len(text):,} bytes")


def preset(folder: Path, row: dict[str, str]) -> dict[str, Any]:
    """The line of one collected model: its certainty, config and side file."""
    name, said = row["hf_id"], row["certainty"]
    config = compact(json.loads((folder / row["file"]).read_text()))
    source = f"config.json of {name} on the Hub, as collected: {said.split(' | ')[0]}"
    source = re.sub(r"(verified by 2 sources[^:]*|copies identical):.*", r"\1", source)
    certainty = "derived" if said.startswith(("derived", "corrected")) else "one"
    if "(byte-equal JSON)" in said or "copies identical" in said or name in CONFIRMED:
        certainty = "confirmed"
    elif "verified by 2 sources" in said:
        certainty = "agreed"
    corrected = correct(config, CORRECTED.get(name, {}))
    side = folder / row["file"].replace(".json", f".{SIDE_FILE}")
    stated = json.loads(side.read_text()) if side.exists() else SIDE_FILES.get(name)
    if name in SIDE_FILES:
        corrected.append(f"{SIDE_FILE} as its sibling's")
    elif stated and "producer" not in stated:  # vLLM would take the weights for unquantised
        stated["producer"] = {"name": "modelopt"}
        corrected.append(f"producer in {SIDE_FILE}, a reduced copy without excluded modules")
    if corrected:
        certainty = "derived"
        source += f"; corrected: {', '.join(corrected)}"
    made: dict[str, Any] = {"id": name, "certainty": certainty, "source": source, "config": config}
    if stated:
        made["files"] = {SIDE_FILE: compact(stated)}
    return made


def correct(config: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    """Put ``changes`` into ``config``, objects key by key; the names of the keys changed."""
    names = []
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            names += correct(config[key], value)
        else:
            config[key] = value
            names.append(key)
    return names


def compact(value: Any) -> Any:
    """``value`` without the keys that cannot matter, module names written as patterns."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not DROPPED.fullmatch(k)}
        if len(kept) > 8 and len(json.dumps(kept)) > LONG and any("." in key for key in kept):
            return {"$map": compact_map(kept)}
        return {key: compact(item) for key, item in kept.items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        is_long = len(json.dumps(value)) > LONG and not any(
            set("{},") & set(item) for item in value
        )
        if is_long and any(re.search(r"\.\d", item) for item in value):
            return {"$names": patterns(value)}
        return value
    if isinstance(value, list):
        return [compact(item) for item in value]
    return value


def compact_map(names: dict[str, Any]) -> list[list[Any]]:
    """Pairs of a name pattern and the value that all names of the pattern have."""
    by_value: dict[str, list[str]] = {}
    for name, item in names.items():
        by_value.setdefault(json.dumps(item, sort_keys=True), []).append(name)
    return [
        [pattern, compact(json.loads(item))]
        for item, group in by_value.items()
        for pattern in patterns(group)
    ]


def patterns(names: list[str]) -> list[str]:
    """Patterns that expand to exactly ``names`` (as a set): numbers from the right, then words."""
    split = [tuple(re.split(r"(?<=\.)(\d+)(?=\.|\*|$)", name)) for name in dict.fromkeys(names)]
    deepest = max(len(parts) for parts in split)
    for place in [*range(deepest - 2, 0, -2), -1]:
        groups: dict[tuple[Any, ...], list[str]] = {}
        for parts in split:
            index = len(parts) - 1 if place == -1 else place
            if place != -1 and place >= len(parts):
                key: tuple[Any, ...] = (*parts, None)
                groups[key] = []
                continue
            groups.setdefault((index, parts[:index], parts[index + 1 :]), []).append(parts[index])
        split = []
        for key, members in groups.items():
            if key[-1] is None:
                split.append(key[:-1])
                continue
            _, before, after = key
            joined = spans(members) if place != -1 else ",".join(members)
            one = len(members) == 1
            split.append((*before, members[0] if one else "{" + joined + "}", *after))
    return ["".join(parts) for parts in split]


def spans(numbers: list[str]) -> str:
    """``0-3,7`` for 0 1 2 3 7."""
    found: list[list[int]] = []
    for number in sorted(map(int, numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


if __name__ == "__main__":
    main()
