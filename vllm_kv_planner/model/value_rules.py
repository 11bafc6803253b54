"""What vLLM's own classes take for single keys of a config: words, numbers, never null.

``architectures/value_rules.json`` holds the table, one row for a key and the classes that read it:

``key``
    Name in the language model's config, or a dotted place in the whole one
    (``vision_config.hidden_act``; ``.key`` for its own keys) or, after ``text.``, in the language
    model's; or several. A key that is not given is not checked: its default stands.
``words``
    The name of a list under ``lists``, or the words themselves, that may stand there.
``least``, ``most``, ``above``, ``below``, ``multiple_of``
    Bounds of a number (``below`` also another key of the same object); without any, a number.
``equals``
    Another key of the language model's config, whose number it must be.
``list``
    It is a list, of that many items where it is a number.
``experts``
    In place of a key: vLLM counts at least one routed expert.
``null``
    Whether null may stand there too.
``if``
    Another key of the same object; only where that has a value (not 0, false, empty or null).
``quant_method``
    Only where the checkpoint is quantised by it.
``unless``
    Another key of the same object; only where that has no value.
``if_most``
    Other keys of the same object; only where none of their numbers is larger.
``of``
    Architectures, by the names of the other tables; what is ``like`` them follows them. Or
    rules (``decoder:transformers``), or types of a tower (``clip_vision_model``), whose own keys
    are meant, wherever it lies in the config.

Source: vLLM 0.33 ``model_executor/layers/activation.py`` ``get_act_fn``, ``get_act_and_mul_fn``;
``layers/fused_moe/router/router_factory.py``; the classes of ``model_executor/models/`` and
``models/`` that each row names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..files.json_file import read_json, shown
from .architectures.general import EXPERTS, num_experts
from .architectures.registry import Row
from .config import Config

Rule = Mapping[str, Any]


@cache
def _rules() -> tuple[Mapping[str, list[str]], Mapping[str, list[Rule]]]:
    """Lists of words by name, and rules by architecture."""
    found = read_json(__file__, "architectures/value_rules.json")
    rules: dict[str, list[Rule]] = {}
    for each in found["rules"]:
        for name in each["of"].split():
            rules.setdefault(name, []).append(each)
    return found["lists"], rules


def check_values_of(row: Row, top: Config, text: Config) -> None:
    """Refuse values that the class behind a row does not take.

    Args:
        row: Of the architecture, with the names it goes by.
        top: The whole config.
        text: The language model's, with its class's defaults.

    Raises:
        ConfigError: Naming the key, its value and what is valid.
    """
    for name in (row.get("rule", ""), *row.get("names", ())):
        _check_all(name, top, text)
    for name, value in top.data.items():
        if isinstance(value, Mapping) and isinstance(value.get("model_type"), str):
            tower = Config(value, top.where, prefix=f"{name}.")
            _check_all(value["model_type"], top, tower)


def _check_all(name: str, top: Config, own: Config) -> None:
    quantized = top.data.get("quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
    for rule in _rules()[1].get(name, ()):
        if rule.get("quant_method", method) != method:
            continue
        if "experts" in rule:
            _check_experts(own)
            continue
        for place in rule["key"].split():
            config, key = _place(place, top, own)
            if config is not None and key in config.data and _applies(rule, config):
                _check(rule, config, key)
                _check_equal(rule.get("equals", ""), config, key, own)


def _check_equal(other: str, config: Config, key: str, text: Config) -> None:
    value, wanted = config.data[key], text.data.get(other)
    if wanted is not None and value != wanted:
        raise config.refused(key, value, f"must be {other}'s, {shown(wanted)}")


def _check_experts(text: Config) -> None:
    if not num_experts(text):
        key = next((key for key in EXPERTS if key in text.data), EXPERTS[0])
        raise text.error(key, "counts no experts, and the model has layers of experts")


def _place(key: str, top: Config, text: Config) -> tuple[Config | None, str]:
    """The object a rule's key lies in, None where there is none, and the key's own name."""
    *parts, last = key.split(".")
    is_text = not parts or parts[0] == "text"
    config: Config | None = text if is_text else top
    for part in filter(None, parts[is_text:]):
        inner = None if config is None else config.data.get(part)
        if config is None or not isinstance(inner, Mapping):
            return None, last
        config = Config(inner, top.where, prefix=f"{config.prefix}{part}.")
    return config, last


def _applies(rule: Rule, config: Config) -> bool:
    """Whether the conditions of a rule hold."""
    if "if" in rule and not config.data.get(rule["if"]):
        return False
    if "unless" in rule and config.data.get(rule["unless"]):
        return False
    numbers = ((config.data.get(key), most) for key, most in rule.get("if_most", {}).items())
    return not any(isinstance(number, (int, float)) and number > most for number, most in numbers)


def _check(rule: Rule, config: Config, key: str) -> None:
    value = config.data[key]
    if value is None and rule.get("null"):
        return
    if "words" in rule:
        words = rule["words"]
        valid = _rules()[0][words] if isinstance(words, str) else words
        if value not in valid:
            raise config.refused(key, value, f"must be {' or '.join(map(str, valid))}")
        return
    if "list" in rule:
        length = rule["list"]
        if not isinstance(value, list) or (length is not True and len(value) != length):
            what = "a list" if length is True else f"a list of {length} items"
            raise config.refused(key, value, f"must be {what}")
        return
    least, limit = rule.get("least", float("-inf")), rule.get("most", float("inf"))
    step = rule.get("multiple_of")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    above = rule.get("above", float("-inf"))
    below = rule.get("below", float("inf"))
    under = config.data.get(below, float("inf")) if isinstance(below, str) else below
    is_out = is_number and (not least <= value <= limit or value <= above or value >= under)
    if not is_number or is_out or (step and value % step):
        bounds = [
            *([f"from {least} on"] if "least" in rule else []),
            *([f"above {above}"] if "above" in rule else []),
            *([f"at most {limit}"] if "most" in rule else []),
            *([f"below {below}"] if "below" in rule else []),
            *([f"a multiple of {step}"] if "multiple_of" in rule else []),
        ]
        raise config.refused(key, value, f"must be {' and '.join(['a number', *bounds])}")
