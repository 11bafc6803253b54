"""The formats of traces: what their columns are called, and how their cells are read.

A format is one row of ``FORMATS``. Column names are compared in lower case with ``_`` for blanks
and hyphens.

ShareGPT's conversations are read as vLLM's benchmark reads them: ``ShareGPTDataset`` and
``is_valid_sequence`` of vLLM 0.33 (benchmarks/datasets/datasets.py). The first two turns of a
conversation are prompt and answer, whoever speaks; both have at least 4 tokens, the prompt at most
1024, both together at most 2048. The benchmark shuffles the file; here it keeps its own order.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import InputError, one_line, printable
from ..files.json_file import shown
from ..records import dataclass
from .lengths import MOST_TOKENS
from .types import TraceRequest


@dataclass(frozen=True, kw_only=True)
class TraceFormat:
    """One format.

    Attributes:
        marks: Columns that tell it from the others; all of them must be there.
        prompt: Names of the prompt's length, the first that is there counts.
        output: Names of the answer's length.
        time: Names of the arrival time; none where the format has no times.
        units: Seconds of one unit of each name of ``time``; 1 where not named.
        engine_clock: Names of ``time`` that count engine steps where no step time is given.
        hash_block: Tokens of one id of ``hash_ids``; 0 where the format has none.
        source: Who publishes it, for the help.
    """

    name: str
    marks: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    units: tuple[tuple[str, float], ...] = ()
    engine_clock: tuple[str, ...] = ()
    hash_block: int = 0
    source: str = ""


FORMATS: tuple[TraceFormat, ...] = (
    # {"id": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}, ...]}
    TraceFormat(name="sharegpt", marks=("conversations",), source="ShareGPT conversations"),
    # https://github.com/HPMLL/BurstGPT; seconds since the trace began
    TraceFormat(
        name="burstgpt",
        marks=("request_tokens", "response_tokens"),
        prompt=("request_tokens",),
        output=("response_tokens",),
        time=("timestamp",),
        source="BurstGPT's CSV",
    ),
    # https://github.com/Azure/AzurePublicDataset (AzureLLMInferenceTrace_*.csv); dates
    TraceFormat(
        name="azure",
        marks=("contexttokens", "generatedtokens"),
        prompt=("contexttokens",),
        output=("generatedtokens",),
        time=("timestamp",),
        source="Azure's LLM inference traces",
    ),
    # https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon; seconds, ids of 16 tokens
    TraceFormat(
        name="bailian",
        marks=("chat_id", "hash_ids"),
        prompt=("input_length",),
        output=("output_length",),
        time=("timestamp",),
        hash_block=16,
        source="Qwen-Bailian's traces",
    ),
    # https://github.com/kvcache-ai/Mooncake; milliseconds, ids of 512 tokens
    TraceFormat(
        name="mooncake",
        marks=("hash_ids",),
        prompt=("input_length",),
        output=("output_length",),
        time=("timestamp",),
        units=(("timestamp", 1e-3),),
        hash_block=512,
        source="Mooncake's traces",
    ),
    TraceFormat(
        name="columns",
        prompt=(
            *("prompt_tokens", "input_length", "input_tokens", "prompt_len", "input_len"),
            "num_prefill_tokens",
        ),
        output=(
            *("output_tokens", "output_length", "completion_tokens", "generated_tokens"),
            *("output_len", "num_decode_tokens"),
        ),
        time=("arrival", "timestamp", "arrived_at", "timestamp_ms", "arrival_ms"),
        units=(("timestamp_ms", 1e-3), ("arrival_ms", 1e-3)),
        engine_clock=("arrival",),
        source="your own CSV or JSON lines",
    ),
)

NAMES = tuple(each.name for each in FORMATS)


def plain(name: str) -> str:
    """A column's name as it is compared."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def find_format(columns: Iterable[str], forced: str | None = None) -> TraceFormat:
    """The format whose marks are among the columns, or the one that is asked for."""
    if forced is not None:
        if forced not in NAMES:
            raise InputError(f"--trace-format {forced[:40]!r}: one of {', '.join(NAMES)}")
        return FORMATS[NAMES.index(forced)]
    there = {plain(column) for column in columns}
    return next(each for each in FORMATS if there.issuperset(each.marks))


def column_named(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The row's own spelling of the first of ``names`` that it has."""
    spelled = {plain(column): column for column in row}
    return next((spelled[name] for name in names if name in spelled), None)


def needed_column(row: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    """The row's own spelling of the column with ``what``."""
    found = column_named(row, names)
    if found is None:
        has = printable(", ".join(str(column)[:30] for column in list(row)[:12]))
        raise InputError(f"no column with {what}: there are {has}; valid: {', '.join(names)}")
    return found


MOST_SECONDS = 1e11
"""The year 5138 as seconds since 1970; milliseconds since 1970 are beyond it from 1973 on."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:?\d\d)?")


def token_count(row: Mapping[str, Any], column: str) -> int:
    """A whole number of tokens, 0 included."""
    value = row.get(column)
    if type(value) is str:
        value = _number_of(value, column)
    if type(value) is float and value.is_integer():  # pandas writes 374.0 where a row is empty
        value = int(value)
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        problem = "is missing" if value is None else f"{shown(value)} is not a number of tokens"
        raise InputError(f"{column} {problem}: valid: 0 to {MOST_TOKENS:,}")
    return value


def seconds(row: Mapping[str, Any], column: str, unit: float) -> float:
    """A time, as a number of ``unit`` seconds or as a date, in seconds."""
    value = row.get(column)
    if type(value) is str:
        value = _date(value) if "-" in value[1:] and ":" in value else _number_of(value, column)
        if value is None:
            raise InputError(f"{column} {shown(row[column])} is not a date: YYYY-MM-DD HH:MM:SS.f")
    if type(value) not in (int, float) or value is None:
        problem = "is missing" if value is None else f"{shown(value)} is not a time"
        raise InputError(f"{column} {problem}")
    if not 0 <= value <= MOST_SECONDS / unit:
        hint = "; in milliseconds? name the column timestamp_ms" if value > 0 else ""
        raise InputError(f"{column} {shown(value)} is out of range{hint}")
    return float(value * unit)


def _number_of(text: str, column: str) -> float | int:
    text = text.strip()
    if len(text) <= 40 and "_" not in text:  # which Python takes for a thousands separator
        with contextlib.suppress(ValueError):
            return int(text) if text.isdecimal() else float(text)
    raise InputError(f"{column} {shown(text)} is not a number" if text else f"{column} is empty")


def _date(text: str) -> float | None:
    """Seconds since 1970 of an ISO date; without a zone it is UTC, as only differences count."""
    from datetime import datetime, timezone

    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    date, fraction, zone = match.groups()
    try:
        found = datetime.fromisoformat(date).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    since = found.timestamp() + float(f"0.{fraction or 0}")
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = 3600 * int(digits[:2]) + 60 * int(digits[2:])
        since -= offset if zone[0] == "+" else -offset
    return since


CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI's guide to tokens says; code and other scripts take more tokens."""


def token_counter(tokenizer: str | None) -> Callable[[str], int]:
    """Counts a text's tokens as vLLM's ShareGPT benchmark does, special tokens included.

    ``tokenizer`` is a Hub id or directory, loaded with transformers; one that comes as code is
    refused. None: guessed, one token for every four characters begun.
    """
    if tokenizer is None:
        return lambda text: -(-len(text) // CHARACTERS_PER_TOKEN)
    try:
        with off_the_terminal():
            from transformers import AutoTokenizer
    except ImportError:
        raise InputError(
            "--tokenizer needs transformers: pip install transformers; "
            "without the flag tokens are guessed from the number of characters"
        ) from None
    try:
        with off_the_terminal():
            # Said, not left open: transformers would ask on standard input, which the trace may be.
            loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except Exception as error:  # whatever it raises, the user sees one line
        reason = one_line(str(error))[:300]
        if "trust_remote_code" in str(error):
            reason = (
                "comes as code, which is never run: name a tokenizer that transformers has itself"
            )
        raise InputError(f"--tokenizer {tokenizer[:80]}: {reason}") from None

    def count(text: str) -> int:
        # verbose: it warns of texts that are longer than the model's context
        with off_the_terminal():
            return len(loaded(text, verbose=False).input_ids)

    return count


@contextlib.contextmanager
def off_the_terminal() -> Iterator[None]:
    """While a library runs: nothing for it to read on standard input, nor to print on output.

    A question of its own ends at once, and what it prints goes to standard error.
    """
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing, contextlib.redirect_stdout(sys.stderr):
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin


LEAST_TOKENS = 4
MOST_PROMPT_TOKENS = 1024
MOST_TOKENS_TOGETHER = 2048

FEW_TURNS = "conversations of fewer than two turns"
OUT_OF_BOUNDS = "conversations that vLLM's benchmark leaves out for their length"


Reader = Callable[[Mapping[str, Any]], TraceRequest | str]
"""A row's request, or the reason why it is left out."""


def conversation_reader(count: Callable[[str], int], *, every_length: bool) -> Reader:
    """A function from a conversation to its request, or to the reason for leaving it out."""

    def read(row: Mapping[str, Any]) -> TraceRequest | str:
        turns = row.get("conversations")
        if not isinstance(turns, list):
            problem = "are missing" if turns is None else f"{shown(turns)} is not a list"
            raise InputError(f"conversations {problem}")
        if len(turns) < 2:
            return FEW_TURNS
        prompt, output = count(_said(turns[0])), count(_said(turns[1]))
        usual = min(prompt, output) >= LEAST_TOKENS and prompt <= MOST_PROMPT_TOKENS
        if every_length or (usual and prompt + output <= MOST_TOKENS_TOGETHER):
            return TraceRequest(0.0, prompt, output)
        return OUT_OF_BOUNDS

    return read


def _said(turn: object) -> str:
    value = turn.get("value") if isinstance(turn, dict) else None
    if not isinstance(value, str):
        raise InputError(f"a turn is {shown(turn)}, not an object with a text as value")
    return value
