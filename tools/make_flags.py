"""Fill ``engine_args/vllm_flags.json`` and ``config_keys.json`` from vLLM's own parser.

    python tools/make_flags.py [--check]

With ``--check`` nothing is written; exit code 1 says that vLLM's parser says otherwise.
Needs vLLM 0.33, no GPU. Of flags that change nothing planned it writes how their values are read
(``type``, ``none``, ``choices``); of flags that hold JSON the configuration class (``keys``), whose
fields and their types go to ``config_keys.json``. What was decided by hand (effect, why, the
reading of flags that are understood) stays. Source: ``_compute_kwargs`` of
vllm/engine/arg_utils.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "vllm_kv_planner" / "engine_args"
TYPES = {
    "int": "int",
    "float": "float",
    "human_readable_int": "quantity",
    "loads": "json_value",
    "parse_dataclass": "config",
    "": "lower_text",  # a lambda that puts a name in lower case
}
LATER = {
    "--speculative-config": "SpeculativeConfig",
    "--diffusion-config": "DiffusionConfig",
    "--watermark-config": "WatermarkConfig",
}
"""Flags whose dictionary becomes this class when the engine is configured, not when parsed."""


def serve_parser() -> argparse.ArgumentParser:
    """The parser of ``vllm serve``, on a machine without a GPU, too."""
    import vllm.platforms
    from vllm.platforms.interface import Platform, PlatformEnum

    class NoGPU(Platform):  # type: ignore[misc,unused-ignore]
        _enum = PlatformEnum.CUDA
        device_name = device_type = "cuda"

        @classmethod
        def pre_register_and_update(cls, parser: Any = None) -> None:
            """Nothing to register."""

    vllm.platforms._current_platform = NoGPU()
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    made: argparse.ArgumentParser = make_arg_parser(FlexibleArgumentParser())
    return made


def reading(action: argparse.Action) -> tuple[str, bool, Any]:
    """Name of the function that reads a value, whether '' unsets it, the config class."""
    read: Any = action.type
    optional = False
    while True:
        name = getattr(read, "__name__", "")
        held = [cell.cell_contents for cell in getattr(read, "__closure__", None) or ()]
        if name not in ("_optional_type", "_parse_type"):
            break
        optional = optional or name == "_optional_type"
        read = next(each for each in held if callable(each))
    config = read.__defaults__[0] if name == "parse_dataclass" else None
    return name.replace("<lambda>", ""), optional, config


def keys_of(cls: Any, found: dict[str, Any]) -> None:
    """The fields that a JSON object of this class may have, and what each may be.

    Types are in the words of ``engine_args/value_types.py``.
    """
    from pydantic.fields import FieldInfo

    if cls.__name__ in found:
        return
    keys = found[cls.__name__] = {}
    hints = typing.get_type_hints(cls)
    modes = validator_modes(cls)
    known = getattr(cls, "__pydantic_fields__", {})
    for each in dataclasses.fields(cls):
        hidden = isinstance(each.default, FieldInfo) and each.default.init is False
        if not each.init or hidden or each.name.startswith(("target_", "draft_model_config")):
            continue
        form = form_of(hints[each.name], getattr(known.get(each.name), "metadata", ()), found)
        mine = modes.get(each.name, set()) | modes.get("*", set())
        is_class = isinstance(form, str) and form in found
        if mine & {"before", "plain"} and not is_class:  # names, too; a class's object as ever
            each_form = form["either"] if isinstance(form, dict) and "either" in form else [form]
            nested = [c for c in each_form if isinstance(c, str) and c in found]
            form = either([*nested, "null", "text"]) if nested else "any"
        elif "wrap" in mine:  # all of these let null pass
            form = either([form, "null"])
        keys[each.name] = form


def validator_modes(cls: Any) -> dict[str, set[str]]:
    """For every field with validators of its own: ``before``, ``after``, ``wrap`` or ``plain``."""
    found: dict[str, set[str]] = {}
    decorators = getattr(cls, "__pydantic_decorators__", None)
    for validator in decorators.field_validators.values() if decorators else ():
        for name in validator.info.fields:
            found.setdefault(name, set()).add(validator.info.mode)
    return found


def form_of(hint: Any, bounds: Any, found: dict[str, Any]) -> Any:
    """What pydantic takes for a field of this type with these bounds."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return either([form_of(part, bounds, found) for part in parts])
    is_enum = isinstance(hint, type) and issubclass(hint, enum.Enum)
    if is_enum or origin is typing.Literal:
        return {"one of": [each.value for each in hint] if is_enum else list(parts)}
    if origin in (list, set, tuple, dict):
        return container(origin, parts, bounds, found)
    if is_strict(hint) and hint.__name__ not in ("ModelConfig", "ParallelConfig", "LoadConfig"):
        keys_of(hint, found)
        return hint.__name__
    if hint not in (int, float):
        plain = {str: "text", bool: "bool", dict: "object", type(None): "null", Path: "text"}
        return plain.get(hint, "any") if isinstance(hint, type) else "any"
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    asked = [f"{signs[key]}{getattr(b, key)}" for b in bounds for key in signs if hasattr(b, key)]
    return " ".join([hint.__name__, *asked])


def container(origin: Any, parts: Any, bounds: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The same of a list, a tuple, a set or a dictionary."""
    least = next((b.min_length for b in bounds if hasattr(b, "min_length")), 0)
    sized = {"least": least} if least else {}
    if origin is tuple and parts[-1] is not ...:
        sized = {"length": len(parts)}
    name = "object of" if origin is dict else "list of"
    return {name: form_of(parts[origin is dict], (), found), **sized}


def either(forms: list[Any]) -> Any:
    """One of several; names beside any text are any text, too."""
    flat: list[Any] = []
    for each in forms:
        flat += each["either"] if isinstance(each, dict) and "either" in each else [each]
    if "any" in flat:
        return "any"
    if "text" in flat:
        flat = [each for each in flat if not isinstance(each, dict) or "one of" not in each]
    named = [each for each in flat if isinstance(each, dict) and "one of" in each]
    if len(named) > 1:
        names = [name for each in named for name in each["one of"]]
        flat = [{"one of": names}, *(each for each in flat if each not in named)]
    return flat[0] if len(flat) == 1 else {"either": flat}


def is_strict(cls: Any) -> bool:
    """Whether it is a class that refuses keys it does not know."""
    config = getattr(cls, "__pydantic_config__", None) or {}
    return dataclasses.is_dataclass(cls) and config.get("extra") == "forbid"


def filled(row: dict[str, Any], action: argparse.Action, classes: dict[str, Any]) -> dict[str, Any]:
    """A row of the table with what the parser says of it."""
    name, optional, config = reading(action)
    later = LATER.get(row["flags"][0])
    if config is not None or later:
        cls = config or classes[str(later)]
        keys_of(cls, classes["found"])
        row = {**row, "keys": cls.__name__}
    if row["effect"] in ("kv_cache", "memory") or row["takes"] not in ("one", "many", "optional"):
        return row
    known = {} if name not in TYPES or action.type is None else {"type": TYPES[name]}
    choices = [each for each in action.choices or () if each is not None]
    row = {key: value for key, value in row.items() if key not in ("type", "none", "choices")}
    extra = {**known, **({"none": True} if optional else {})}
    return {**row, **extra, **({"choices": choices} if choices else {})}


def main() -> int:
    """Write both files, or compare them."""
    from vllm.config import DiffusionConfig, SpeculativeConfig
    from vllm.config.watermarking import WatermarkConfig

    parser = serve_parser()
    actions = {each.option_strings[0]: each for each in parser._actions if each.option_strings}
    classes: dict[str, Any] = {
        cls.__name__: cls for cls in (DiffusionConfig, SpeculativeConfig, WatermarkConfig)
    }
    classes["found"] = {}
    path = FOLDER / "vllm_flags.json"
    table = json.loads(path.read_text())
    rows = [filled(row, actions[row["flags"][0]], classes) for row in table["flags"]]
    head = json.dumps({key: value for key, value in table.items() if key != "flags"}, indent=1)
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    found = classes["found"]
    keys = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
    texts = {
        path: f'{head[:-2]},\n "flags": [\n{lines}\n ]\n}}\n',
        FOLDER / "config_keys.json": f'{{\n "classes": {{\n{keys}\n }}\n}}\n',
    }
    if "--check" in sys.argv[1:]:
        stale = [each.name for each, text in texts.items() if each.read_text() != text]
        print(f"{len(rows)} flags, {len(found)} classes; otherwise: {', '.join(stale) or 'none'}")
        return 1 if stale else 0
    for each, text in texts.items():
        each.write_text(text)
    print(f"{len(rows)} flags, {len(found)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
