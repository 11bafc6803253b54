"""Write ``memory/weights/architectures/shapes.jsonl`` from what vLLM's own classes register.

    python tools/make_weights.py ARCHITECTURE ...

Needs vLLM 0.33, no GPU. For each architecture vLLM builds its class without storage for random
variants of a config, every width and every presence is solved as an expression over the config's
keys, and the planner's own interpreter must give vLLM's bytes for variants that were not used,
at TP 1, 2, over two pipeline stages and quantised. Flags with which it does not are refused by
name; with ``WEIGHTS_CACHE`` set to a folder, builds are kept there. Architectures that do not come
out are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import weights_bases  # noqa: E402
import weights_line  # noqa: E402
import weights_sample as sampling  # noqa: E402
from weights_line import Sample, Unsolved  # noqa: E402
from weights_read import Builder, NotBuiltError, enter  # noqa: E402
from weights_verify import FP8, Left, needed, sample, sample_at, verify  # noqa: E402

from vllm_kv_planner.errors import PlannerError  # noqa: E402
from vllm_kv_planner.memory.weights.architectures import shapes, table  # noqa: E402

FIT, HELD_OUT, TRIES = 9, 3, 40


def samples(
    builder: Builder, base: Mapping[str, Any], keys: list[str], wanted: int, random: Random
) -> list[Sample]:
    """That many variants which vLLM builds; fewer where it refuses most."""
    made: list[Sample] = []
    share, tries = 0.5, 0
    seen: set[str] = set()
    while len(made) < wanted and tries < TRIES and (made or tries < 25):
        tries += 1
        config = sampling.variant(base, keys, random, share)
        text = json.dumps(config, sort_keys=True)
        if text in seen:
            continue
        seen.add(text)
        try:
            made.append(sample(builder, config))
            share = min(0.6, share + 0.1)
        except (NotBuiltError, PlannerError) as error:
            share = max(0.08, share * 0.7)
            last = error
    if not made:
        raise Left(f"no variant is built: {last}")
    return made


def learn(
    builder: Builder, architecture: str, base: Mapping[str, Any], known: Mapping[str, Any] | None
) -> tuple[Any, list[Any]]:
    """The line of an architecture, and records for the test.

    ``known``: a line whose rows are kept; what becomes of its towers is asked anew.

    Raises:
        Left: It does not come out.
    """
    random = Random(architecture)
    small = sampling.shallow(base)
    try:
        first = sample(builder, small)
    except (NotBuiltError, PlannerError) as error:
        raise Left(f"base: {error}") from None
    keys = weights_line.varied(small, first)
    if known is not None:
        line = {k: v for k, v in known.items() if k not in ("unverified", "encoder_tp", "towers")}
        if first.built["towers"] and "like" not in line:
            line["towers"] = first.built["towers"]
        held, matter = swept(builder, first, keys, random)
        if matter:
            raise Left(f"nobody varied {', '.join(matter)}"[:200])
        return line, verify(builder, line, [first, *held], [])
    beside, unseen = swept(builder, first, keys, random)
    keys += unseen
    found = [first, *samples(builder, small, keys, FIT, random)]
    found += alone(builder, small, keys, found, random)
    args = {"tensor_parallel_size": 2}
    halves = [(s, sample_at(builder, s.config, **args)) for s in (first, found[-1])]
    halves = [(s, half) for s, half in halves if half is not None]
    stages: list[Any] = []
    if first.model.supports_pp:
        for s in (first,):
            stages.append(
                (
                    s,
                    *(
                        sample_at(builder, s.config, rank=r, pipeline_parallel_size=2)
                        for r in (0, 1)
                    ),
                )
            )
        stages = [each for each in stages if None not in each]
    held = [*samples(builder, small, keys, HELD_OUT, random), *beside]
    for other in weights_line.kin(architecture):
        twin = {"id": architecture, "like": other}
        try:
            return twin, verify(builder, twin, [first, *found[-1:], *held], found[1:-1])
        except Left as why:
            print(f"  not as {other}: {why}"[:300], file=sys.stderr)
    quantised = sample_at(builder, {**small, "quantization_config": FP8})
    why: Exception = Left("nothing is known of it")
    for is_flat in (False, True):
        try:
            line = weights_line.line(
                architecture, found, halves, stages, quantised, beside, is_flat=is_flat
            )
            if os.environ.get("WEIGHTS_DEBUG"):
                print(json.dumps(line), file=sys.stderr)
            records = verify(builder, line, [first, *held], found[:3])
        except (Left, Unsolved) as error:
            why = error
            print(f"  {'flat' if is_flat else 'whole'}: {error}"[:900], file=sys.stderr)
            if "text" not in (weights_line.registry.row(architecture) or {}):
                break
            continue
        needed(builder, line, small)
        return line, records
    raise why


def alone(
    builder: Builder,
    base: Mapping[str, Any],
    keys: list[str],
    found: list[Sample],
    random: Random,
) -> list[Sample]:
    """Each switch changed by itself, and whatever no sample has changed yet."""
    made: list[Sample] = []
    for key in keys:
        value = sampling.get(base, key)
        is_switch = isinstance(value, bool) or value is None
        if not is_switch and any(sampling.get(s.config, key) != value for s in (*found, *made)):
            continue
        for _ in range(1 if is_switch else 6):
            config = json.loads(json.dumps(base))
            sampling.change(config, key, random)
            one = sample_at(builder, config) if config != base else None
            if one is not None:
                made.append(one)
                break
    return made


def swept(
    builder: Builder, first: Sample, keys: list[str], random: Random
) -> tuple[list[Sample], list[str]]:
    """Samples in which what vLLM was not seen to read is changed, and keys that matter after all.

    All at once; of what vLLM refuses so, each half by itself, down to single keys.
    """
    groups = [sampling.unread(first.config, keys)]
    made: list[Sample] = []
    matter: list[str] = []
    for _ in range(12):
        group = groups.pop(0) if groups else []
        config = json.loads(json.dumps(first.config))
        for path in group:
            sampling.change(config, path, random)
        if config == first.config:
            continue
        one = sample_at(builder, config)
        if one is None:
            halves = group[: len(group) // 2], group[len(group) // 2 :]
            groups += [half for half in halves if half and half != group]
        elif one.built["tensors"] == first.built["tensors"]:
            made.append(one)
        else:
            matter += group
    return made, matter


def main() -> int:
    """Learn, verify, write."""
    parser = argparse.ArgumentParser(description="Weights of architectures, from vLLM's classes.")
    parser.add_argument("architectures", nargs="+")
    parser.add_argument(
        "--keep", action="store_true", help="keep the rows that are there; ask about towers anew"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(shapes.__file__).with_name("shapes.jsonl")
    )
    parser.add_argument("--records", type=Path, default=Path("tests/data/vllm_0_33_weights.jsonl"))
    given = parser.parse_args()
    enter()
    builder = Builder()
    builder.start()
    left = 0
    for architecture in given.architectures:
        started = time.monotonic()
        dict.pop(table(), architecture, None)  # the line stands in for a row, not beside it
        try:
            base = weights_bases.base(architecture, weights_line.kin(architecture))
            if base is None:
                raise Left("no config is known")
            known = shapes.line(architecture) if given.keep else None
            line, records = learn(builder, architecture, base, known)
        except (Left, Unsolved) as why:
            left += 1
            print(f"left out {architecture}: {why}"[:600], flush=True)
            continue
        except Exception as error:
            import traceback

            traceback.print_exc()
            print(f"left out {architecture}: {type(error).__name__} {error}"[:400], flush=True)
            continue
        weights_line.write(given.output, architecture, line)
        weights_line.write(
            given.records,
            architecture,
            weights_line.recorded(architecture, records),
        )
        print(
            f"{architecture}: {len(line.get('rows', ()))} rows, {len(json.dumps(line)):,} bytes, "
            f"{len(records)} verified, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    builder.close()
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
