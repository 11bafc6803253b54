"""``--config FILE``, as ``vllm serve`` 0.33 reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vllm_kv_planner.engine_args.arguments import prepare_arguments
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
    assert args.enable_prefix_caching is False
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
        ("a.yaml", "config: other.yaml", "names another"),
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
