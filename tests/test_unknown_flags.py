"""Flags that vLLM 0.33 does not have: noted, put in today's words, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_kv_planner.cli.plan_command import make_parser
from vllm_kv_planner.engine_args.arguments import prepare_arguments
from vllm_kv_planner.engine_args.flag_table import all_flags, all_spellings
from vllm_kv_planner.engine_args.flags import unsure_notes
from vllm_kv_planner.engine_args.older_flags import older_flag, older_names
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
        (" ".join(f"--zzz{i}q" for i in range(60)), "more than 50 flags"),
    ],
)
def test_what_cannot_be_planned_without_guessing(line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        serve(f"org/model {line}")
    assert message in str(caught.value)


def test_a_flag_nobody_knows_is_named_with_what_it_took() -> None:
    command = serve("org/model --frobnicate 3 --zzz -tp 2 --my-api-token-q abc")
    assert command.engine_args.tensor_parallel_size == 2
    assert command.engine_args.model == "org/model"
    first, second, third = command.notes
    assert first.startswith("--frobnicate: no flag of vLLM 0.33") and "'3'" in first
    assert second.startswith("--zzz: no flag") and "value" not in second
    assert "abc" not in third  # it may be a secret


def test_a_harmless_flag_misspelt_is_named_with_the_nearest() -> None:
    assert "nearest: --served-model-name" in notes_of("org/model --servd-model-name x")


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("--frobnicate org/model", "org/model"),
        ("--frobnicate 3 org/model", "org/model"),
        ("--frobnicate org/model --zzz 3", "org/model"),
        ("org/model --frobnicate other/model", "org/model"),
        ("--model org/model --frobnicate other/model", "org/model"),
        ("--frobnicate -1 org/model", "org/model"),
    ],
)
def test_an_unknown_flag_does_not_swallow_the_model(line: str, model: str) -> None:
    assert serve(line).engine_args.model == model
    given = make_parser().parse_args(prepare_arguments(line.split()))
    assert (given.model_tags or [given.model])[-1] == model
    assert "--frobnicate" in unsure_notes(given)[0]


def test_a_misspelt_flag_of_the_command_itself_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean --format"):
        make_parser().parse_args(["gpt2", "--formt", "json"])


def test_unknown_keys_of_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "frobnicate: [1, 2]\nzzz: false\nmystery: {a: b}\nswap_space: 4\ncuda-graph-sizes: [1, 2]\n"
        "tensor-parallel-size: 2\n"
    )
    command = parse_serve_command(["vllm", "serve", "org/model", "--config", str(path)])
    assert command.engine_args.cudagraph_capture_sizes == (1, 2)
    assert command.engine_args.tensor_parallel_size == 2
    notes = "\n".join(command.notes)
    for name in ("--frobnicate", "--zzz", "--mystery", "no --swap-space"):
        assert name in notes
