"""Engine flags: read as ``vllm serve`` 0.33 reads them, refused as it refuses them."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.flag_table import Flag, all_flags, all_spellings
from vllm_kv_planner.engine_args.flags import FlagParser, add_engine_flags
from vllm_kv_planner.engine_args.serve_command import parse_serve_command
from vllm_kv_planner.errors import InputError, UnknownNameError

from .engine_cases import given_fields, serve


def test_every_understood_flag_is_a_field_and_the_other_way_round() -> None:
    understood = {flag.field for flag in all_flags() if flag.is_understood}
    assert understood == {field.name for field in fields(EngineArgs)} - {"usage_context"}


def test_the_set_of_flags_is_pinned() -> None:
    assert len(all_flags()) == 319
    spellings = all_spellings()
    assert len(spellings) == len(set(spellings))
    by_effect = [flag.effect for flag in all_flags()]
    assert {e: by_effect.count(e) for e in set(by_effect)} == {
        "kv_cache": 66,
        "memory": 30,
        "none": 173,
        "unsure": 50,
    }
    assert all(flag.why for flag in all_flags() if flag.effect == "unsure")


def test_help_lists_only_understood_flags() -> None:
    assert all(flag.is_understood for flag in all_flags() if flag.help)
    parser = FlagParser(prog="x")
    add_engine_flags(parser)
    text = parser.format_help()
    assert "--max-model-len" in text
    assert "--ssl-keyfile" not in text


@pytest.mark.parametrize("flag", all_flags(), ids=lambda flag: flag.spellings[0])
def test_every_flag_is_accepted(flag: Flag) -> None:
    value = {
        "int": "1",
        "float": "0.5",
        "quantity": "1k",
        "quantity_or_auto": "auto",
        "json": "{}",
        "json_or_text": "{}",
        "config": "{}",
        "json_value": "{}",
    }.get(flag.type, "pt" if flag.field == "load_format" else "x")
    if flag.field in ("attention_backend", "mamba_backend", "kv_cache_dtype", "quantization"):
        value = {"mamba_backend": "triton", "attention_backend": "auto"}.get(flag.field, "fp8")
    if flag.field in ("optimization_level", "spec_tokens", "kv_cache_dtype_skip_layers"):
        value = "1"
    if flag.choices:
        value = str(flag.choices[0])
    words = ["vllm", "serve", "m", flag.spellings[0]]
    if flag.field == "model":
        words = ["vllm", "serve", "--model"]
    command = parse_serve_command(words if flag.takes in ("switch", "set") else [*words, value])
    assert command.ignored == ((flag.spellings[0],) if flag.effect == "none" else ())
    noted = any(note.startswith(f"{flag.spellings[0]} is not modelled") for note in command.notes)
    assert noted is (flag.effect == "unsure")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--max-model-len 8k", {"max_model_len": 8000}),
        ("--max_model_len=8K", {"max_model_len": 8192}),
        ("--max-model-len auto", {"max_model_len": -1}),
        (
            "-tp 2 -pp 3 -dp 4 -dcp 2",
            {
                "tensor_parallel_size": 2,
                "pipeline_parallel_size": 3,
                "data_parallel_size": 4,
                "decode_context_parallel_size": 2,
            },
        ),
        ("-tp 2 -ep", {"tensor_parallel_size": 2, "enable_expert_parallel": True}),
        ("--no-enable-prefix-caching", {"enable_prefix_caching": False}),
        ("--disable-prefix-caching", {"enable_prefix_caching": False}),
        ("--enable-hybrid-kv-cache-manager", {"disable_hybrid_kv_cache_manager": False}),
        ("--no-async-scheduling", {"async_scheduling": False}),
        ("--device-memory-utilization 0.5", {"gpu_memory_utilization": 0.5}),
        ("--kv-cache-memory-bytes 40G", {"kv_cache_memory_bytes": 40 << 30}),
        ("--kv-cache-memory-bytes None", {}),
        ("--kv-cache-memory 40G", {"kv_cache_memory_bytes": 40 << 30}),  # argparse abbreviates
        ("-q awq", {"quantization": "awq"}),
        ("-O3", {"optimization_level": "3"}),
        ("-O 1", {"optimization_level": "1"}),
        ("-O=0", {"optimization_level": "0"}),
        (
            "--kv-cache-dtype-skip-layers 0 sliding_window --enforce-eager",
            {"kv_cache_dtype_skip_layers": ("0", "sliding_window"), "enforce_eager": True},
        ),
        (
            "--speculative-config.method eagle3 --speculative_config.num_speculative_tokens 3",
            {"speculative_config": {"method": "eagle3", "num_speculative_tokens": 3}},
        ),
        (
            "-sc.method ngram -sc.num_speculative_tokens=5",
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 5}},
        ),
        (
            "--limit-mm-per-prompt.image 2 --limit-mm-per-prompt.video.count 1",
            {"limit_mm_per_prompt": {"image": 2, "video": {"count": 1}}},
        ),
        (
            "--hf-overrides.max_position_embeddings 8K --hf-overrides.a+ 1,2 --hf-overrides.a+=3",
            {"hf_overrides": {"max_position_embeddings": 8192, "a": ["1", "2", "3"]}},
        ),
        (
            '--kv-transfer-config \'{"kv_connector":"X","kv_port":80m,"engine_id":"80m"}\'',
            {
                "kv_transfer_config": {
                    "kv_connector": "X",
                    "kv_port": 80_000_000,
                    "engine_id": "80m",
                }
            },
        ),
        ("-tp 2 -tp 4", {"tensor_parallel_size": 4}),
        ("--port 8000 --api-key a b --trust-remote-code", {}),
    ],
)
def test_spellings(line: str, expected: dict[str, object]) -> None:
    assert given_fields(line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--max-model-len 8KiB", "--max-model-len: '8KiB': vLLM takes no spelled-out units"),
        ("--max-model-len 0", "max_model_len must be a positive integer"),
        ("--max-num-seqs x", "--max-num-seqs: 'x' is not a whole number"),
        ("--max-num-seqs -5", "it must be at least 1"),
        ("--gpu-memory-utilization 1.01", "greater than 0 and at most 1"),
        ("--gpu-memory-utilization nan", "greater than 0 and at most 1"),
        ("--cpu-offload-gb nan", "is not a number"),
        ("--block-size 0", "it must be at least 1"),
        ("-tp 0", "--tensor-parallel-size: 0"),
        ("--tensor-parallel-size 2.0", "not a whole number"),
        ("--dtype int8", "valid: auto, bfloat16"),
        ("--kv-cache-dtype fp9", "nearest: fp8"),
        ("--attention-backend FLASHATTN", "nearest: FLASH_ATTN"),
        ("-q gptq2", "nearest: gptq"),
        ("--max-lora-rank 17", "valid: 1, 8, 16"),
        ("--speculative-config [1]", "not a JSON object"),
        ("--speculative-config {x", "not JSON"),
        ("--hf-overrides my.function", "only a JSON object"),
        ("--speculative-config.method", "expected a value"),
        ("-tp", "expected one argument"),
        ("extra", "unexpected argument 'extra'"),
        ("--model other", "two models"),
        ("--config=file.yaml", "write --config FILE"),
    ],
)
def test_refusals_in_one_line(line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        serve(f"org/model {line}")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--max-model-length", "--max-model-len"),
        ("--tensor_paralel_size", "--tensor-parallel-size"),
        ("--gpu-util", "--gpu-memory-utilization"),
        ("--max-len", "--max-model-len"),
        ("--tp-size", "--tensor-parallel-size"),
        ("-tp2", "-tp 2"),
    ],
)
def test_what_may_be_meant_for_a_flag_that_changes_the_plan_is_refused(
    flag: str, hint: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        serve(f"org/model {flag} 4")
    assert hint in str(caught.value)


@given(st.lists(st.text(max_size=10), max_size=6))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        parse_serve_command(["vllm", "serve", "m", *words])
    except InputError as error:
        assert len(str(error).splitlines()) <= 1
