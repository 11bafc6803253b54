#!/usr/bin/env python3
"""Spoilt configs for the stand-alone planner, and contradictory ones for both planners.

python benchmarks/fuzz_configs.py [--inputs 20000] [--seed N]
python benchmarks/fuzz_configs.py --vllm-python PYTHON [--inputs 400] [--seed N] [--output FILE]

The first spoils bundled configs in any way (types, nulls, signs, sizes, nesting, lists, keys) and
holds every answer against what is promised: a plan without a negative figure, or one clear line,
within a bounded number of calls. The second asks both planners about configs whose values have the
right type and contradict each other (``contradictions.py``), on one layer stack cut short so that
vLLM answers soon, and prints who refuses. Both are the same for the same seed. Exit code 1: a
finding, or a contradiction that only one planner refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contradictions import contradictions, known_kind
from vllm_kv_planner import PlannerError, VLLMPlanner, plan
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.config.presets import find_preset, known_names
from vllm_kv_planner.files.json_file import parse_config
from vllm_kv_planner.model.architectures.registry import model_types, table
from vllm_kv_planner.model.defaults import defaults_for

Json = dict[str, Any]

CALLS = 4_000_000
"""Function calls, Python's and C's, that one answer may take.

A published config takes 13,000 where it fits; where it does not, some twenty changes are planned
again, their weights too: 1.6 million for the largest, DeepSeek-V4-Pro.
"""
GIB = 1 << 30
MEMORY = 4 * GIB
VLLM_MEMORY = 12 * GIB
"""Bytes of addresses; vLLM's process has 6 GiB of them before it plans. A table of angles that
does not fit is a refusal of vLLM's."""
FLAGS: tuple[Json, ...] = (
    {"kv_cache_memory_bytes": 20 * GIB},
    {"kv_cache_memory_bytes": 20 * GIB, "tensor_parallel_size": 8},
    {"kv_cache_memory_bytes": 20 * GIB, "kv_cache_dtype": "fp8"},
    {"kv_cache_memory_bytes": 20 * GIB, "max_model_len": -1},
    {"kv_cache_memory_bytes": 20 * GIB, "pipeline_parallel_size": 2},
    {},
    {"tensor_parallel_size": 4, "max_model_len": 1024},
    {"tensor_parallel_size": 2, "enable_expert_parallel": True},
    {"kv_cache_memory_bytes": 20 * GIB, "speculative_config": {"method": "mtp"}},
)
BLENDED = 0.3
"""Share of the configs that have something of another model's."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 7, -1, -128, 127, 4096, 10_000, 10**6, 10**9, 2**31, 2**63),
    *(10**30, -(10**30), 0.5, 1.5, -0.0, 64.0, 1e-300, 1e300, float("nan"), float("inf")),
    *("", "abc", "8", "auto", "\x1b[31m", "\ud800", "a\nb", "\u202e", "x" * 5000),
    *([], {}, [[]], [{}], [None], [1, 2], [[1, [2]]], ["a"], [0.5], {"a": {}}, {"1": [1]}),
)


def presets() -> list[Json]:
    """Every bundled config."""
    found = (find_preset(name) for name in known_names())
    return [deepcopy(dict(preset.config)) for preset in found if preset is not None]


def from_defaults() -> list[Json]:
    """A config for each type whose class's defaults and base architecture are known."""
    return [
        {"model_type": kind, "architectures": [base], **deepcopy(dict(defaults_for(kind)))}
        for kind, base in sorted(model_types()["base"].items())
        if defaults_for(kind)
    ]


def known_keys(configs: list[Json]) -> list[str]:
    """Keys of the configs and of their classes' defaults, at any depth."""
    keys: set[str] = set()
    todo: list[Any] = list(configs)
    todo += [defaults_for(str(config.get("model_type"))) for config in configs]
    while todo:
        value = todo.pop()
        if isinstance(value, Mapping):
            keys.update(key for key in value if not key.startswith("model."))
            todo += value.values()
    return sorted(keys)


def places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Each holder in a config and a key or index of it; of long lists only the ends."""
    if depth > 6:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from places(inner, depth + 1)
    elif isinstance(value, list):
        for index in {0, len(value) // 2, len(value) - 1} if value else ():
            yield value, index
            yield from places(value[index], depth + 1)


def other_value(value: Any, chance: random.Random) -> Any:
    """Something in place of ``value``: anything, or close to it."""
    near: list[Any] = [[value], {"value": value}, str(value)[:100]]
    if isinstance(value, bool):
        near += [int(value), not value]
    elif isinstance(value, (int, float)):
        near += [-value, value + 1, value - 1, value * 2, value / 3, value * 1000, float(value)]
    elif isinstance(value, list):
        near += [value[:-1], value + value[-1:], value[:1], value * 2, value[::-1], len(value)]
    elif isinstance(value, dict):
        near += [dict(list(value.items())[1:]), list(value.values()), {}]
    elif isinstance(value, str):
        near += [value.upper(), value[:-1], "torch." + value, value * 2]
    return chance.choice(near) if chance.random() < 0.5 else some_value(chance)


def some_value(chance: random.Random) -> Any:
    """One of ``VALUES``, a copy."""
    return deepcopy(chance.choice(VALUES))


def spoil(config: Json, keys: list[str], chance: random.Random) -> None:
    """Change one to four things in place."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        here = list(places(config))
        if not here:
            return
        holder, key = chance.choice(here)
        way = chance.random()
        if way < 0.2:
            del holder[key]
        elif way < 0.35:
            objects = [config, *(h[k] for h, k in here if isinstance(h[k], dict))]
            chance.choice(objects)[chance.choice(keys)] = some_value(chance)
        elif way < 0.4 and isinstance(holder, dict):
            holder[chance.choice(keys)] = holder.pop(key)
        else:
            holder[key] = other_value(holder[key], chance)


def blend(config: Json, other: Json, chance: random.Random) -> None:
    """Make the config say in one way or another that it is of another architecture, in place."""
    way = chance.random()
    if way < 0.4:
        config["architectures"] = [chance.choice(sorted(table()))]
    elif way < 0.6:
        config["model_type"] = other.get("model_type")
    elif way < 0.8:
        config.update({key: value for key, value in other.items() if key not in config})
    else:
        objects = [key for key, value in other.items() if isinstance(value, dict)]
        if objects:
            key = chance.choice(objects)
            config[key] = other[key]
    if chance.random() < 0.5:  # whose class comes as code is not asked which type it is
        config["auto_map"] = {"AutoConfig": "configuration.Own"}


class TooMuchWork(BaseException):
    """More calls than an answer may take."""


def counted(answer: Callable[[], object], most: int = CALLS) -> tuple[object, int]:
    """What ``answer`` returns, and how many calls that took.

    Raises:
        TooMuchWork: More than ``most``; stopped there.
    """
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls > most:
                sys.setprofile(None)
                raise TooMuchWork(f"more than {most:,} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        value = answer()
    finally:
        sys.setprofile(before)
    return value, calls


SIGNED = ("plan.memory.available_kv_cache_bytes", "plan.headroom.left_bytes")
"""The first as vLLM says it, -12.3 GiB; the second where an engine may start or not."""


def negative(value: Any, where: str = "plan") -> str | None:
    """The first figure of a plan below zero or not finite."""
    if isinstance(value, Mapping):
        inner = ((f"{where}.{key}", one) for key, one in value.items())
    elif isinstance(value, (list, tuple)):
        inner = ((f"{where}[{index}]", one) for index, one in enumerate(value))
    else:
        signed = where in SIGNED
        least = float("-inf") if signed else 0
        wrong = isinstance(value, (int, float)) and not least <= value < float("inf")
        return f"{where} = {value}" if wrong else None
    return next(filter(None, (negative(one, name) for name, one in inner)), None)


def broken_promise(config: Json, flags: Json) -> str | None:
    """What is wrong with the answer to one config, in a line; None: nothing."""

    def answer() -> Json | str:
        try:
            parsed = parse_config(json.dumps(config).encode(), "config.json")
            found = FoundConfig(id="some/model", config=parsed, source="config.json")
            return plan(found, gpu="H100", planner="standalone", **flags).to_dict()
        except PlannerError as error:
            return str(error)

    try:
        told, _ = counted(answer)
    except TooMuchWork as error:
        return f"too much work: {innermost(error)}"
    except Exception as error:
        return f"{type(error).__name__}: {innermost(error)}"
    if isinstance(told, str):
        clear = 10 < len(told) < 1000 and told.isprintable()
        return None if clear else f"no clear line: {told[:300]!r}"
    figure = negative(told)
    return None if figure is None else f"impossible figure: {figure}"


def innermost(error: BaseException) -> str:
    """Where it happened, in the planner's own code, and what."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "vllm_kv_planner" in f.filename
    ]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}: {str(error)[:100]}"


def findings(inputs: int, seed: int) -> Iterator[tuple[int, str, Json, Json]]:
    """Number, what is wrong, config and flags of each finding."""
    configs = [*presets(), *from_defaults()]
    keys = known_keys(configs)
    texts = [json.dumps(config) for config in configs]
    for number in range(inputs):
        chance = random.Random(f"{seed} {number}")
        config = json.loads(chance.choice(texts))
        if chance.random() < BLENDED:
            blend(config, json.loads(chance.choice(texts)), chance)
        if chance.random() < 0.9:
            spoil(config, keys, chance)
        flags = chance.choice(FLAGS)
        wrong = broken_promise(config, flags)
        if wrong is not None:
            yield number, wrong, config, flags


def alone(inputs: int, seed: int) -> int:
    """Print every kind of finding once, with its number and config."""
    kinds: Counter[str] = Counter()
    for number, wrong, config, flags in findings(inputs, seed):
        kind = wrong.split(": ")[0] + wrong.split(": ")[1].split(" ")[0]
        kinds[kind] += 1
        if kinds[kind] == 1:
            print(f"input {number}: {wrong}\n  {json.dumps(flags)} {json.dumps(config)[:1500]}")
    print(f"{inputs:,} inputs, seed {seed}: {kinds.total()} findings of {len(kinds)} kinds")
    for kind, count in kinds.most_common():
        print(f"  {count:>6} {kind}")
    return 1 if kinds else 0


def asked(ask: Callable[[], Any]) -> str:
    """The blocks, and whether the model's length fits them (vLLM's own check); or the refusal."""
    try:
        answer = ask()
        fits = (answer.kv_cache.max_model_len_that_fits or 0) >= answer.engine.max_model_len
        blocks = f"{answer.kv_cache.num_gpu_blocks} of {answer.kv_cache.bytes_per_block} bytes"
        return f"{blocks}, {'fits' if fits else 'does not fit'}"
    except PlannerError as error:
        return f"refused: {str(error)[:400]}"


def compare(python: str, inputs: int, seed: int, output: Path | None) -> int:
    """Ask both planners, print who refuses."""
    done: dict[str, Json] = {}
    if output is not None and output.exists():
        rows = map(json.loads, output.read_text(encoding="utf-8").splitlines())
        done = {row["id"]: row for row in rows}
    cases = list(contradictions(presets()))
    random.Random(seed).shuffle(cases)
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for case in cases:  # every change once, then every change on a second config, ...
        seen[case.what] += 1
        turns.append((seen[case.what], len(turns)))
    cases = [cases[index] for _, index in sorted(turns)]
    usable: dict[str, bool] = {}
    flags: Json = {"kv_cache_memory_bytes": 40 * GIB, "gpu": "H100"}
    counts: Counter[str] = Counter()
    with VLLMPlanner(python=python) as vllm:

        def theirs(config: Json) -> str:
            found = FoundConfig(id="some/model", config=config, source="config.json")
            return asked(lambda: vllm.plan(found, **flags))

        for case in cases[:inputs]:
            base, name, config = case.base, case.name, case.changed()
            if config is None:
                continue
            label = f"{base['architectures'][0]} {name}"
            if label not in done:
                key = json.dumps(base)
                if key not in usable:
                    usable[key] = not theirs(base).startswith("refused")
                    if not usable[key]:
                        print(f"{base['architectures'][0]}: vLLM refuses it as it is", flush=True)
                if not usable[key]:
                    continue
                found = FoundConfig(id="some/model", config=config, source="config.json")
                ours = asked(lambda: plan(found, planner="standalone", **flags))  # noqa: B023
                done[label] = {"id": label, "ours": ours, "vllm": theirs(config)}
                if output is not None:
                    with output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[label]) + "\n")
            row = done[label]
            who = [side for side in ("ours", "vllm") if row[side].startswith("refused")]
            kind = known_kind(row["ours"]) if who == ["ours"] else None
            counts[kind or " and ".join(who) or "neither"] += 1
            if kind is not None:
                continue
            if not who and row["ours"] != row["vllm"]:
                counts["different"] += 1
            if len(who) == 1 or (not who and row["ours"] != row["vllm"]):
                print(json.dumps(row), flush=True)
    print(f"seed {seed}: who refuses: {dict(counts)}")
    return 1 if counts["ours"] or counts["vllm"] or counts["different"] else 0


def bound_memory(most: int) -> None:
    """No more bytes of addresses than ``most`` for this process and each that it starts."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    """Read the flags, run."""
    parser = argparse.ArgumentParser(description="Spoil configs; see who minds.")
    parser.add_argument("--inputs", type=int, help="20,000 alone, 400 with vLLM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm-python", help="ask the vLLM of this interpreter too")
    parser.add_argument("--output", type=Path, help="JSON lines of answers; read first, added to")
    given = parser.parse_args()
    bound_memory(VLLM_MEMORY if given.vllm_python else MEMORY)
    if given.vllm_python:
        return compare(given.vllm_python, given.inputs or 400, given.seed, given.output)
    return alone(given.inputs or 20_000, given.seed)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
