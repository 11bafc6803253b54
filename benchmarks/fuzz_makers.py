"""Good inputs, spoilt: what ``fuzz_inputs.py`` feeds the commands. The same for the same seed."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

from benchmarks.fuzz_configs import VALUES
from tests.start_logs import CPU, LLAMA, REFUSED, V019, V029, V066
from tests.trace_files import AZURE, BAILIAN, BURSTGPT, COLUMNS, MOONCAKE, turns

REPEATS = 20_000
"""How often a part is repeated, at most, and bytes that an input may have."""
LARGEST = 200_000

CONFIG = {
    "architectures": ["ApertusForCausalLM"],  # has no rule of weights: the checkpoint is read
    "model_type": "apertus",
    **{"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "vocab_size": 100, "intermediate_size": 128},
    "max_position_embeddings": 128,
}
WITH_RULE = {**CONFIG, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
FIELDS = ("dtype", "shape", "data_offsets")
WORDS = {
    "any": b"\0|\xff|\xc3\xa9|\n|\r\n|\t| |\"|'|\\|{|}|[|]|,|:|0|-1|1e999|NaN|" + b"9" * 400,
    "logs": b"args: |with config: |Namespace(|version |GiB|GPU KV cache size: |NVIDIA |\x1b[31m|"
    b"\x1b]0;|Available KV cache memory: |API server version |(EngineCore pid=1) |=|(|)|\r|<|>"
    b"|\nINFO vLLM API server version 0.19.0\n|device_name=NVIDIA_L4|NVIDIA H200|cpu_worker.py:1"
    b"|'api_key': 'sk-aMarkerThatMustNotAppear'|\xe2\x80\xae|\xc2\xa0|Model loading took 0.01 GiB",
    "traces": b'"timestamp": |"hash_ids": |"prompt_tokens": 1|2023-11-16 18:15:46|[1, 2]|\x1f\x8b'
    b'|"conversations": [|"value": "|"from": "gpt"|PAR1|\x00asm|1e308|-0|"chat_id": 159|,,,,',
    "yaml": b"&a |*a|<<: *a|!!int |!!binary |!!timestamp |- |? |---|...|%YAML 1.1|!x |? |# |>|"
    b"model: |setups:|tp: [1, 2]|1:1:1|!!python/object/apply:os.getcwd []|!!set {|!!omap [|!!pairs "
    b"|<<: [*a, *a]|<<: {<<: *a}|!!float |!!null |!!bool |!!merge |0x|0b1_0"
    b"|.inf|2001-99-99|\xc2\x85",
    "headers": b'{"a": |"__metadata__": {|"dtype": |"shape": [|"data_offsets": [0, 1]|"BF16"|{}|[]'
    b'|"weight_map": {|"metadata": |model.safetensors|..|\\u0000|\\ud800|"model.layers.1.w": {',
    "stores": b'"lessons": [|"schema_version": 1|"engine": {|{}|[]|null|\\u001b[31m|\\u00a0|1e308'
    b"|-0.0|true|NaN|Infinity|1" + b"0" * 400,
    "hub": b"HTTP/1.1 200 OK\r\n|HTTP/1.1 100 Continue\r\n\r\n|Content-Length: 5\r\n"
    b"|Location: /\r\n|Location: file:///etc/x\r\n|Transfer-Encoding: chunked\r\n|\r\n\r\n"
    b"|ffffffff\r\n|0\r\n|-1\r\n|X-Error-Code: EntryNotFound\r\n|X-Repo-Commit: x\r\n"
    b"|404|307|416|206|Content-Encoding: gzip\r\n",
}
START_RECORD = {
    **{"device": "H100-SXM-80GB", "vllm_version": "0.19.0", "model": LLAMA},
    **{"weights_key": f"{LLAMA} bfloat16", "attention_backend": "FLASH_ATTN"},
    **{"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "activation_key": None},
    **{"activation_bytes": 2029372047, "total_bytes": 85029615043, "outside_bytes": 268435456},
    **{"taken_at_start_bytes": 547608331, "weights_bytes": 16095389942},
    **{"outside_spread_bytes": 11811160, "graph_estimate_bytes": 805306368},
    **{"graph_predicted_bytes": 897579264, "source": "a.log", "learned": "2026-11-30"},
}
"""What ``calibrate`` makes of ``V019``."""
NUMBERS = b"0|-1|-0|0.01|1|7|79.65|1e3|1e30|-5.5|100000|99999999999999|2147483648|1" + b"0" * 60
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")

Make = Callable[[random.Random], bytes]


def spoilt(raw: bytes, kind: str, chance: random.Random) -> bytes:
    """``raw`` after one to six changes."""
    words = WORDS["any"].split(b"|") + WORDS[kind].split(b"|") * 2
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        raw = _CHANGES[chance.randrange(len(_CHANGES))](raw, words, chance)[:LARGEST]
    return raw


def _place(raw: bytes, chance: random.Random) -> tuple[int, int]:
    at = chance.randint(0, len(raw))
    return at, min(len(raw), at + chance.choice((1, 3, 20, 200)))


def _without(raw: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at, end = _place(raw, chance)
    return raw[:at] + raw[end:]


def _with_word(raw: bytes, words: Sequence[bytes], chance: random.Random) -> bytes:
    at, end = _place(raw, chance)
    return raw[:at] + chance.choice(words) + raw[chance.choice((at, end)) :]


def _repeated(raw: bytes, words: Sequence[bytes], chance: random.Random) -> bytes:
    at, end = _place(raw, chance)
    part = chance.choice((raw[at:end], chance.choice(words)))
    return raw[:at] + part * chance.choice((2, 30, REPEATS)) + raw[end:]


def _other_bytes(raw: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at, end = _place(raw, chance)
    codes = chance.choice(((32, 126), (32, 126), (0, 255)))
    return raw[:at] + bytes(chance.randint(*codes) for _ in range(end - at)) + raw[end:]


def _cut(raw: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    return raw[: chance.choice((chance.randint(0, len(raw)), len(raw)))]


def _other_numbers(raw: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Some numbers replaced, where they stand."""
    share = chance.choice((0.02, 0.2, 1))
    numbers = NUMBERS.split(b"|")
    return _NUMBER.sub(
        lambda found: chance.choice(numbers) if chance.random() < share else found[0], raw
    )


def _line_elsewhere(raw: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A line moved, or doubled, to another place."""
    lines = raw.split(b"\n")
    line = chance.choice(lines)
    if chance.random() < 0.5:
        lines.remove(line)
    lines.insert(chance.randint(0, len(lines)), line)
    return b"\n".join(lines)


_CHANGES = (
    *(_without, _with_word, _with_word, _repeated, _other_bytes, _cut),
    *(_other_numbers, _line_elsewhere),
)


def log(chance: random.Random) -> bytes:
    """A start-up log of some version, or two of them."""
    starts = chance.choices((V019, V029, V066, REFUSED, CPU), k=chance.choice((1, 1, 2)))
    text = spoilt("".join(starts).encode(), "logs", chance)
    return text if chance.random() < 0.95 else text.decode("utf-8", "replace").encode("utf-16")


def trace(chance: random.Random) -> bytes:
    """A trace of some format, sometimes compressed, sometimes to far less than it unpacks to."""
    talk = json.dumps([turns("Hello", "Good day", "And now?", "We go on")])
    plain = COLUMNS + "0,5,3\n1,7,2\n"
    text = spoilt(
        chance.choice((BURSTGPT, AZURE, MOONCAKE, BAILIAN, talk, plain)).encode(), "traces", chance
    )
    if chance.random() < 0.85:
        return text
    much = text if chance.random() < 0.8 else text + chance.choice((b"0", b" ", b"\n")) * (20 << 20)
    packed = gzip.compress(much, 1, mtime=0) * chance.choice((1, 1, 2))
    return packed if chance.random() < 0.5 else spoilt(packed, "traces", chance)


def yaml(chance: random.Random) -> bytes:
    """A sweep's file, or the flags of ``vllm serve --config``: see ``yaml_command``."""
    good = "model: gpt2\nmax_num_seqs: [1, 2]\nsetups:\n- {tp: 1, gpu: L4}\n- &a {tp: 2}\n"
    flags = f"model: {LLAMA}\nmax-model-len: 1024\nspeculative-config:\n  method: ngram\n"
    return spoilt(chance.choice((good, flags, tangle(chance))).encode(), "yaml", chance)


def tangle(chance: random.Random) -> str:
    """Mappings that name and merge those before them, a few times or very often."""
    lines, width = ["a0: &a0 {tp: 1}"], chance.choice((1, 2, 9, 500))
    for i in range(1, chance.choice((2, 5, 60))):
        names = ", ".join(f"*a{chance.randrange(i)}" for _ in range(width))
        lines.append(f"a{i}: &a{i} {{{chance.choice(('<<', 'k'))}: [{names}], pp: {i}}}")
    return "\n".join(["model: gpt2", *lines]) + "\n"


def header(chance: random.Random) -> bytes:
    """A whole safetensors file of two layers; the length before a spoilt header is mostly right."""
    tensors: dict[str, dict[str, object]] = {
        f"model.layers.{i}.w": {
            "dtype": "BF16",
            "shape": [2, 2],
            "data_offsets": [8 * i, 8 * i + 8],
        }
        for i in range(2)
    }
    if chance.random() < 0.5:
        chance.choice(list(tensors.values()))[chance.choice(FIELDS)] = chance.choice(VALUES)
    raw = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    raw = spoilt(raw, "headers", chance) if chance.random() < 0.7 else raw
    length = len(raw) if chance.random() < 0.9 else chance.choice((0, 1, len(raw) + 1, 2**63))
    return length.to_bytes(8, "little") + raw + bytes(chance.choice((16, 16, 16, 15)))


def store(chance: random.Random) -> bytes:
    """A calibration file, its values replaced or its text spoilt."""
    record = json.loads(json.dumps(START_RECORD))
    if chance.random() < 0.5:
        for _ in range(chance.choice((1, 2, 5))):
            place = record
            while isinstance(place, dict) and place:
                key = chance.choice(list(place))
                if not isinstance(place[key], dict) or not place[key] or chance.random() < 0.3:
                    place[key] = deepcopy(chance.choice(VALUES))
                    break
                place = place[key]
    raw = json.dumps({"schema_version": 1, "lessons": [record] * chance.choice((1, 1, 3))}).encode()
    return spoilt(raw, "stores", chance) if chance.random() < 0.6 else raw


def answer(chance: random.Random) -> bytes:
    """What a hub sends when it is asked for a file, headers and all."""
    body = json.dumps(CONFIG).encode()
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(body), body),
        b"HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\nLocation: /org/n/resolve/main/config.json\r\n\r\n",
    )
    return spoilt(chance.choice(heads), "hub", chance)


def with_config(folder: Path, file: str, chance: random.Random) -> None:
    """A config beside a safetensors file, with a rule or without, and sometimes an index."""
    config = chance.choice((CONFIG, WITH_RULE))
    (folder / "config.json").write_text(json.dumps(config))
    if chance.random() < 0.3:
        names = dict.fromkeys(("model.layers.0.w", "model.layers.1.w"), file)
        index = json.dumps({"metadata": {"total_size": 16}, "weight_map": names}).encode()
        (folder / f"{file}.index.json").write_bytes(spoilt(index, "headers", chance))


def hub_files(chance: random.Random) -> dict[str, bytes]:
    """The files of a repository, by name: a config, mostly a checkpoint or an index of one."""
    files = {"config.json": json.dumps(chance.choice((CONFIG, WITH_RULE))).encode()}
    if chance.random() < 0.6:
        files["model.safetensors"] = header(chance)
    if chance.random() < 0.3:
        names = {f"model.layers.{i}.w": "model.safetensors" for i in range(2)}
        files["model.safetensors.index.json"] = json.dumps({"weight_map": names}).encode()
    if chance.random() < 0.2:
        files["hf_quant_config.json"] = b'{"quantization": {"quant_algo": "FP8"}}'
    return files
