"""Engine flags: read as ``vllm serve`` 0.33 reads them, refused as it refuses them.

Expected values are from vLLM's source, worked out by hand.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.engine_args.arguments import prepare_arguments
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.environment import read_environment
from vllm_kv_planner.engine_args.flag_help import HELP
from vllm_kv_planner.engine_args.flag_table import all_flags, all_spellings
from vllm_kv_planner.engine_args.flags import FlagParser, add_engine_flags, engine_args_from
from vllm_kv_planner.engine_args.serve_command import ServeCommand, parse_serve_command
from vllm_kv_planner.errors import InputError, UnknownNameError


def serve(line: str) -> ServeCommand:
    return parse_serve_command(f"vllm serve {line}")


def given_fields(line: str) -> dict[str, object]:
    """What a line sets, beside the model: the fields that differ from the defaults."""
    args = serve(f"org/model {line}").engine_args
    changed = {}
    for field in fields(args):
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        if field.name != "model" and getattr(args, field.name) != default:
            changed[field.name] = getattr(args, field.name)
    return changed


# --- the table of flags ---


def test_every_understood_flag_is_a_field_and_the_other_way_round() -> None:
    understood = {flag.field for flag in all_flags() if flag.is_understood}
    assert understood == {field.name for field in fields(EngineArgs)} - {"usage_context"}


def test_the_set_of_flags_is_pinned() -> None:
    assert len(all_flags()) == 319
    spellings = all_spellings()
    assert len(spellings) == len(set(spellings))
    by_effect = [flag.effect for flag in all_flags()]
    assert {e: by_effect.count(e) for e in set(by_effect)} == {
        "kv_cache": 65,
        "memory": 30,
        "none": 173,
        "unsure": 51,
    }
    assert all(flag.why for flag in all_flags() if flag.effect == "unsure")


def test_help_lists_only_understood_flags() -> None:
    assert set(HELP) <= {flag.field for flag in all_flags() if flag.is_understood}
    parser = FlagParser(prog="x")
    add_engine_flags(parser)
    text = parser.format_help()
    assert "--max-model-len" in text
    assert "--ssl-keyfile" not in text


@pytest.mark.parametrize("flag", all_flags(), ids=lambda flag: flag.spellings[0])
def test_every_flag_is_accepted(flag: object) -> None:
    assert hasattr(flag, "takes")
    value = {
        "int": "1",
        "float": "0.5",
        "quantity": "1k",
        "quantity_or_auto": "auto",
        "json": "{}",
        "json_or_text": "{}",
        "config": "{}",
    }.get(flag.type, "x")
    if flag.field in ("attention_backend", "mamba_backend", "kv_cache_dtype", "quantization"):
        value = {"mamba_backend": "triton", "attention_backend": "auto"}.get(flag.field, "fp8")
    if flag.field in ("optimization_level", "spec_tokens"):
        value = "1"
    if flag.choices:
        value = str(flag.choices[0])
    words = ["vllm", "serve", "m", flag.spellings[0]]
    if flag.field == "model":
        words = ["vllm", "serve", "--model"]
    parse_serve_command(words if flag.takes in ("switch", "set") else [*words, value])


# --- spellings ---


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
            '--kv-transfer-config \'{"kv_connector":"X","size":80m,"name":"80m"}\'',
            {"kv_transfer_config": {"kv_connector": "X", "size": 80_000_000, "name": "80m"}},
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
        ("-q fbgemm_fp8", "deprecated"),
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
        ("--swap-space", "leave it out"),
        ("--task", "--runner pooling"),
        ("--num-scheduler-steps", "multi-step scheduling is gone"),
    ],
)
def test_flags_vllm_does_not_know(flag: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        serve(f"org/model {flag} 4")
    assert hint in str(caught.value)


@given(st.lists(st.text(max_size=10), max_size=6))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        parse_serve_command(["vllm", "serve", "m", *words])
    except InputError as error:
        assert len(str(error).splitlines()) <= 1


# --- pasted commands ---


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


# --- --config FILE ---


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
        ("a.yaml", "a: &a [*a]", "more than"),
        ("a.yaml", "x: 1", "unknown flag --x"),
        ("a.yaml", BOMB, "more than 10000 values"),
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


# --- EngineArgs ---


def test_omitted_spellings_are_left_to_the_caller() -> None:
    parser = FlagParser(prog="x")
    parser.add_argument("--model")
    add_engine_flags(parser, omit=("--model",))
    namespace = parser.parse_args(["--model", "m", "-tp", "2"])
    assert engine_args_from(namespace, model="n").model == "n"


def test_world_size() -> None:
    args = EngineArgs(tensor_parallel_size=4, pipeline_parallel_size=2, data_parallel_size=3)
    assert (args.world_size, args.num_gpus) == (8, 24)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "import vllm_kv_planner.engine_args.defaults, vllm_kv_planner.engine_args.flags\n"
        "import vllm_kv_planner.gpu\n"
        "heavy = {'torch', 'vllm', 'transformers', 'yaml', 'numpy', 'difflib', 'shlex'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
