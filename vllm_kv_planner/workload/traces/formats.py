"""The formats of traces: what their columns are called, and what their times count.

A format is one row of ``FORMATS``. Column names are compared in lower case with ``_`` for blanks
and hyphens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import InputError, printable
from ...records import dataclass


@dataclass(frozen=True, kw_only=True)
class TraceFormat:
    """One format.

    Attributes:
        name: For ``--trace-format``.
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


_LENGTHS = ("input_length", "output_length")

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
        prompt=_LENGTHS[:1],
        output=_LENGTHS[1:],
        time=("timestamp",),
        hash_block=16,
        source="Qwen-Bailian's traces",
    ),
    # https://github.com/kvcache-ai/Mooncake; milliseconds, ids of 512 tokens
    TraceFormat(
        name="mooncake",
        marks=("hash_ids",),
        prompt=_LENGTHS[:1],
        output=_LENGTHS[1:],
        time=("timestamp",),
        units=(("timestamp", 1e-3),),
        hash_block=512,
        source="Mooncake's traces",
    ),
    TraceFormat(
        name="columns",
        prompt=(
            "prompt_tokens",
            "input_length",
            "input_tokens",
            "prompt_len",
            "input_len",
            "num_prefill_tokens",
        ),
        output=(
            "output_tokens",
            "output_length",
            "completion_tokens",
            "generated_tokens",
            "output_len",
            "num_decode_tokens",
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
    """The format whose marks are among the columns, or the one that is asked for.

    Raises:
        InputError: No such format.
    """
    if forced is not None:
        for each in FORMATS:
            if each.name == forced:
                return each
        raise InputError(f"--trace-format {forced[:40]!r}: one of {', '.join(NAMES)}")
    there = {plain(column) for column in columns}
    return next(each for each in FORMATS if there.issuperset(each.marks))


def column_named(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The row's own spelling of the first of ``names`` that it has."""
    spelled = {plain(column): column for column in row}
    return next((spelled[name] for name in names if name in spelled), None)


def needed_column(row: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    """The row's own spelling of the column with ``what``.

    Raises:
        InputError: It has none; names what it has, and what is valid.
    """
    found = column_named(row, names)
    if found is None:
        has = printable(", ".join(str(column)[:30] for column in list(row)[:12]))
        raise InputError(f"no column with {what}: there are {has}; valid: {', '.join(names)}")
    return found
