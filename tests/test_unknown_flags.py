"""Flags that vLLM 0.33 does not have: noted, put in today's words, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.capacity.sweep.run import sweep
from vllm_kv_planner.cli.planner_flags import command_parser
from vllm_kv_planner.engine_args import flag_table
from vllm_kv_planner.engine_args.flag_table import all_flags, all_spellings, older_flag, older_names
from vllm_kv_planner.engine_args.serve_command import parse_serve_command
from vllm_kv_planner.errors import InputError, UnknownNameError

from .engine_cases import given_fields, serve


def notes_of(line: str) -> str:
    return "\n".join(serve(line).notes)


def test_older_flags_are_not_those_of_today() -> None:
    today = set(all_spellings())
    assert not today & set(older_names())
    takes_words = {name for flag in all_flags() for name in flag.spellings}
    for name in older_names():
        flag = older_flag(name)
        assert flag is not None
        for words in (flag.words, flag.many, *flag.by_value.values()):
            assert {w for w in words or () if w.startswith("--")} <= takes_words


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("--task embed", {"runner": "pooling", "convert": "embed"}),
        ("--task generate", {"runner": "generate"}),
        ("--task auto", {}),
        ("--cuda-graph-sizes 16", {"max_cudagraph_capture_size": 16}),
        ("--cuda_graph_sizes 1 2 4 -tp 2", {"cudagraph_capture_sizes": (1, 2, 4)}),
        ("--worker-use-ray", {"distributed_executor_backend": "ray"}),
        ("--enable-multimodal-encoder-data-parallel", {"mm_encoder_tp_mode": "data"}),
        (
            "--speculative-model a/draft --num-speculative-tokens=3",
            {"spec_model": "a/draft", "spec_tokens": 3},
        ),
        ("--speculative-model [ngram]", {"spec_method": "ngram"}),
        (
            """--rope-scaling '{"rope_type": "yarn", "factor": 4.0}'""",
            {"hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}},
        ),
        ("--enable-chunked-prefill False", {"enable_chunked_prefill": False}),
        ("--enable-chunked-prefill=true", {"enable_chunked_prefill": True}),
        ("--enable-prefix-caching=FALSE", {"enable_prefix_caching": False}),
    ],
)
def test_older_flags_in_the_words_of_today(line: str, fields: dict[str, object]) -> None:
    """Meanings as in the arg_utils.py of 0.6 to 0.11."""
    given = given_fields(line)
    given.pop("tensor_parallel_size", None)
    assert given == fields
    assert line.split(maxsplit=1)[0].split("=", maxsplit=1)[0].replace("_", "-") in notes_of(
        f"org/model {line}"
    )


@pytest.mark.parametrize(
    "line",
    [
        "--swap-space 4",
        "--use-v2-block-manager --num-scheduler-steps 8",
        "--guided-decoding-backend xgrammar",
        "--enable-reasoning --preemption-mode recompute",
        "--device cuda",
        "--rope-theta 1e6",
        "--multi-step-stream-outputs False --max-seq-len-to-capture 8192",
    ],
)
def test_older_flags_that_change_nothing_now(line: str) -> None:
    assert given_fields(line) == {}
    notes = notes_of(f"org/model {line}")
    for word in line.split():
        assert not word.startswith("--") or f"vLLM 0.33 has no {word}:" in notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--num-redundant-experts 2", "--eplb-config.num_redundant_experts"),
        ("--speculative-max-model-len 2", "--speculative-config.max_model_len"),
        ("--device cpu", "known: auto, cuda"),
        ("--task sing", "'sing' cannot be planned for"),
        ("--rope-scaling {} --hf-overrides {}", "write it into --hf-overrides"),
        ("--rope-scaling", "expected a value"),
        ("--swap-space 4 " * 60, "more than 50 flags"),
        ("--enforce-eager true", "takes no value here"),
        ("--enforce-eager=True", "takes no value here"),
        ("--disable-chunked-prefill true", "takes no value here"),
    ],
)
def test_what_cannot_be_planned_without_guessing(line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        serve(f"org/model {line}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--frobnicate 3", "unknown flag --frobnicate, which vllm serve 0.33 refuses"),
        ("--servd-model-name x", "did you mean --served-model-name?"),
        ("--frobnicate org/other", "--frobnicate"),
        ("-tp2", "did you mean -tp 2?"),
        ("--context-length 4096", "did you mean --max-model-len?"),
        ("--mem-fraction-static 0.8", "did you mean --gpu-memory-utilization?"),
        ("--port abc", "'abc' is not a whole number"),
        ("--uvicorn-log-level loud", "valid: critical, debug"),
    ],
)
def test_what_vllm_refuses_in_a_command(line: str, message: str) -> None:
    """As its own parser does, 0.33."""
    with pytest.raises(InputError) as caught:
        serve(f"org/model {line}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('--attention-config {"foo":1}', "has no 'foo'"),
        ("-ac.foo 1", "has no 'foo'"),
        ('--compilation-config {"cudagraph_capture_size":[1]}', "nearest: cudagraph_capture_sizes"),
        ("--compilation-config.pass_config.fuse 1", "has no 'pass_config.fuse'"),
        ('--eplb-config {"windows":1}', "has no 'windows'"),
        ("--speculative-config.foo 1", "has no 'foo'"),
        ("--kv-transfer-config.kv_rank 0", "connectors number their engines"),
        ('--kernel-config {"foo":1}', "has no 'foo'"),
        ('--pooler-config {"foo":1}', "has no 'foo'"),
        ('--structured-outputs-config {"foo":1}', "has no 'foo'"),
        ('--kv-events-config {"foo":1}', "has no 'foo'"),
    ],
)
def test_keys_that_vllm_refuses(line: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_serve_command(["vllm", "serve", "org/model", *line.split()])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('--eplb-config {"num_redundant_experts":"abc"}', "'abc'; vLLM 0.33 takes a whole number"),
        ("--eplb-config.window_size 0", "window_size is 0; vLLM 0.33 takes a whole number above 0"),
        ("-ac.use_non_causal perhaps", "'perhaps'; vLLM 0.33 takes true or false"),
        ("-ac.tokenspeed_mla_min_split_kv 300", "a whole number from 1 up 256 at most"),
        ('-cc {"pass_config":{"eliminate_noops":3}}', "pass_config.eliminate_noops is 3"),
        ('-cc {"compile_sizes":[1.5]}', "compile_sizes is [1.5]"),
        ("--kv-transfer-config.kv_role both", "one of kv_producer, kv_both, kv_consumer"),
        ("--kernel-config.monokernel 7", "true or false"),
        ('-sc {"method":"ngram","num_speculative_tokens":"two"}', "'two'; vLLM 0.33 takes"),
    ],
)
def test_values_of_keys_that_vllm_refuses(line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_serve_command(["vllm", "serve", "org/model", *line.split()])
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("--eplb-config.window_size 7.0", {"eplb_config": {"window_size": 7}}),
        ("-ac.use_non_causal on", {"attention_config": {"use_non_causal": True}}),
        (
            "--attention-config.use_fp4_indexer_cache true",
            {"attention_config": {"indexer_kv_dtype": "mxfp4"}},
        ),
        ("-cc.level 3", {"compilation_config": {"mode": 3}}),
        ("-cc.full_cuda_graph true", {"compilation_config": {"cudagraph_mode": "FULL"}}),
        (
            "--speculative-config.num-speculative-tokens 3",
            {"speculative_config": {"num_speculative_tokens": 3}},
        ),
    ],
)
def test_keys_of_older_versions_in_the_words_of_today(line: str, fields: object) -> None:
    assert given_fields(line) == fields


def test_a_misspelt_flag_of_the_command_itself_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean --format"):
        command_parser("plan").parse_args(["gpt2", "--formt", "json"])


def test_unknown_keys_of_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("swap_space: 4\ncuda-graph-sizes: [1, 2]\ntensor-parallel-size: 2\n")
    command = parse_serve_command(["vllm", "serve", "org/model", "--config", str(path)])
    assert command.engine_args.cudagraph_capture_sizes == (1, 2)
    assert command.engine_args.tensor_parallel_size == 2
    assert "no --swap-space" in "\n".join(command.notes)
    path.write_text("tensor-parallel-size: 2\nmystery: {a: b}\n")
    with pytest.raises(UnknownNameError, match="unknown flag --mystery"):
        parse_serve_command(["vllm", "serve", "org/model", "--config", str(path)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("vllm-openai:v0.12.0 org/model --attention-backend FLASH_ATTN", "it came with 0.13.0"),
        ("vllm-openai:v0.20.0 org/model --watermark-config {}", "0.20.0 has no --watermark-config"),
        ("vllm-openai:v0.20.0 org/model -sc.method ngram --spec-model x", "it came with 0.22.0"),
        ("vllm-openai:v0.10.1 org/model -dcp 1", "vLLM 0.10.1 has no -dcp: it came with 0.10.2"),
        (
            "vllm-openai:v0.25.0 org/model --no-enable-hc-sp",
            "no --no-enable-hc-sp: it came",
        ),
        ("vllm-openai:v0.20.0 org/model --swap-space 4", "it went after 0.17.1"),
        ("vllm-openai:v0.20.0 org/model --worker-use-ray", "it went before 0.10.0"),
    ],
)
def test_flags_that_the_version_of_a_command_does_not_have(line: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_serve_command(f"docker run vllm/{line}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "vllm-openai:v0.13.0 org/model --attention-backend FLASH_ATTN",
        "vllm-openai:v0.17.0 org/model --swap-space 4",
        "vllm-openai:v0.10.0 org/model --cuda-graph-sizes 512",
        "vllm-openai:v0.34.0 org/model --watermark-config {}",
        "vllm-openai:v0.25.0rc1 org/model --jit-monitor-mode warn",
        "vllm-openai:v0.33.0 org/model --prefix-match-unit 16",
    ],
)
def test_flags_that_the_version_of_a_command_has(line: str) -> None:
    assert parse_serve_command(f"docker run vllm/{line}").engine_args.model == "org/model"


def test_flags_of_versions_beside_a_model_in_python_and_in_sweeps() -> None:
    with pytest.raises(UnknownNameError, match="it came with 0"):
        plan("gpt2", vllm_version="0.20", prefix_match_unit=16)
    with pytest.raises(UnknownNameError, match="it came with 0"):
        command_parser("plan").parse_args(
            ["gpt2", "--vllm-version", "v0.20.1", "--prefix-match-unit", "16"]
        )
    rows = sweep(
        "gpt2", vllm_versions=["0.20", "0.27"], grid={"prefix_match_unit": [None, 16]}, workers=1
    )
    errors = [row[rows.columns.index("error")] for row in rows.rows]
    assert [error is None for error in errors].count(True) == 3
    assert "vLLM 0.20 has no --prefix-match-unit: it came with 0.26.0" in errors


def test_the_table_of_versions_agrees_with_the_flags_of_today() -> None:
    folder = Path(flag_table.__file__).parent
    table = json.loads((folder / "flag_versions.json").read_text())
    today = {name for flag in all_flags() for name in flag.spellings}
    gone = {name for name, row in table["flags"].items() if row[1] != table["versions"][-1]}
    assert not gone & today
    assert gone <= set(older_names())
    assert {name for name in table["flags"] if name not in gone} <= today
    assert table["versions"][0] == "0.10.0"
    assert table["versions"][-1] == "0.33.0"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("--ctx-window", "--max-model-len"),
        ("--sequence-len", "--max-model-len"),
        ("--num-parallel-requests", "--max-num-seqs"),
        ("--max-seqs", "--max-num-seqs"),
        ("--num-gpu", "--tensor-parallel-size"),
        ("--kv-cache-size", "--kv-cache-memory-bytes"),
        ("--load-in-4bit", "--quantization"),
        ("--out-format", "--format json"),
        ("--gpu-mem-fraction", "--gpu-memory-utilization"),
        ("--kv-cache-precision", "--kv-cache-dtype"),
    ],
)
def test_words_that_stand_for_one_another(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        command_parser("plan").parse_args(["gpt2", name, "4"])
    assert f"did you mean {meant.split(maxsplit=1)[0]}" in str(caught.value)
