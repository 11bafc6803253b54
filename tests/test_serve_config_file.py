"""``--config FILE``, as ``vllm serve`` 0.33 reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vllm_kv_planner.engine_args.arguments import prepare_arguments
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.serve_command import parse_serve_command
from vllm_kv_planner.errors import InputError

from .engine_cases import serve


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "model: a/b\ntensor-parallel-size: 4\nmax_model_len: 32k\nenable-prefix-caching: false\n"
        "enforce-eager: true\nenable-lora: false\ncudagraph-capture-sizes: [1, 2]\n"
        "speculative-config:\n  method: ngram\n  num_speculative_tokens: 3\n"
    )
    args = serve(f"--config {path}").engine_args
    assert args.model == "a/b"
    assert args.max_model_len == 32_000
    assert args.enable_prefix_caching is None  # vLLM drops the line, see below
    assert args.enforce_eager is True
    assert args.cudagraph_capture_sizes == (1, 2)
    assert args.speculative_config == {"method": "ngram", "num_speculative_tokens": 3}
    over = serve(f"c/d --config {path} -tp 2").engine_args
    assert (over.model, over.tensor_parallel_size, over.max_model_len) == ("c/d", 2, 32_000)


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{}", "must be a .yaml or .yml file"),
        ("a.yaml", "- 1\n- 2\n", "flag: value lines"),
        ("a.yaml", "a: [", "is not YAML"),
        ("a.yaml", "a: &a [*a]", "alias refers to what it is a part of"),
        ("a.yaml", "max-model-length: 1", "unknown flag --max-model-length"),
        ("a.yaml", BOMB, "more than 20,000 keys and values"),
        ("a.yaml", "x" * (1 << 20) + "xx", "larger than 1 MiB"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a.yaml", "", "is empty, which vLLM refuses"),
        ("a.yaml", "services: {vllm: {image: x}}", "holds no flag of vllm serve"),
        ("a.yaml", "foo: false", "holds no flag of vllm serve"),
        ("a.yaml", "foo: 1", "unknown flag --foo"),
        ("a.yaml", "8: 1\nport: 1", "the key '8' is no text"),
        ("a.yaml", "enforce-eager: 'true'", "is a text"),
        ("a.yaml", "max-model-len: null", "'None' is not a whole number"),
        ("a.yaml", "tp: 2\nport: 1", "unknown flag --tp"),
        ("a.yaml", "model_tag: gpt2\nport: 1", "unknown flag --model-tag"),
    ],
)
def test_config_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        serve(f"m --config {path}")
    assert len(str(caught.value).splitlines()) == 1


def test_config_file_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        prepare_arguments(["--config", str(tmp_path / "none.yaml")])
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        prepare_arguments(["--config", str(path)])
    with pytest.raises(InputError, match="no file named"):
        prepare_arguments(["--config"])


def test_config_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("port: 1\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match="pip install pyyaml"):
        prepare_arguments(["--config", str(path)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_config_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        prepare_arguments(["--config", str(path)])


@pytest.mark.parametrize(
    ("start", "key", "planned"),
    [
        ("vllm serve m", "enable-prefix-caching", None),
        ("vllm serve m", "enable_prefix_caching", None),
        ("docker run vllm/vllm-openai m", "enable-prefix-caching", None),
        ("python -m vllm.entrypoints.cli.main serve m", "enable-prefix-caching", None),
        ("python -m vllm.entrypoints.openai.api_server m", "enable-prefix-caching", False),
        ("python -m vllm.entrypoints.openai.api_server m", "enable_prefix_caching", None),
        ("python -m vllm.entrypoints.openai.api_server m", "frobnicate", None),
    ],
)
def test_false_is_dropped_but_by_the_module(
    tmp_path: Path, start: str, key: str, planned: bool | None
) -> None:
    """Seen on a real engine of vLLM 0.32; the parser of 0.33 does the same."""
    path = tmp_path / "c.yaml"
    path.write_text(f"{key}: false\nport: 8000\n")
    command = parse_serve_command(f"{start} --config {path}")
    assert command.engine_args.enable_prefix_caching is planned
    assert ("false has no effect" in "\n".join(command.notes)) is (planned is None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("vllm serve --config {}", "No model specified"),
        ("vllm serve --max-model-len 2048 m --config {}", "No model specified"),
        ("vllm serve m --conf {}", "ambiguous option: --conf"),
        ("vllm serve m --config={}", "does not read --config=FILE"),
        ("vllm serve m --config {} --config {}", "more than one --config"),
    ],
)
def test_lines_with_a_config_file_that_vllm_refuses(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("port: 8000\n")
    with pytest.raises(InputError, match=message):
        parse_serve_command(line.replace("{}", str(path)))


def test_the_model_of_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: a/b\nmax-model: 2048\nkv-cache-memory-bytes: null\nconfig: d.yaml\n")
    command = parse_serve_command(f"vllm serve -tp 2 --config {path}")
    assert command.engine_args.model == "a/b"
    assert command.engine_args.max_model_len == 2048
    assert command.engine_args.kv_cache_memory_bytes is None
    assert any("no second file" in note for note in command.notes)
    over = parse_serve_command(
        f"vllm serve --model c/d --config {path} --compilation-config.mode 0"
    )
    assert over.engine_args.model == "c/d"
    assert parse_serve_command("vllm serve m --kv-cache-memory-bytes=").engine_args == EngineArgs(
        model="m"
    )
    zero = parse_serve_command("vllm serve m --kv-cache-memory-bytes 0").engine_args
    assert zero == EngineArgs(model="m")
