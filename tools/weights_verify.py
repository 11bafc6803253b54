"""Whether the planner's bytes are vLLM's, for configs that no expression was fitted to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import weights_line
import weights_sample as sampling
from weights_line import Sample
from weights_read import Builder, NotBuiltError

from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.memory.weights import weights_per_rank
from vllm_kv_planner.model.describe import describe


class Left(Exception):
    """Why an architecture is left out."""


def sample(builder: Builder, config: Mapping[str, Any], **arguments: Any) -> Sample:
    """vLLM's rows for a config, beside the planner's description."""
    model = describe(config, where="config.json")
    if model.head_size % 2:
        raise NotBuiltError("no kernel takes an odd head size")
    return Sample(config, model, builder.build(config, **arguments))


def sample_at(builder: Builder, config: Mapping[str, Any], **arguments: Any) -> Sample | None:
    """As ``sample``; None where vLLM refuses."""
    try:
        return sample(builder, config, **arguments)
    except (NotBuiltError, PlannerError):
        return None


WAYS: tuple[Mapping[str, Any], ...] = (
    {},
    {"tensor_parallel_size": 2},
    {"pipeline_parallel_size": 2},
    {"quantization": "fp8"},  # as a checkpoint states it
)
MULTIMODAL_WAYS: tuple[Mapping[str, Any], ...] = (
    {"tensor_parallel_size": 2, "mm_encoder_tp_mode": "data"},
    {"language_model_only": True},
)


def multimodal_ways(each: Sample) -> list[Mapping[str, Any]]:
    """Flags that say what becomes of a model's towers."""
    if not each.model.is_multimodal:
        return []
    served = {tuple(modalities) for modalities in each.built["towers"].values()}
    none = [dict.fromkeys(modalities, 0) for modalities in sorted(served or {("image",)})]
    return [*MULTIMODAL_WAYS, *({"limit_mm_per_prompt": limits} for limits in none)]


MULTIMODAL = ("language_model_only", "limit_mm_per_prompt", "mm_encoder_tp_mode")
LEAST = 5
"""Cases that must have come out."""
REFUSED = ("quantization", *MULTIMODAL, "pipeline_parallel_size")
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
"""Flags that the planner refuses where they did not come out; all others must."""


def verify(
    builder: Builder,
    line: dict[str, Any],
    held: list[Sample],
    more: list[Sample],
) -> list[Any]:
    """Records of config, flags and vLLM's bytes of each stage, all the same as the planner's.

    Raises:
        Left: One is not.
    """
    weights_line.install(line)
    records: list[Any] = []
    for number, each in enumerate((*held, *more)):
        for way in (*WAYS, *multimodal_ways(each)) if number < 2 else WAYS[:1]:
            stages = way.get("pipeline_parallel_size", 1)
            if stages > 1 and not each.model.supports_pp:
                continue
            config, flags = each.config, dict(way)
            if flags.pop("quantization", None):
                config = {**config, "quantization_config": FP8}
            try:
                built = [each.built] if not way else []
                built = built or [builder.build(config, rank=r, **flags) for r in range(stages)]
            except NotBuiltError:
                for flag in set(REFUSED) & {*way}:
                    unverified(line, flag)
                continue
            wanted = [one["bytes"] for one in built]
            if came_out(line, each, way, wanted, built[0]):
                records.append({"config": config, "flags": flags, "bytes": wanted, "way": way})
    refused = {*line.get("unverified", ())}
    kept = [record for record in records if refused.isdisjoint(record["way"])]
    if len(kept) < LEAST:
        raise Left(f"only {len(kept)} cases are answered")
    return kept


def came_out(
    line: dict[str, Any],
    each: Sample,
    way: Mapping[str, Any],
    wanted: list[int],
    built: Mapping[str, Any],
) -> bool:
    """Whether the planner's bytes are vLLM's; False where it refuses, as it is to.

    Raises:
        Left: They are not.
    """
    refused = next((flag for flag in REFUSED if flag in way), None)
    if refused in line.get("unverified", ()):
        return False
    for _ in range(2):
        try:
            ours: Any = planned(each.config, way, each.built["dtype"])
        except PlannerError as error:
            ours = str(error)
        if ours == wanted:
            return True
        if isinstance(ours, str) and " only, not for " in ours:
            return False
        if refused == "mm_encoder_tp_mode" and "encoder_tp" not in line:
            line["encoder_tp"] = True
            weights_line.install(line)
            continue
        break
    why = f"{dict(way)}: {ours}, vLLM {wanted}: {weights_line.differences(each, built, way)}"
    if refused is None:
        raise Left(why)
    print(f"  {why}"[:600], file=sys.stderr)
    unverified(line, refused)
    return False


def unverified(line: dict[str, Any], flag: str) -> None:
    """Let the planner refuse a flag."""
    line["unverified"] = sorted({*line.get("unverified", ()), flag})
    weights_line.install(line)


def planned(config: Mapping[str, Any], way: Mapping[str, Any], dtype: str) -> list[int]:
    """The planner's bytes of each stage."""
    method = way.get("quantization")
    config = {**config, "quantization_config": FP8} if method else config
    model = describe(config, where="config.json")
    args = EngineArgs(**{k: v for k, v in way.items() if k != "quantization"})
    estimate = weights_per_rank(model, args, dtype=dtype, method=method)
    return list(estimate.num_bytes)


def needed(builder: Builder, line: dict[str, Any], base: Mapping[str, Any]) -> None:
    """Keys of conditions without which vLLM builds something else than the planner thinks."""
    names = set()
    for row in line["rows"]:
        for key in ("if", "bias", "score_bias"):
            if isinstance(row.get(key), str):
                names |= set(re.findall(r"(?<![$'\w.])[A-Za-z_][\w.]*", row[key]))
    wanted = []
    for path in sampling.paths(base):
        name = path.removeprefix("text_config.")
        if name not in names and f"top.{path}" not in names:
            continue
        config = json.loads(json.dumps(base))
        holder = sampling.get(config, path.rpartition(".")[0]) if "." in path else config
        del holder[path.rpartition(".")[2]]
        without = sample_at(builder, config)
        if without is None:
            continue
        try:
            ours = planned(config, {}, without.built["dtype"])
        except PlannerError:
            continue
        if ours != [without.built["bytes"]]:
            wanted.append(name if name in names else f"top.{path}")
    if wanted:
        line["needs"] = wanted
