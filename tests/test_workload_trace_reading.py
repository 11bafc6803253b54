"""How a trace is read, whatever its format: compressed, in pieces, and in order of time."""

from __future__ import annotations

import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace_files import AZURE, BURSTGPT, MOONCAKE, Write, read, refused, turns
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.workload import trace_rows as json_array
from vllm_kv_planner.workload.trace import REORDERED, in_order
from vllm_kv_planner.workload.trace_rows import TraceInput
from vllm_kv_planner.workload.types import TraceRequest

pytest_plugins = ["tests.trace_fixtures"]


@pytest.mark.parametrize("content", [BURSTGPT, AZURE, MOONCAKE, json.dumps([turns("x" * 40)])])
def test_gzip_reads_alike(content: str, write: Write) -> None:
    assert read(write(gzip.compress(content.encode())))[1] == read(write(content))[1]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(AZURE.encode())))
    )
    trace, found = read("-")
    assert (trace.where, len(found)) == ("standard input", 3)


def test_an_array_larger_than_any_chunk_is_read_item_by_item(write: Write) -> None:
    wide = [turns(f"{number} é😀" * 3000, "y" * 400) for number in range(40)]
    _, found = read(write(json.dumps(wide, ensure_ascii=False, indent=1)), every_length=True)
    assert [each.prompt_tokens for each in found] == [
        -(-len(each["conversations"][0]["value"]) // 4) for each in wide
    ]


@given(
    objects=st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none() | st.floats(allow_nan=False) | st.text(max_size=9),
                lambda inner: st.lists(inner, max_size=3),
            ),
            max_size=3,
        )
    ),
    chunk=st.integers(1, 9),
    plain=st.booleans(),
)
def test_an_array_may_be_cut_anywhere(
    objects: list[dict[str, object]],
    chunk: int,
    plain: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(json.dumps(objects, ensure_ascii=plain, indent=1), encoding="utf-8")
    file = TraceInput(str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK", chunk)
        assert [item for _, item in json_array.array_items(file)] == objects
    file.close()


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=20),
    indent=st.sampled_from([None, 0, 3]),
)
def test_csv_json_lines_and_arrays_say_the_same(
    rows: list[tuple[int, int]], indent: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("same")
    objects = [{"prompt_tokens": prompt, "output_tokens": output} for prompt, output in rows]
    texts = {
        "csv": "prompt_tokens,output_tokens\n" + "".join(f"{p},{o}\n" for p, o in rows),
        "jsonl": "".join(json.dumps(each) + "\n" for each in objects),
        "json": json.dumps(objects, indent=indent),
    }
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        assert read(str(path))[1] == [TraceRequest(0.0, p, o) for p, o in rows]


def test_nearly_sorted_requests_are_put_in_order(write: Write) -> None:
    trace = "timestamp,prompt_tokens,output_tokens\n9,1,1\n7,2,1\n7,3,1\n8,4,1\n"
    _, found = read(write(trace))
    assert [each[:2] for each in found] == [(0.0, 2), (0.0, 3), (1.0, 4), (2.0, 1)]


def test_far_out_of_order_is_refused() -> None:
    late = [TraceRequest(float(n), 1, 1) for n in range(REORDERED + 2)]
    late.append(TraceRequest(0.5, 1, 1))
    with pytest.raises(InputError, match=r"request 10,003 .* sort the trace"):
        list(in_order(late, "x.csv"))


def test_a_format_can_be_forced(write: Write) -> None:
    line = '{"timestamp": 2000, "input_length": 100, "output_length": 10}\n'
    late = line.replace("2000", "5000")
    assert read(write(line + late))[1][1].arrival == 3000
    assert read(write(line + late), form="mooncake")[1][1].arrival == 3
    assert "one of sharegpt, burstgpt" in refused(write(line), form="excel")
    assert "no column with the prompt's length" in refused(write(line), form="azure")
