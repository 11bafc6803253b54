"""The tables of flags and of their JSON keys, beside the parser of an installed vLLM."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

from vllm_kv_planner.engine_args.flag_table import all_flags
from vllm_kv_planner.engine_args.value_types import read_config
from vllm_kv_planner.errors import InputError

from .vllm_python import CUDA, interpreter

PYTHON = interpreter(CUDA)
ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "make_flags.py"
KEYS = ROOT / "vllm_kv_planner" / "engine_args" / "config_keys.json"

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, -1, 257, 1.0, 1.5, -0.5, 1e30, "", "3", " 3 ", "3.0", "1_0"),
    *("abc", "true", "ON", "None", "nan", [], [1], [[1, 2, 3]], ["a"], ["1"], [None], [1.5]),
    *({}, {"a": "b"}, {"a": 1}, "auto", "fp8", "nixl", "kv_both", "mtp", "CLS", "INFO", "triton"),
]
"""Tried for every key of every class."""

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import make_flags
make_flags.serve_parser()
import pydantic, vllm.config as config
from vllm.config.watermarking import WatermarkConfig
classes = {**vars(config), "WatermarkConfig": WatermarkConfig}
asked = json.load(sys.stdin)
answers = {}
for flag, (name, keys) in asked["flags"].items():
    cls = classes.get(name)
    if cls is None:
        import gc
        cls = next(c for c in gc.get_objects() if isinstance(c, type) and c.__name__ == name)
    for key in keys:
        for i, value in enumerate(asked["values"]):
            try:
                if name == "SpeculativeConfig":
                    cls(**{key: value})
                else:
                    pydantic.TypeAdapter(cls).validate_json(json.dumps({key: value}))
                told = True
            except pydantic.ValidationError as error:
                told = not any(each["loc"][:1] == (key,) for each in error.errors())
            except Exception:
                told = True  # beyond its type
            answers[f"{flag} {key} {i}"] = told
print(json.dumps(answers))
"""


def test_the_tables_are_those_of_vllm() -> None:
    done = subprocess.run(
        [PYTHON, str(TOOL), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "319 flags" in done.stdout


def test_values_of_json_objects_are_taken_as_vllm_takes_them() -> None:
    forms = json.loads(KEYS.read_text())["classes"]
    flags = {flag.spellings[0]: flag for flag in all_flags() if flag.keys}
    asked = {name: (flag.keys, list(forms[flag.keys])) for name, flag in flags.items()}
    done = subprocess.run(
        [PYTHON, "-c", ASK, str(TOOL.parent)],
        input=json.dumps({"flags": asked, "values": VALUES}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) > 5_000
    otherwise = []
    for asked_for, theirs in answers.items():
        name, key, i = asked_for.split()
        value = VALUES[int(i)]
        try:
            read_config(flags[name], {key: value})
            ours = True
        except InputError:
            ours = False
        form = forms[flags[name].keys][key]
        free = form == "any" or (ours and "QuantSpec" in str(form))  # names of its own
        if ours != theirs and not (free and ours):
            otherwise.append(f"{name} {key} {value!r}: {'taken' if theirs else 'refused'} by vLLM")
    assert otherwise == []


def test_sources_without_import_tell_the_same_flags_as_the_parser() -> None:
    where = "import importlib.util as u; print(u.find_spec('vllm').submodule_search_locations[0])"
    done = subprocess.run([PYTHON, "-c", where], capture_output=True, text=True, check=True)
    tool = runpy.run_path(str(TOOL.parent / "make_flag_versions.py"))
    _, texts = tool["sources_of"](Path(done.stdout.split()[-1]).parent)
    assert set(tool["flags_in"](texts)) == {name for flag in all_flags() for name in flag.spellings}
