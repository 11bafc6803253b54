"""Pasted commands that start a server."""

from __future__ import annotations

import pytest

from vllm_kv_planner.engine_args.engine_args import EngineArgs, read_environment
from vllm_kv_planner.engine_args.serve_command import parse_serve_command
from vllm_kv_planner.errors import InputError


def test_a_pasted_command() -> None:
    command = parse_serve_command(
        "$ HF_TOKEN=secret CUDA_VISIBLE_DEVICES=0,1 VLLM_USE_V2_MODEL_RUNNER=0 \\\n"
        "  vllm serve Qwen/Qwen3-8B \\ \n"
        "    --tensor-parallel-size 2 --port 8000 \\\r\n"
        "    --enable-sleep-mode > log.txt 2>&1 &"
    )
    assert command.engine_args.model == "Qwen/Qwen3-8B"
    assert command.engine_args.tensor_parallel_size == 2
    assert command.environment.use_v2_model_runner is False
    assert command.environment.visible_devices == ("0", "1")
    assert command.ignored == ("--port",)
    assert len(command.notes) == 1
    assert "--enable-sleep-mode" in command.notes[0]
    assert "secret" not in repr(command)


@pytest.mark.parametrize(
    "line",
    [
        "python -m vllm.entrypoints.openai.api_server --model a/b -tp 2",
        "nohup python3.12 -m vllm.entrypoints.openai.api_server --tensor_parallel_size=2 "
        "--model=a/b &",
        "sudo -E /opt/venv/bin/vllm serve a/b -tp 2 | tee log",
        "cd /srv && uv run vllm serve --model a/b -tp 2; echo done",
        "docker run --gpus all --ipc=host -p 8000:8000 -v /x:/y vllm/vllm-openai:v0.33.0 "
        "--model a/b -tp 2",
        "docker run vllm/vllm-openai serve a/b -tp 2",
        "python3 -m vllm.entrypoints.cli.main serve a/b -tp 2",
    ],
)
def test_the_ways_to_start_a_server(line: str) -> None:
    args = parse_serve_command(line).engine_args
    assert args == EngineArgs(model="a/b", tensor_parallel_size=2)


def test_words_already_split_by_the_shell() -> None:
    words = ["vllm", "serve", "a/b", "--revision", "", "\\", "-tp", "2"]
    assert parse_serve_command(words).engine_args == EngineArgs(model="a/b", tensor_parallel_size=2)
    assert parse_serve_command(["vllm serve a/b -tp 2"]).engine_args.tensor_parallel_size == 2


def test_container_environment() -> None:
    command = parse_serve_command(
        "docker run -e VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 --env=VLLM_PP_LAYER_PARTITION=3,5 "
        "vllm/vllm-openai:latest --model a/b"
    )
    assert command.environment.allow_long_max_model_len
    assert command.environment.pp_layer_partition == "3,5"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ls -l", "no vLLM server"),
        ("", "no vLLM server"),
        ("vllm bench serve", "only vllm serve"),
        ("vllm serve 'a", "no closing quotation"),
        ("vllm serve --served-model-name x a/b", "first positional argument"),
        ("VLLM_USE_V2_MODEL_RUNNER=yes vllm serve a", "reads a whole number"),
        ("x" * 200_000, "longer than"),
    ],
)
def test_commands_that_cannot_be_read(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_serve_command(line)


def test_notes_of_a_command() -> None:
    command = parse_serve_command(
        "VLLM_ATTENTION_BACKEND=FLASHINFER CUDA_VISIBLE_DEVICES=0 VLLM_FOO=1 vllm serve -tp 4"
    )
    assert command.engine_args.model == "Qwen/Qwen3-0.6B"
    notes = "\n".join(command.notes)
    assert "no model named" in notes
    assert "not read by vLLM 0.33" in notes
    assert "VLLM_FOO" in notes
    assert "1 GPUs (CUDA_VISIBLE_DEVICES) but asks for 4" in notes


def test_environment_words() -> None:
    env = read_environment({"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "True", "HOME": "/x"})
    assert env.allow_long_max_model_len
    assert env.others == ()
    assert env.visible_devices is None
