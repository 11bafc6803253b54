"""An engine's flags out of the line that lists them, and out of its config's line.

Source: vLLM ``entrypoints/common/startup.py`` ``log_non_default_args`` (0.10 on: a dictionary of
what is not default), ``entrypoints/openai/api_server.py`` (before: ``args: Namespace(…)``, all of
them), ``config/vllm.py`` ``VllmConfig.__str__`` (the config's line).
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from functools import lru_cache
from typing import Any

from ..engine_args.engine_args import EngineArgs
from ..records import fields

FORMER_NAMES = {"model_tag": "model", "kv_cache_memory": "kv_cache_memory_bytes"}
"""Spellings of older versions, or of the command line."""
NOT_TAKEN = frozenset({"usage_context", "hf_config_path"})

MOST_TEXT = 1000
MOST_NUMBER = 1 << 60
"""Longer texts and larger numbers are no flags of an engine."""

CONFIG_LINE = {
    "model": "model",
    "dtype": "dtype",
    "max_seq_len": "max_model_len",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "decode_context_parallel_size": "decode_context_parallel_size",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "kv_cache_dtype": "kv_cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
    "load_format": "load_format",
}
"""Names in the config's line, and the flags they settle."""


def read_arguments(text: str) -> dict[str, Any]:
    """Flags that ``text`` states, by ``EngineArgs``' names; what it does not know is left out."""
    found: dict[str, Any] = {}
    wanted = {*flag_kinds(), *FORMER_NAMES}
    for name, said in named_values(text, wanted).items():
        flag = FORMER_NAMES.get(name, name)
        value = settled(flag, said)
        if value is not ABSENT:
            found[flag] = value
    return found


def read_config_line(text: str) -> dict[str, Any]:
    """The flags that the engine's config has settled."""
    found: dict[str, Any] = {}
    for name, said in named_values(text, CONFIG_LINE).items():
        flag = CONFIG_LINE[name]
        value = settled(flag, said.removeprefix("torch.") if isinstance(said, str) else said)
        if value is not ABSENT:
            found[flag] = value
    return found


def settled(flag: str, value: Any) -> Any:
    """The value as ``EngineArgs`` holds it; ABSENT where that flag has no such value.

    JSON in quotes is what it says, a list the tuple that is kept.
    """
    kind = flag_kinds().get(flag)
    if kind is None or value is None or value is ABSENT:
        return ABSENT
    if "JsonDict" in kind:
        return _json_object(value)
    if "tuple[" in kind:
        item = int if "tuple[int" in kind else str
        fits = isinstance(value, (list, tuple)) and all(type(each) is item for each in value)
        return tuple(value) if fits else ABSENT
    if "str" in kind:
        # --optimization-level is a text here, and a number in some logs
        text = str(value) if type(value) is int else value
        return text if isinstance(text, str) and len(text) <= MOST_TEXT else ABSENT
    if "bool" in kind:
        return value if isinstance(value, bool) else ABSENT
    return _number(value, whole="float" not in kind)


@lru_cache(maxsize=1)
def flag_kinds() -> dict[str, str]:
    """What kind of value each flag takes: ``EngineArgs``' annotations."""
    known = {each.name for each in fields(EngineArgs)} - NOT_TAKEN
    return {name: kind for name, kind in EngineArgs.__annotations__.items() if name in known}


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ABSENT
    return value if isinstance(value, dict) else ABSENT


def _number(value: Any, *, whole: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ABSENT
    if whole and not isinstance(value, int):
        return ABSENT
    return value if abs(value) < MOST_NUMBER else ABSENT


MAX_VALUE = 20_000
MAX_PAIRS = 2_000
MAX_LEVELS = 100
_SIGN = re.compile(r"""['"\[\](){},]""")
_BRACKET = re.compile(r"""['"\[\](){}]""")
_QUOTED = {
    "'": re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
    '"': re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
}
_CLOSES = {"{": "}", "[": "]", "(": ")"}
_PAIR = re.compile(
    r"""\s*(?:'([A-Za-z_]\w{0,80})'\s?:|"([A-Za-z_]\w{0,80})"\s?:|([A-Za-z_]\w{0,80})=)"""
)


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


def named_values(text: str, wanted: Container[str] | None = None) -> dict[str, Any]:
    """Names and values of ``{'a': 1}``, ``Namespace(a=1)`` or ``a=1, b=2``; unreadable: ABSENT.

    Of the first pair of each name; of the ``wanted`` alone, if given. The line as a whole is no
    Python literal (``<CUDAGraphMode.FULL: 2>``): it is divided at its outermost commas.
    """
    text = text.strip()
    for opening in ("Namespace(", "{"):
        text = text.removeprefix(opening)
    found: dict[str, Any] = {}
    for part in outermost(text):
        named = _PAIR.match(part)
        if named is not None:
            name = named[1] or named[2] or named[3]
            if name not in found and (wanted is None or name in wanted):
                found[name] = read_value(part[named.end() :].strip())
    return found


def outermost(text: str) -> list[str]:
    """``text`` divided at the commas that stand in no bracket and no quotes, up to its end."""
    parts: list[str] = []
    waiting: list[str] = []
    begin = at = 0
    while len(parts) < MAX_PAIRS:
        sign = (_BRACKET if waiting else _SIGN).search(text, at)
        if sign is None:
            at = len(text)
            break
        at, char = sign.start(), sign[0]
        if char in "'\"":
            at = end_of_quoted(text, at)
            continue
        if char in _CLOSES:
            waiting.append(_CLOSES[char])
            if len(waiting) > MAX_LEVELS:  # no value of an engine: what follows is not read
                break
        elif waiting and char == waiting[-1]:
            waiting.pop()
        elif not waiting and char in ")}":
            break
        elif not waiting and char == ",":
            parts.append(text[begin:at])
            begin = at + 1
        at += 1
    return [*parts, text[begin:at]]


def end_of_quoted(text: str, begin: int) -> int:
    """The position behind the quoted text that begins here; the text's end if it has none."""
    found = _QUOTED[text[begin]].match(text, begin)
    return len(text) if found is None else found.end()


def read_value(text: str) -> Any:
    """A literal; a plain word as text; ABSENT where it is neither."""
    import ast
    import warnings

    if not text or len(text) > MAX_VALUE:
        return ABSENT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "0if", which is no literal either
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text if re.fullmatch(r"[\w./:+-]{1,300}", text) else ABSENT
