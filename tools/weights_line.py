"""One architecture's line of ``shapes.jsonl`` from samples of what vLLM built."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import weights_sample as sampling
from weights_fit import Solver, Unsolved
from weights_rows import Maker

from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.files import json_file
from vllm_kv_planner.memory.weights.architectures import family, shapes
from vllm_kv_planner.memory.weights.architectures.facts import Facts
from vllm_kv_planner.model.architectures import registry
from vllm_kv_planner.model.config import Config
from vllm_kv_planner.model.description import ModelDescription

INNER = ("language_model", "llm", "text_model", "model.language_model", "model.text_model")


class Sample:
    """A config, what the planner says of it, what vLLM built."""

    def __init__(self, config: Mapping[str, Any], model: ModelDescription, built: Any) -> None:
        self.config, self.model, self.built = dict(config), model, built
        self.facts = Facts(
            description=model,
            text=Config(model.text_config, "config.json"),
            top=Config(model.config, "config.json"),
        )
        self.names = shapes.Names(self.facts)
        self.by_name = {(name, kind): attrs for name, kind, attrs in built["rows"]}


def varied(config: Mapping[str, Any], first: Sample) -> list[str]:
    """Paths of the config that may matter, and switches it leaves out that vLLM asked for."""
    read = set(first.built["read"])
    opened = {key.rpartition(".")[0] for key in read if "." in key}
    wanted = []
    for path in sampling.paths(config):
        outer = path.rpartition(".")[0]
        if sampling.IGNORED.fullmatch(path) or sampling.get(config, path) is None:
            continue
        if path in read or (outer not in opened and (not outer or outer.partition(".")[0] in read)):
            wanted.append(path)
    absent = [
        key
        for key in sorted(read)
        if (sampling.FLAG.fullmatch(key) or sampling.UNSTATED.fullmatch(key))
        and not sampling.IGNORED.fullmatch(key)
        and sampling.get(config, key) is None
    ]
    return wanted + absent


def product_names(first: Sample) -> dict[str, str]:
    """The planner's name of each key that vLLM read, by vLLM's path."""
    text = first.model.text_config
    is_nested = text is not first.model.config and any(
        isinstance(first.config.get(key), dict)
        for key in ("text_config", "llm_config", "thinker_config", "language_config")
    )
    found: dict[str, str] = {}
    for path in {*first.built["read"], *sampling.paths(first.config)}:
        head, _, rest = path.partition(".")
        if sampling.IGNORED.fullmatch(path) or isinstance(sampling.get(first.config, path), dict):
            continue
        if head in ("text_config", "llm_config", "language_config") and rest and is_nested:
            found[path] = rest
        elif rest or not is_nested:
            found[path] = path
        else:
            found[path] = f"top.{path}"
    return found


def inner_of(architecture: str, first: Sample) -> str | None:
    """Where the language model lies, if it is one with a rule of its own."""
    row = registry.row(architecture) or {}
    if "text" not in row:
        return None
    try:
        named = shapes.inner_architecture_of(first.facts)
    except PlannerError:
        return None
    if family(named) is None:
        raise Unsolved(f"the language model inside, {named}, has no rule")
    modules = first.built["classes"]
    prefix = next((name for name in INNER if name in modules), None)
    if prefix is None:
        raise Unsolved(f"where the language model lies: {list(modules)[:12]}")
    return prefix


def kin(architecture: str) -> list[str]:
    """Architectures with a rule whose class this one's may be, or be like."""
    from vllm.model_executor.models.registry import ModelRegistry

    classes = {
        n: (m.module_name, m.class_name)
        for n, m in ModelRegistry.models.items()
        if hasattr(m, "class_name")
    }
    own = classes.get(architecture)
    names = [*(registry.row(architecture) or {}).get("names", ())[1:]]
    names += [n for n, made in classes.items() if made == own and "ransformers" not in made[1]]
    followers = {n for n in names if (shapes.line(n) or {}).get("like") == architecture}
    others = [n for n in dict.fromkeys(names) if n != architecture and n not in followers]
    return [n for n in others if family(n) is not None]


def line(
    architecture: str,
    samples: Sequence[Sample],
    halves: Sequence[tuple[Sample, Sample]],
    stages: Sequence[tuple[Sample, Sample, Sample]],
    quantised: Sample | None,
    beside: Sequence[Sample],
    *,
    is_flat: bool,
) -> dict[str, Any]:
    """The line, not verified yet.

    ``beside``: samples in which what vLLM was not seen to read is changed. ``is_flat``: the
    language model's part is written out, too.

    Raises:
        Unsolved: Something has no expression.
    """
    first = samples[0]
    names = product_names(first)
    read = {key for s in samples for key in s.built["read"]} | set(names)
    solver = Solver([s.names for s in samples], {names.get(k, k) for k in read if k in names})
    inner = None if is_flat else inner_of(architecture, first)
    maker = Maker(samples, solver, halves, stages, quantised, inner)
    made: dict[str, Any] = {"id": architecture}
    if inner is not None:
        made["inner"] = inner
    if maker.main:
        made["layers"] = [maker.main, maker.count_of(maker.main)]
    rows = maker.rows()
    if maker.outside:
        made["stacks"] = maker.outside
    made["rows"] = rows
    only = {**untouched([*samples, *beside], names), **pinned(samples, names, solver)}
    if inner is not None:  # what the language model's config may state is its own rule's affair
        only = {key: known for key, known in only.items() if "." in key or known != [None]}
    if is_flat and "text" in (registry.row(architecture) or {}):
        only["model_type"] = [first.facts.text.get("model_type")]
    if only:
        made["only"] = only
    if first.built["lora_embeddings"]:
        made["lora_embeddings"] = True
    if first.built["towers"]:
        made["towers"] = first.built["towers"]
    return made


def pinned(samples: Sequence[Sample], names: Mapping[str, str], solver: Solver) -> dict[str, Any]:
    """Keys vLLM read that had one value in every sample, and their value."""
    found: dict[str, Any] = {}
    for path in samples[0].built["read"]:
        name = names.get(path)
        if name is None or sampling.IGNORED.fullmatch(path) or ("." in name and name[:4] == "top."):
            continue
        values = solver.atoms.get(name, [])
        if sampling.get(samples[0].config, path) is None and any(v is not None for v in values):
            continue  # another key's value under its second name, or the class's own
        kinds = {json.dumps(v, default=str) for v in values}
        if len(kinds) == 1 and not isinstance(values[0], Mapping) and len(kinds.pop()) < 200:
            found[name] = [values[0]]
    return found


def untouched(samples: Sequence[Sample], names: Mapping[str, str]) -> dict[str, Any]:
    """Numbers and switches of the config that no sample has changed, and their value."""
    found: dict[str, Any] = {}
    for path in sampling.paths(samples[0].config):
        value = sampling.get(samples[0].config, path)
        if sampling.IGNORED.fullmatch(path) or not isinstance(value, int) or path not in names:
            continue
        if all(sampling.get(s.config, path) == value for s in samples):
            found[names[path]] = [value]
    return found


def install(made: Mapping[str, Any]) -> None:
    """Let the planner in this process know a line."""
    text, _ = _file(Path(shapes.__file__).with_name("shapes.jsonl"))
    write_lines = {**text, made["id"]: made}
    data = "".join(f"\n{json.dumps(each, separators=(',', ':'))}" for each in write_lines.values())
    raw = (data + "\n").encode()
    json_file._LOADED["shapes.jsonl"] = raw, raw.lower()
    family.cache_clear()


def _file(path: Path) -> tuple[dict[str, Any], list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {json.loads(each)["id"]: json.loads(each) for each in lines if '"id"' in each}, lines


def write(path: Path, architecture: str, made: Mapping[str, Any]) -> None:
    """Put a line in its place in a file."""
    known, _ = _file(path)
    known[architecture] = dict(made)
    header = json.dumps({"format": 1, "from": {"vllm": "0.33.0"}}, separators=(",", ":"))
    lines = [json.dumps(known[name], separators=(",", ":")) for name in sorted(known)]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


MOST_RECORDS = 8


def recorded(architecture: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the test reads: the first config, and of each case what is changed in it."""
    base = records[0]["config"]
    cases = []
    for each in sorted(records, key=lambda record: not record["flags"])[:MOST_RECORDS]:
        changed = {
            path: sampling.get(each["config"], path)
            for path in sampling.paths(each["config"])
            if sampling.get(each["config"], path) != sampling.get(base, path)
        }
        case = {"set": changed, "flags": each["flags"], "bytes": each["bytes"]}
        cases.append({key: value for key, value in case.items() if value})
    return {"id": architecture, "config": base, "cases": cases}


def differences(sample: Sample, built: Mapping[str, Any], way: Mapping[str, Any]) -> str:
    """Where the planner's tensors are not vLLM's, by name."""
    from vllm_kv_planner.memory.weights.architectures import build
    from vllm_kv_planner.memory.weights.quantization import quantization
    from vllm_kv_planner.memory.weights.rank import Rank

    rank = Rank(
        dtype=built["dtype"],
        quantization=quantization(way.get("quantization"), sample.config),
        tensor_parallel_size=way.get("tensor_parallel_size", 1),
    )
    try:
        tree = build(sample.facts)
    except PlannerError as error:
        return str(error)
    ours: dict[str, int] = defaultdict(int)
    modules = tree.stage_modules(range(len(tree.layers)), is_first=True, is_last=True)
    for tensor in tree.tensors(modules, rank):
        ours[tensor.name] += tensor.num_bytes
    theirs = dict(built["tensors"])
    wrong = [n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n)]
    wrong.sort(key=lambda n: "rotary" in n and ".0." not in n)
    return "; ".join(f"{n} {ours.get(n)} / {theirs.get(n)}" for n in wrong[:6])
