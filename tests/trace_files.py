"""The first rows of published traces, and ways to write and read such files in tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.errors import InputError
from vllm_kv_planner.workload.trace import Trace, TraceOptions
from vllm_kv_planner.workload.types import TraceRequest

Write = Callable[[str | bytes], str]
"""Writes a trace, and says where it is."""

COLUMNS = "timestamp,prompt_tokens,output_tokens\n"

# The first rows as published, and a failed request of BurstGPT.
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,276,693,Conversation log
120,GPT-4,300,0,300,API log
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:46.6805900,879,55
"""
MOONCAKE = """\
{"timestamp": 27482, "input_length": 6955, "output_length": 52, \
"hash_ids": [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2353, 2354]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, \
"hash_ids": [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2366]}
"""
BAILIAN = """\
{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 40, \
"output_length": 521, "type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091]}
"""


def turns(*said: str) -> dict[str, Any]:
    speakers = ["human", "gpt"] * len(said)
    return {
        "id": "QWJhYvA_0",
        "conversations": [
            {"from": who, "value": text} for who, text in zip(speakers, said, strict=False)
        ],
    }


def writer(folder: Path) -> Write:
    """Writes a trace into ``folder`` and says where it is."""

    def write(content: str | bytes) -> str:
        path = folder / "trace"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def read(path: str, **options: Any) -> tuple[Trace, list[TraceRequest]]:
    trace = Trace(path, TraceOptions(**options))
    return trace, list(trace)


def refused(path: str, **options: Any) -> str:
    with pytest.raises(InputError) as refusal:
        read(path, **options)
    message = str(refusal.value)
    assert message.isprintable()
    assert path in message or "--" in message
    return message
