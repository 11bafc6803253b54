"""Weights that ``shapes.jsonl`` describes: vLLM's own bytes, and what the interpreter refuses."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.errors import ConfigError, UnsupportedError
from vllm_kv_planner.memory.weights.architectures import family, shapes
from vllm_kv_planner.memory.weights.architectures.expression import holds, number
from vllm_kv_planner.model.architectures.registry import table

from .weight_cases import estimate

RECORDS = Path(__file__).parent / "data" / "vllm_0_33_weights.jsonl"
LINES = Path(shapes.__file__).with_name("shapes.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, its header apart."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def changed(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values at dotted paths."""
    made: dict[str, Any] = copy.deepcopy(dict(config))
    for path, value in values.items():
        inside = made
        *outer, last = path.split(".")
        for key in outer:
            inside = inside.setdefault(key, {})
        inside[last] = value
    return made


@pytest.mark.parametrize("record", read(RECORDS), ids=lambda record: record["id"])
def test_bytes_are_vllms(record: dict[str, Any]) -> None:
    # made by tools/make_weights.py from vLLM 0.33: variants that no expression was fitted to
    for case in record["cases"]:
        config = changed(record["config"], case.get("set", {}))
        found = estimate(config, **case.get("flags", {}))
        assert list(found.num_bytes) == case["bytes"], case


def test_every_line_is_of_a_known_architecture_and_has_a_record() -> None:
    ids = [line["id"] for line in read(LINES)]
    assert ids == sorted(ids) == [record["id"] for record in read(RECORDS)]
    assert len({name.lower() for name in ids}) == len(ids)  # found without regard to case
    for name in ids:
        assert name in table() and family(name) is not None


def test_another_spelling_is_the_same_class() -> None:
    # registry.py has both names for exaone_moe.py; lines are found without regard to case
    record = next(each for each in read(RECORDS) if each["id"] == "ExaoneMoeForCausalLM")
    other = {**record["config"], "architectures": ["ExaoneMoEForCausalLM"]}
    (case,) = (each for each in record["cases"] if each.keys() == {"bytes"})
    assert list(estimate(other).num_bytes) == case["bytes"]


def test_weights_follow_the_number_of_layers() -> None:
    for record in read(RECORDS):
        line = next(each for each in read(LINES) if each["id"] == record["id"])
        if "layers" in line:
            assert isinstance(line["layers"][1], str), record["id"]


def test_a_tower_is_built_where_one_of_its_modalities_may_come() -> None:
    record = next(each for each in read(RECORDS) if each["id"].startswith("Qwen2_5Omni"))
    row = dict(next(each for each in read(LINES) if each["id"] == record["id"]))
    assert row["towers"] == {"audio_tower": ["audio"], "visual": ["image", "video"]}
    (whole,) = estimate(record["config"]).stages
    assert {"audio", "vision"} <= whole.parts.keys()
    (text,) = estimate(record["config"], language_model_only=True).stages
    # 8,192 rows of the encoder's rope beside the towers themselves
    more = {kind: whole.parts[kind] - text.parts.get(kind, 0) for kind in whole.parts}
    assert {kind for kind, size in more.items() if size} == {"audio", "vision", "rotary"}
    assert more["rotary"] % 8192 == 0


def names(values: Mapping[str, Any]) -> Any:
    """A lookup in a dictionary."""
    return values.get


def test_arithmetic() -> None:
    values = names(
        {"a": 6, "b": 4, "share": 0.25, "each": [3, 5], "kinds": ["full", "state"], "i": 1}
    )
    assert number("a * b + 2", values) == 26
    assert number("a + b * 2 - 1", values) == 13
    assert number("3 * a // b", values) == 4
    assert number("up(a * b, 16)", values) == 32
    assert number("b * a * share", values) == 6
    assert number("each[i] * (a - b)", values) == 10
    assert number(7, values) == 7
    assert holds("kinds[i] == 'state' and not missing", values)
    assert holds("i in each or i < b", values) and not holds("a < b", values)
    assert not holds("missing", values) and not holds("i in missing", values)


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("width * 2", {}, "width is not given"),
        ("width * 2", {"width": "wide"}, 'width must be a number, is "wide"'),
        ("width", {"width": True}, "width must be a number, is true"),
        ("a * b", {"a": 10**9, "b": 10**9}, "within 10^15"),
        ("a // b", {"a": 1, "b": 0}, "b must not be 0"),
        ("each[i]", {"each": [1], "i": 3}, "each has 1 items, none of number 3"),
        ("each[i]", {"each": 5, "i": 0}, "each must be a list, is 5"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(text: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="config.json: .*" + re.escape(says)):
        number(text, names(values))


@pytest.mark.parametrize(
    "text", ["a +", "(a", "a b", "__import__('os')", "a.b()", "up(a)", "a @ b"]
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expression|expected|early|no '"):
        number(text, names({"a": 1}))


def test_a_key_that_is_absent_is_named() -> None:
    record = next(each for each in read(RECORDS) if each["id"] == "DbrxForCausalLM")
    config = copy.deepcopy(record["config"])
    del config["ffn_config"]["ffn_hidden_size"]
    with pytest.raises(ConfigError, match=r"ffn_config\.ffn_hidden_size is not given"):
        estimate(config)


def test_a_value_that_vllm_was_not_asked_about_is_named() -> None:
    record = next(each for each in read(RECORDS) if each["id"] == "DbrxForCausalLM")
    with pytest.raises(UnsupportedError, match=r"tie_word_embeddings = false only, not for true"):
        estimate({**record["config"], "tie_word_embeddings": True})


@pytest.mark.parametrize(
    ("architecture", "flags", "says"),
    [
        ("Lfm2ForCausalLM", {"pipeline_parallel_size": 2}, "with pipeline-parallel-size are not"),
        ("Qwen2AudioForConditionalGeneration", {"limit_mm_per_prompt": {"audio": 0}}, "limit-mm"),
        (
            "LlavaOnevisionForConditionalGeneration",
            {"language_model_only": True},
            "language-model-only",
        ),
    ],
)
def test_flags_that_did_not_come_out_are_refused(
    architecture: str, flags: dict[str, Any], says: str
) -> None:
    record = next(each for each in read(RECORDS) if each["id"] == architecture)
    with pytest.raises(UnsupportedError, match=says):
        estimate(record["config"], **flags)
