"""Traces as they are published."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.trace_files import (
    AZURE,
    BAILIAN,
    BURSTGPT,
    MOONCAKE,
    Write,
    read,
    refused,
    turns,
)
from vllm_kv_planner.workload.types import Segment, TraceRequest

pytest_plugins = ["tests.trace_fixtures"]


def test_burstgpt(write: Write) -> None:
    trace, found = read(write(BURSTGPT))
    assert (trace.form.name, trace.clock) == ("burstgpt", "seconds")
    assert found == [
        TraceRequest(0.0, 472, 18),
        TraceRequest(40.0, 1087, 230),
        TraceRequest(113.0, 417, 276),
    ]
    assert trace.left_out == {"requests without an answer (failed ones)": 1}


def test_burstgpt_of_one_model_as_vllms_benchmark_takes_it(write: Write) -> None:
    trace, found = read(write(BURSTGPT), model="GPT-4")
    assert found == [TraceRequest(0.0, 417, 276)]
    assert trace.left_out == {
        "requests to other models": 2,
        "requests without an answer (failed ones)": 1,
    }


def test_the_newer_burstgpt_has_more_columns(write: Write) -> None:
    _, found = read(
        write(
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,"
            "Total tokens,Log Type\n0.5,a,3.2,GPT-4,10,20,30,API log\n"
        )
    )
    assert found == [TraceRequest(0.0, 10, 20)]


def test_azure(write: Write) -> None:
    trace, found = read(write(AZURE))
    assert (trace.form.name, trace.clock) == ("azure", "seconds")
    assert [each[1:3] for each in found] == [(374, 44), (396, 109), (879, 55)]
    assert [each.arrival for each in found] == pytest.approx([0.0, 4.314579, 60.0], abs=1e-5)


def test_azures_second_year_writes_zones(write: Write) -> None:
    _, found = read(
        write(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2024-05-10 00:00:00.009930+00:00,2162,5\n"
            "2024-05-10 02:00:01.009930+02:00,2399,6\n"
            "2024-05-10T00:00:02.009930Z,76,15\n"
        )
    )
    assert [each.arrival for each in found] == pytest.approx([0.0, 1.0, 2.0], abs=1e-5)


def test_mooncake(write: Write) -> None:
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


def test_ids_beyond_the_prompt_are_left_out_and_a_rest_without_one_is_its_own(write: Write) -> None:
    _, (found,) = read(
        write('{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2, 3]}')
    )
    assert found.prefix == (Segment(1, 512), Segment(2, 88))
    _, (found,) = read(
        write('{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1]}')
    )
    assert found.prefix == (Segment(1, 512),)


def test_bailian_hashes_16_tokens_and_counts_seconds(write: Write) -> None:
    trace, found = read(write(BAILIAN))
    assert trace.form.name == "bailian"
    assert found == [
        TraceRequest(0.0, 40, 521, (Segment(1089, 16), Segment(1090, 16), Segment(1091, 8)))
    ]


def test_own_csv_with_steps(write: Write) -> None:
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
def test_own_spellings(text: str, write: Write) -> None:
    trace, found = read(write(text))
    assert trace.clock == "seconds"
    assert found == [TraceRequest(0.0, 100, 10), TraceRequest(2.0, 200, 20)]


def test_own_prefixes(write: Write) -> None:
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


def test_sharegpt_as_vllms_benchmark_filters_it(write: Write) -> None:
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


def test_sharegpt_as_json_lines(write: Write) -> None:
    line = json.dumps(turns("x" * 400, "y" * 40))
    assert read(write(f"{line}\n{line}\n"))[1] == [TraceRequest(0.0, 100, 10)] * 2


def test_a_tokenizer_counts(write: Write, tmp_path: Path) -> None:
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


def test_a_tokenizer_needs_transformers(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = refused(write(json.dumps([turns("x" * 40, "y" * 40)])), tokenizer="gpt2")
    assert "pip install transformers" in message
