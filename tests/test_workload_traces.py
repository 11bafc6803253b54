"""Traces as they are published, and as nobody should publish them."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.workload.source import RequestSource
from vllm_kv_planner.capacity.workload.traces.lines import MOST_BYTES_OF_LINE
from vllm_kv_planner.capacity.workload.traces.read import (
    REORDERED,
    Trace,
    TraceOptions,
    in_order,
)
from vllm_kv_planner.capacity.workload.types import Segment, TraceRequest
from vllm_kv_planner.errors import InputError

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


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(content: str | bytes, name: str = "trace") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return written


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


def test_burstgpt(write: Any) -> None:
    trace, found = read(write(BURSTGPT))
    assert (trace.form.name, trace.clock) == ("burstgpt", "seconds")
    assert found == [
        TraceRequest(0.0, 472, 18),
        TraceRequest(40.0, 1087, 230),
        TraceRequest(113.0, 417, 276),
    ]
    assert trace.left_out == {"requests without an answer (failed ones)": 1}


def test_burstgpt_of_one_model_as_vllms_benchmark_takes_it(write: Any) -> None:
    trace, found = read(write(BURSTGPT), model="GPT-4")
    assert found == [TraceRequest(0.0, 417, 276)]
    assert trace.left_out == {
        "requests to other models": 2,
        "requests without an answer (failed ones)": 1,
    }


def test_the_newer_burstgpt_has_more_columns(write: Any) -> None:
    _, found = read(
        write(
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,"
            "Total tokens,Log Type\n0.5,a,3.2,GPT-4,10,20,30,API log\n"
        )
    )
    assert found == [TraceRequest(0.0, 10, 20)]


def test_azure(write: Any) -> None:
    trace, found = read(write(AZURE))
    assert (trace.form.name, trace.clock) == ("azure", "seconds")
    assert [each[1:3] for each in found] == [(374, 44), (396, 109), (879, 55)]
    assert [each.arrival for each in found] == pytest.approx([0.0, 4.314579, 60.0], abs=1e-5)


def test_azures_second_year_writes_zones(write: Any) -> None:
    _, found = read(
        write(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2024-05-10 00:00:00.009930+00:00,2162,5\n"
            "2024-05-10 02:00:01.009930+02:00,2399,6\n"
            "2024-05-10T00:00:02.009930Z,76,15\n"
        )
    )
    assert [each.arrival for each in found] == pytest.approx([0.0, 1.0, 2.0], abs=1e-5)


def test_mooncake(write: Any) -> None:
    trace, (first, second) = read(write(MOONCAKE))
    assert (trace.form.name, trace.clock) == ("mooncake", "seconds")
    assert first[:3] == (0.0, 6955, 52)
    assert second.arrival == pytest.approx(3.053)
    # 13 whole blocks of 512 tokens and 299 tokens; 12 whole ones and 328
    assert first.prefix[-2:] == (Segment(2353, 512), Segment(2354, 299))
    assert second.prefix[-1] == Segment(2366, 328)
    assert [len(each.prefix) for each in (first, second)] == [14, 13]
    assert first.prefix[:12] == second.prefix[:12]
    assert sum(each.tokens for each in first.prefix) == 6955


def test_ids_beyond_the_prompt_are_left_out_and_a_rest_without_one_is_its_own(write: Any) -> None:
    _, (found,) = read(
        write('{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2, 3]}')
    )
    assert found.prefix == (Segment(1, 512), Segment(2, 88))
    _, (found,) = read(
        write('{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1]}')
    )
    assert found.prefix == (Segment(1, 512),)


def test_bailian_hashes_16_tokens_and_counts_seconds(write: Any) -> None:
    trace, found = read(write(BAILIAN))
    assert trace.form.name == "bailian"
    assert found == [
        TraceRequest(0.0, 40, 521, (Segment(1089, 16), Segment(1090, 16), Segment(1091, 8)))
    ]


def test_own_csv_with_steps(write: Any) -> None:
    trace, found = read(write("arrival,prompt_tokens,output_tokens\n0,100,10\n2.5,200,20\n"))
    assert (trace.form.name, trace.clock) == ("columns", "steps")
    assert found == [TraceRequest(0.0, 100, 10), TraceRequest(2.5, 200, 20)]


@pytest.mark.parametrize(
    "text",
    [
        "Timestamp;Input length;Output-Length\r\n1;100;10\r\n3;200;20.0\r\n",
        "timestamp_ms\tinput_tokens\tcompletion_tokens\n1000\t100\t10\n3000\t200\t20\n",
        "\ufeffarrived_at,num_prefill_tokens,num_decode_tokens\n1,100,10\n\n3,200,20",
        '{"timestamp": 1, "input_length": 100, "output_length": 10}\n'
        '\n{"timestamp": 3.0, "input_length": 200, "output_length": 20}',
        '[{"timestamp": 1, "prompt_tokens": 100, "output_tokens": 10},\n'
        ' {"timestamp": 3, "prompt_tokens": 200, "output_tokens": 20}]\n',
    ],
)
def test_own_spellings(text: str, write: Any) -> None:
    trace, found = read(write(text))
    assert trace.clock == "seconds"
    assert found == [TraceRequest(0.0, 100, 10), TraceRequest(2.0, 200, 20)]


def test_own_prefixes(write: Any) -> None:
    _, found = read(
        write(
            "prompt_tokens,output_tokens,prefix_id,prefix_tokens\n"
            "100,1,chat,60\n100,1,chat,80\n100,1,,50\n100,1,chat,\n100,1,chat,0\n"
        )
    )
    assert [each.prefix for each in found] == [
        (Segment("chat", 60),),
        (Segment("chat", 80),),
        (Segment("", 50),),
        (),
        (),
    ]


def test_sharegpt_as_vllms_benchmark_filters_it(write: Any) -> None:
    conversations = [
        turns("x" * 4000, "y" * 400, "never looked at"),  # 1,000 and 100 tokens of 4 characters
        turns("only the question"),
        turns("x" * 12, "y" * 400),  # 3 tokens: fewer than 4
        turns("x" * 400, "y" * 12),
        turns("x" * 4100, "y" * 400),  # 1,025 tokens: more than 1,024
        turns("x" * 4096, "y" * 4096),  # 1,024 + 1,024 = 2,048: just allowed
        turns("x" * 4096, "y" * 4097),
        turns(),
    ]
    trace, found = read(write(json.dumps(conversations)))
    assert (trace.form.name, trace.clock) == ("sharegpt", "none")
    assert found == [TraceRequest(0.0, 1000, 100), TraceRequest(0.0, 1024, 1024)]
    assert trace.left_out == {
        "conversations of fewer than two turns": 2,
        "conversations that vLLM's benchmark leaves out for their length": 4,
    }
    assert "--tokenizer" in trace.notes[0]
    _, every = read(write(json.dumps(conversations)), every_length=True)
    assert len(every) == 6


def test_sharegpt_as_json_lines(write: Any) -> None:
    line = json.dumps(turns("x" * 400, "y" * 40))
    assert read(write(f"{line}\n{line}\n"))[1] == [TraceRequest(0.0, 100, 10)] * 2


def test_a_tokenizer_counts(write: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is optional")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}'
    )
    path = write(json.dumps([turns("one two three four five", "six seven eight nine")]))
    trace, found = read(path, tokenizer=str(tmp_path))
    assert found == [TraceRequest(0.0, 5, 4)]
    assert trace.notes == []
    assert "--tokenizer" in refused(path, tokenizer=str(tmp_path / "nothing"))


def test_a_tokenizer_needs_transformers(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = refused(write(json.dumps([turns("x" * 40, "y" * 40)])), tokenizer="gpt2")
    assert "pip install transformers" in message


@pytest.mark.parametrize("content", [BURSTGPT, AZURE, MOONCAKE, json.dumps([turns("x" * 40)])])
def test_gzip_reads_alike(content: str, write: Any) -> None:
    assert read(write(gzip.compress(content.encode())))[1] == read(write(content))[1]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(AZURE.encode()))))
    trace, found = read("-")
    assert (trace.where, len(found)) == ("standard input", 3)


def test_an_array_larger_than_any_chunk_is_read_item_by_item(write: Any) -> None:
    wide = [turns(f"{number} é😀" * 3000, "y" * 400) for number in range(40)]
    _, found = read(write(json.dumps(wide, ensure_ascii=False, indent=1)), every_length=True)
    assert [each.prompt_tokens for each in found] == [
        -(-len(each["conversations"][0]["value"]) // 4) for each in wide
    ]


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


def test_nearly_sorted_requests_are_put_in_order(write: Any) -> None:
    trace = "timestamp,prompt_tokens,output_tokens\n9,1,1\n7,2,1\n7,3,1\n8,4,1\n"
    _, found = read(write(trace))
    assert [each[:2] for each in found] == [(0.0, 2), (0.0, 3), (1.0, 4), (2.0, 1)]


def test_far_out_of_order_is_refused() -> None:
    late = [TraceRequest(float(n), 1, 1) for n in range(REORDERED + 2)]
    late.append(TraceRequest(0.5, 1, 1))
    with pytest.raises(InputError, match=r"request 10,003 .* sort the trace"):
        list(in_order(late, "x.csv"))


COLUMNS = "timestamp,prompt_tokens,output_tokens\n"


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
        (COLUMNS + "1,2,3\n1,x,3\n", 'line 3: prompt_tokens "x" is no number'),
        (COLUMNS + "1,-2,3\n", "line 2: prompt_tokens -2"),
        (COLUMNS + "1,2.5,3\n", "prompt_tokens 2.5 is no number of tokens"),
        (COLUMNS + "1,nan,3\n", "prompt_tokens NaN"),
        (COLUMNS + "1,inf,3\n", "prompt_tokens Infinity"),
        (COLUMNS + "1,1e12,3\n", "0 to 1,000,000,000"),
        (COLUMNS + "1,,3\n", "prompt_tokens is empty"),
        (COLUMNS + "-1,2,3\n", "timestamp -1"),
        (COLUMNS + "nan,2,3\n", "timestamp NaN"),
        (COLUMNS + "1700000000000,2,3\n", "name the column timestamp_ms"),
        (COLUMNS + "2023-99-16 18:15:46,2,3\n", "is no date"),
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
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5}', "5 is no list"),
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
        ('[{"conversations": 5}]', "conversations 5 is no list"),
        ('[{"conversations": [5, 6]}]', "a turn is 5"),
        ('[{"conversations": [{"value": 1}, {"value": 2}]}]', "a turn is an object"),
    ],
)
def test_nonsense_is_refused_by_file_and_line(content: str | bytes, said: str, write: Any) -> None:
    assert said in refused(write(content))


@pytest.mark.parametrize("start", [COLUMNS, '{"a": "', '[{"a": "'])
def test_endless_lines_are_not_read_to_their_end(start: str, write: Any) -> None:
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


def test_a_format_can_be_forced(write: Any) -> None:
    line = '{"timestamp": 2000, "input_length": 100, "output_length": 10}\n'
    late = line.replace("2000", "5000")
    assert read(write(line + late))[1][1].arrival == 3000
    assert read(write(line + late), form="mooncake")[1][1].arrival == 3
    assert "one of sharegpt, burstgpt" in refused(write(line), form="excel")
    assert "no column with the prompt's length" in refused(write(line), form="azure")


def test_times_in_seconds_need_a_step_time_or_to_be_left_out(write: Any) -> None:
    path = write(AZURE)
    with pytest.raises(InputError, match="--step-time"):
        RequestSource(trace=path).open()
    timed = RequestSource(trace=path, step_time=0.03, scale=2.0).open()
    assert timed.arrivals == "as in the trace, 2 times as fast"
    assert [each.arrival for each in timed.requests] == pytest.approx([0, 2.157, 30], abs=1e-3)
    for flags in ({"arrivals": "all"}, {"concurrency": 2}):
        found = RequestSource(trace=path, **flags).open()  # type: ignore[arg-type]
        assert [each.arrival for each in found.requests] == [0.0, 0.0, 0.0]
    paced = RequestSource(trace=path, rate=0.5, arrivals="constant").open()
    assert [each.arrival for each in paced.requests] == [0.0, 2.0, 4.0]


def test_times_that_do_not_count_are_not_looked_at(write: Any) -> None:
    path = write(COLUMNS + "whenever,2,3\n")
    assert list(RequestSource(trace=path, concurrency=1).open().requests) == [
        TraceRequest(0.0, 2, 3)
    ]


def test_some_requests_of_a_trace(write: Any) -> None:
    opened = RequestSource(trace=write(AZURE), requests=2, arrivals="all").open()
    assert (opened.total, len(list(opened.requests))) == (2, 2)
    with pytest.raises(InputError, match="--scale"):
        RequestSource(trace=write(AZURE), scale=2.0, arrivals="all").open()


def test_what_was_left_out_is_told(write: Any) -> None:
    opened = RequestSource(trace=write(BURSTGPT), concurrency=1).open()
    assert len(list(opened.requests)) == 3
    assert opened.notes() == ("1 left out: requests without an answer (failed ones)",)
