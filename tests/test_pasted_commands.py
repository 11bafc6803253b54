"""Commands as people paste them: wrappers, containers, manifests' lists, what nobody filled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vllm_kv_planner.cli import main
from vllm_kv_planner.engine_args.serve_command import parse_serve_command, server_words
from vllm_kv_planner.errors import InputError

POD = """apiVersion: v1
kind: Pod
spec:
  containers:
  - name: proxy
    image: nginx
    command: [nginx]
  - name: vllm
    image: vllm/vllm-openai:v0.19.0
    args: [--model, a/b, -tp, '2']
"""
COMPOSE = """services:
  vllm:
    image: vllm/vllm-openai:v0.19.0
    command: --model a/b -tp 2
    environment: {VLLM_USE_V2_MODEL_RUNNER: 0}
  web: {image: nginx, command: nginx}
"""


@pytest.mark.parametrize(
    "command",
    [
        "sh -c 'vllm serve a/b -tp 2'",
        ["/bin/sh", "-c", "python3 -m vllm.entrypoints.openai.api_server --model a/b -tp 2"],
        ["bash", "-lc", "cd /app && . x/activate && exec vllm serve a/b -tp 2 2>&1 | tee log"],
        'bash -c "export CUDA_VISIBLE_DEVICES=0,1; vllm serve a/b --tensor-parallel-size 2"',
        "eval 'vllm serve a/b -tp 2'",
        "ssh host 'vllm serve a/b -tp 2'",
        'MODEL=a/b; vllm serve "$MODEL" -tp ${TP:-2}',
        "sh -c 'MODEL=a/b\nvllm serve $MODEL -tp 2'",
        "vllm serve a/b --port $PORT --host=${HOST} --api-key $KEY -tp 2",
        "vllm serve a/b --kv-cache-memory-bytes=${KV_BYTES-} -tp 2",
        "docker run --entrypoint vllm vllm/vllm-openai serve a/b -tp 2",
        "docker run -d --gpus '\"device=0,1\"' --entrypoint python3 x/y:1 "
        "-m vllm.entrypoints.openai.api_server --model a/b -tp 2",
        "docker run -itd --rm -p80:80 -eA=1 --entrypoint /bin/bash x/y -c 'vllm serve a/b -tp 2'",
        "podman run --device nvidia.com/gpu=all docker.io/vllm/vllm-openai --model a/b -tp 2",
        "docker pull vllm/vllm-openai && docker run vllm/vllm-openai --model a/b -tp 2",
        "docker run nvcr.io/nvidia/vllm:25.09-py3 vllm serve a/b -tp 2",
        "kubectl run v --image=vllm/vllm-openai -- --model a/b -tp 2",
        'args: ["--model", "a/b", "--tensor-parallel-size=2"]',
        '["vllm", "serve", "a/b", "-tp", "2"]',
        '- --model\n- a/b\n- -tp\n- "2"',
        "command: [/bin/sh, -c]\nargs: [vllm serve a/b -tp 2]",
        "command: >\n  --model a/b\n  --tensor-parallel-size 2\n",
        ["args:", "[--model,", "a/b,", "-tp,", "2]"],
        ["-", "--model", "-", "a/b", "-", "-tp", "-", "2"],
        ["--model", "a/b", "-tp", "2"],
        ["serve", "a/b", "-tp", "2"],
        ["a/b", "-tp", "2"],
        "python3 -m dynamo.vllm --model a/b --is-prefill-worker --connector nixl kvbm -tp 2",
        "python -m dynamo.frontend & python3 -m dynamo.vllm --model a/b -tp 2 --migration-limit=3",
        "uv run --with vllm vllm serve a/b -tp 2",
        "uvx vllm@0.33.0 serve a/b -tp 2",
        "uv run --with 'vllm[audio]==0.31.0' vllm serve a/b -tp 2",
        'CMD ["vllm", "serve", "a/b", "-tp", "2"]',
        'FROM vllm/vllm-openai:v0.31.0\nENTRYPOINT ["vllm", "serve"]\nCMD ["a/b", "-tp", "2"]',
        "FROM x/y\nRUN pip install vllm\nCMD vllm serve a/b \\\n  -tp 2\n",
        "sh -lc 'exec vllm serve a/b -tp 2'",
        "python -m vllm.entrypoints.cli.main serve a/b -tp 2",
        "srun -N1 --container-image=vllm/vllm-openai:v0.31.0 vllm serve a/b -tp 2",
        "singularity run --nv docker://vllm/vllm-openai:v0.31.0 --model a/b -tp 2",
        "singularity exec --nv vllm-openai.sif vllm serve a/b -tp 2",
        "torchrun --nproc-per-node 2 -m vllm.entrypoints.openai.api_server --model a/b -tp 2",
        "ExecStart=/usr/bin/vllm serve a/b -tp 2",
        "vllm serve a/b -tp 2 # two GPUs",
        "vllm serve a/b\n  -tp 2\ncurl localhost:8000",
        "# start\nvllm serve a/b \\\n  # split\n  -tp 2",
        "vllm serve a/b -tp 2 >/dev/null 2>&1 </dev/null &",
        "vllm serve a/b --served-model-name 'x;y|z' -tp 2",
        "vllm serve a/b --chat-template '{{ messages }}' -tp 2",
        POD,
        COMPOSE,
    ],
)
def test_what_starts_a_server(command: str | list[str]) -> None:
    args = parse_serve_command(command).engine_args
    assert (args.model, args.tensor_parallel_size) == ("a/b", 2)
    assert args.kv_cache_memory_bytes is None


@pytest.mark.parametrize(
    ("command", "version"),
    [
        ("docker run vllm/vllm-openai:v0.19.0 --model a", "0.19.0"),
        ("docker run --entrypoint vllm vllm/vllm-openai:v0.19.1-aarch64 serve a", "0.19.1"),
        ("docker run reg.io:5000/vllm-openai:0.11.0rc1@sha256:ab --model a", "0.11.0rc1"),
        ("docker run rocm/vllm:rocm6.4.1_vllm_0.10.1_20250909 vllm serve a", "0.10.1"),
        ("docker run vllm/vllm-openai:latest --model a", None),
        ("docker run nvcr.io/nvidia/vllm:25.09-py3 vllm serve a", None),
        ('FROM vllm/vllm-openai:v0.31.0\nCMD ["--model", "a"]', "0.31.0"),
        ("uvx vllm@0.31.0 serve a", "0.31.0"),
        ("uv run --with vllm==0.29.0 vllm serve a", "0.29.0"),
        (POD, "0.19.0"),
        (COMPOSE, "0.19.0"),
    ],
)
def test_the_tag_of_an_image_is_a_version(command: str, version: str | None) -> None:
    assert parse_serve_command(command).vllm_version == version


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("vllm serve $MODEL", "$MODEL"),
        (["vllm", "serve", "$(MODEL)"], "$(MODEL)"),
        ("vllm serve {{ .Values.model }}", "{{ .Values.model }}"),
        (["vllm", "serve", "{{", ".Values.model", "}}"], "{{.Values.model}}"),
        ("vllm serve <your model> -tp 2", "<your model>"),
        ("vllm serve --model=<model>", "<model>"),
        (
            "vllm serve a -tp $(nvidia-smi -L | wc -l)",
            "$(nvidia-smi -L | wc -l) (the value of -tp)",
        ),
        ("vllm serve a -tp $((A * B))", "$((A * B))"),
        ("vllm serve a --max-model-len=`cat x`", "`cat x`"),
        ("vllm serve a --port 1 $EXTRA_ARGS", "$EXTRA_ARGS is not"),
        ("bash -c 'vllm serve \"$@\"'", "$@"),
    ],
)
def test_what_is_not_filled_in_is_named(command: str | list[str], missing: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_serve_command(command)
    assert missing in str(caught.value)
    assert "not filled in here" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("docker run --rm alpine echo hi", "image alpine is not known"),
        ("docker run --entrypoint sh x/vllm -c ls", "--entrypoint sh is not known"),
        ("docker run --rm", "names no image"),
        ("args: {", "not YAML"),
        ('CMD ["vllm", serve]', "CMD is not JSON"),
        ("image: nginx\ncommand: nginx", "no vLLM server"),
        ('[{"args": ["--model", "a"]}, {"args": ["--model", "b"]}]', "several vLLM servers"),
        ("vllm serve a -- -tp 2", "no word behind it"),
        ("vllm serve a ...", "unexpected argument '...'"),
        ("vllm serve a --help", "starts nothing"),
    ],
)
def test_commands_that_are_refused(command: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_serve_command(command)
    assert len(str(caught.value).splitlines()) == 1


def test_more_than_one_server_is_told() -> None:
    command = parse_serve_command("vllm serve a -tp 2 && vllm serve b")
    assert command.engine_args.model == "a"
    assert "paste others by themselves" in command.notes[0]


def test_the_schedule_of_a_wrapped_command_is_its_own() -> None:
    assert server_words(["sh", "-c", "vllm serve a --watermark 0.1"]) == ["a", "--watermark", "0.1"]


def test_an_older_flag_for_a_version_that_refuses_it() -> None:
    line = "docker run vllm/vllm-openai:{} --model a --swap-space 4"
    assert "no --swap-space" in parse_serve_command(line.format("v0.11.0")).notes[0]
    with pytest.raises(InputError, match="no --swap-space"):
        parse_serve_command(line.format("v0.33.0"))


@pytest.mark.parametrize(
    "line",
    [
        ["plan", "vllm", "serve", "gpt2", "--gpu", "L4", "--max-model-len", "512"],
        ["plan", "--gpu=L4", "serve", "gpt2", "--max-model-len", "512"],
        ["plan", "gpt2", "--gpu", "L4", "--max-model-len", "512"],
        ["gpt2", "--gpu", "L4", "--max-model-len", "512"],
        ["serve", "gpt2", "--gpu", "L4", "--max-model-len", "512"],
        ["vllm", "serve", "gpt2", "--gpu", "L4", "--max-model", "512"],
        ["docker", "run", "--rm", "vllm/vllm-openai", "--model", "gpt2", "--gpu", "L4"],
        ["sh", "-c", "vllm serve gpt2 --max-model-len 512", "--gpu", "L4"],
        ["openai-community/gpt2", "--gpu", "L4"],
    ],
)
def test_the_dashes_or_the_command_forgotten(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    plan = plan[0] if isinstance(plan, list) else plan
    assert plan["gpu"]["name"].startswith("L4") or "L4" in json.dumps(plan["gpu"])
    if "512" in " ".join(line):
        assert plan["engine"]["max_model_len"] == 512


def test_launch_starts_nothing_that_is_not_behind_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["launch", "vllm", "serve", "gpt2"]) == 2
    assert "behind --" in capsys.readouterr().err


def test_a_misspelt_command_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for word in ("plann", "frobnicate"):
        assert main([word]) == 2
        assert "unknown command" in capsys.readouterr().err
