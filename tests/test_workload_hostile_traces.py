"""Traces as nobody should publish them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace_files import AZURE, BAILIAN, COLUMNS, read, refused, writer
from tests.work import calls_in
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.workload.trace import Trace
from vllm_kv_planner.workload.trace_rows import (
    MOST_BYTES_OF_LINE,
    MOST_EMPTY,
    MOST_TIMES,
    MOST_UNPACKED,
)

Write = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no requests"),
        ("\n\n", "line 1: no CSV header"),
        (COLUMNS, "no requests"),
        ("[]", "no requests"),
        ("just text\n1\n", "no column with the prompt's length: there are just text"),
        ("prompt_tokens\n5\n", "no column with the answer's length"),
        ("a,a\n1,1\n", "named twice"),
        (COLUMNS + "1,2\n", "line 2: 2 columns where the header names 3"),
        (COLUMNS + "1,2,3\n1,x,3\n", 'line 3: prompt_tokens "x" is not a number'),
        (COLUMNS + "1,-2,3\n", "line 2: prompt_tokens -2"),
        (COLUMNS + "1,2.5,3\n", "prompt_tokens 2.5 is not a number of tokens"),
        (COLUMNS + "1,nan,3\n", "prompt_tokens NaN"),
        (COLUMNS + "1,inf,3\n", "prompt_tokens Infinity"),
        (COLUMNS + "1,1e12,3\n", "0 to 1,000,000,000"),
        (COLUMNS + "1,1_000,3\n", 'prompt_tokens "1_000" is not a number'),
        (COLUMNS + "1,,3\n", "prompt_tokens is empty"),
        (COLUMNS + "-1,2,3\n", "timestamp -1"),
        (COLUMNS + "nan,2,3\n", "timestamp NaN"),
        (COLUMNS + "1700000000000,2,3\n", "name the column timestamp_ms"),
        (COLUMNS + "2023-99-16 18:15:46,2,3\n", "is not a date"),
        (COLUMNS + '1,"2,3\n', "line 2: unexpected end of data"),
        (COLUMNS + "1," + "9" * 5000 + ",3\n", "prompt_tokens"),
        (COLUMNS + '"' + "9\n" * 200_000, "field larger than field limit"),
        (COLUMNS.encode() + b"1,2,\xff\n", "line 2: not UTF-8"),
        (AZURE.encode("utf-16"), "binary data, or UTF-16"),
        (b"\x00" * 100, "binary data"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (gzip.compress((BAILIAN * 1000).encode())[:-20], "damaged or cut off"),
        ("[1, 2]", "line 1: 1 where a request is an object"),
        ("[[[[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("[" + "9" * 5000 + "]", "thousands of digits"),
        ('{"input_length": ' + "9" * 5000 + "}", "thousands of digits"),
        ('[{"prompt_tokens": 1', "line 1: not valid JSON"),
        ('[{"prompt_tokens": 1, "output_tokens": 1}\n', "line 2: the JSON array ends early"),
        ('[{"prompt_tokens": 1, "output_tokens": 1} {}]', "no comma nor ]"),
        ('{"prompt_tokens": 1, "output_tokens": 1}\n{"prompt_tokens": 1,\n', "line 2: not one"),
        ('{"prompt_tokens": 1, "output_tokens": 1}\n[1]\n', "line 2: a list of 1"),
        ('{"prompt_tokens": true, "output_tokens": 1}', "prompt_tokens true"),
        ('{"prompt_tokens": [1], "output_tokens": 1}', "prompt_tokens a list of 1"),
        ('{"prompt_tokens": 1, "output_tokens": null}', "output_tokens is missing"),
        (
            '{"prompt_tokens": 1, "output_tokens": 1}\n{"prompt_tokens": 1}',
            "line 2: output_tokens is missing",
        ),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5}', "is not a list"),
        (
            '{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [[]]}',
            "neither a number nor a text",
        ),
        (
            '{"prompt_tokens": 5, "output_tokens": 1, "prefix_tokens": 6}',
            "prefix_tokens 6 is more than the whole prompt, 5",
        ),
        (
            '{"prompt_tokens": 5, "output_tokens": 1, "prefix_tokens": 5, "prefix_id": {}}',
            "prefix_id an object",
        ),
        ('[{"conversations": 5}]', "conversations 5 is not a list"),
        ('[{"conversations": [5, 6]}]', "a turn is 5"),
        ('[{"conversations": [{"value": 1}, {"value": 2}]}]', "a turn is an object"),
    ],
)
def test_nonsense_is_refused_by_file_and_line(
    content: str | bytes, said: str, write: Write
) -> None:
    assert said in refused(write(content))


@pytest.mark.parametrize("start", [COLUMNS, '{"a": "', '[{"a": "'])
def test_endless_lines_are_not_read_to_their_end(start: str, write: Write) -> None:
    message = refused(write(start + "9" * (MOST_BYTES_OF_LINE + 100_000)))
    assert "4 MiB" in message


@given(content=st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_requests_or_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        read(str(path))
    except InputError as refusal:
        assert str(refusal).isprintable()


@pytest.mark.parametrize("name", ["", "nowhere.csv", "a\0b", "\ud800"])
def test_files_that_are_not_there(name: str) -> None:
    with pytest.raises(InputError):
        Trace(name)


def test_a_directory_is_no_trace(tmp_path: Path) -> None:
    assert "a directory" in refused(str(tmp_path))


@pytest.mark.parametrize("members", [1, 50])
def test_a_small_file_that_unpacks_far_is_stopped(write: Write, members: int) -> None:
    """Also in several parts; the bytes unpacked are counted, not the time."""
    row = b'{"prompt_tokens": 1, "output_tokens": 2, "note": "' + b"x" * (1 << 20) + b'"}\n'
    path = write(gzip.compress(row * 20) * members)
    trace = Trace(path)
    read = 0
    with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
        for _ in trace:
            read += 1
    assert read <= MOST_UNPACKED >> 20


def test_a_trace_of_equal_rows_may_be_compressed(write: Write) -> None:
    rows = b"prompt_tokens,output_tokens\n" + b"1,2\n" * 100_000
    packed = gzip.compress(rows)
    assert len(rows) > MOST_TIMES * len(packed)
    assert sum(1 for _ in Trace(write(packed))) == 100_000


@pytest.mark.parametrize("row", [BAILIAN.splitlines()[0], COLUMNS.rstrip()])
def test_millions_of_empty_lines_are_not_read(row: str, write: Write) -> None:
    path = write(gzip.compress(row.encode() + b"\n" * 1_000_000))
    said: list[str] = []
    assert calls_in(lambda: said.append(refused(path))) < 20 * MOST_EMPTY
    assert "more than 10,000 empty lines in a row" in said[0]
    _, requests = read(write(f"{COLUMNS}1,2,3\n" + "\n" * MOST_EMPTY + "2,2,3\n"))
    assert len(requests) == 2
