"""Engine flags: read as ``vllm serve`` 0.33 reads them, refused as it refuses them.

Expected values are from vLLM's source, worked out by hand.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.engine_args.arguments import prepare_arguments
from vllm_kv_planner.engine_args.batch import BatchSizes, resolve_batch_sizes
from vllm_kv_planner.engine_args.defaults import resolve_engine
from vllm_kv_planner.engine_args.dtypes import resolve_dtype
from vllm_kv_planner.engine_args.engine_args import EngineArgs, UsageContext
from vllm_kv_planner.engine_args.environment import EngineEnvironment, read_environment
from vllm_kv_planner.engine_args.facts import ModelFacts, PoolingFacts
from vllm_kv_planner.engine_args.flag_help import HELP
from vllm_kv_planner.engine_args.flag_table import Flag, all_flags, all_spellings
from vllm_kv_planner.engine_args.flags import FlagParser, add_engine_flags, engine_args_from
from vllm_kv_planner.engine_args.kv_cache_dtypes import (
    resolve_kv_cache_dtype,
    skip_layers,
    sparse_mla_kv_cache_dtype,
)
from vllm_kv_planner.engine_args.lengths import resolve_max_model_len
from vllm_kv_planner.engine_args.parallel import (
    check_parallel,
    kv_heads_per_rank,
    split_layers,
    stage_ranges,
)
from vllm_kv_planner.engine_args.prefix_caching import (
    hybrid_manager_disabled,
    resolve_caching_mode,
)
from vllm_kv_planner.engine_args.runner import limit_to_draft, resolve_runner
from vllm_kv_planner.engine_args.serve_command import ServeCommand, parse_serve_command
from vllm_kv_planner.engine_args.speculative import resolve_speculative
from vllm_kv_planner.errors import ConfigError, InputError, UnknownNameError, UnsupportedError
from vllm_kv_planner.gpu import find_gpu


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
def test_every_flag_is_accepted(flag: Flag) -> None:
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


# --- batch defaults ---


def facts(**more: Any) -> ModelFacts:
    """Llama-3-8B, but for what is named."""
    text = {"max_position_embeddings": 8192, "model_type": "llama"}
    plain: dict[str, Any] = {
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "config": {"torch_dtype": "bfloat16", **text},
        "text_config": text,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_kv_heads": 8,
        "vocab_size": 128_256,
    }
    return ModelFacts(**{**plain, **more})


@pytest.mark.parametrize(
    ("gpu", "server", "llm"),
    [
        ("h100", (8192, 1024), (16384, 1024)),
        ("h200", (8192, 1024), (16384, 1024)),
        ("gh200", (8192, 1024), (16384, 1024)),
        ("rtx pro 6000", (8192, 1024), (16384, 1024)),
        ("b200", (16384, 1024), (16384, 1024)),
        ("mi300x", (16384, 1024), (16384, 1024)),
        ("a100", (2048, 256), (8192, 256)),  # 80 GB, but "a100" in its name
        ("gb10", (2048, 256), (8192, 256)),  # 121 GiB, but compute capability 12.1
        ("l4", (2048, 256), (8192, 256)),
    ],
)
def test_batch_defaults(gpu: str, server: tuple[int, int], llm: tuple[int, int]) -> None:
    device = find_gpu(gpu)
    contexts: tuple[tuple[UsageContext, tuple[int, int]], ...] = (("server", server), ("llm", llm))
    for context, expected in contexts:
        args = EngineArgs(usage_context=context)
        batch = resolve_engine(args, facts(), device).batch
        assert (batch.max_num_batched_tokens, batch.max_num_seqs) == expected
        assert batch.max_num_encoder_input_tokens == expected[0]


def sizes(max_model_len: int = 8192, chunked: bool = True, **flags: Any) -> tuple[int, int]:
    defaults = BatchSizes(8192, 1024)
    batch = resolve_batch_sizes(
        EngineArgs(**flags), defaults, max_model_len=max_model_len, chunked_prefill=chunked
    )
    return batch.max_num_batched_tokens, batch.max_num_seqs


def test_batch_caps() -> None:
    assert sizes(performance_mode="throughput") == (16384, 2048)
    assert sizes(performance_mode="throughput", max_num_seqs=64) == (16384, 64)
    assert sizes(max_model_len=448, max_num_seqs=4) == (4 * 448, 4)
    assert sizes(max_num_batched_tokens=512) == (512, 512)
    assert sizes(max_model_len=131_072, chunked=False) == (131_072, 1024)
    moe: dict[str, Any] = {"all2all_backend": "deepep_low_latency", "enable_expert_parallel": True}
    assert sizes(data_parallel_size=2, **moe) == (256, 256)
    with pytest.raises(InputError, match="smaller than max_model_len"):
        sizes(chunked=False, max_num_batched_tokens=4096)
    with pytest.raises(InputError, match="greater than or equal to max_num_seqs"):
        sizes(max_num_batched_tokens=8, max_num_seqs=16)
    with pytest.raises(InputError, match="max_num_active_seqs"):
        sizes(max_num_active_seqs=2000)
    with pytest.raises(InputError, match="long_prefill_token_threshold"):
        sizes(long_prefill_token_threshold=9000)


# --- lengths ---


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024, "max_position_embeddings": 2048}, 1024),
        ({"max_target_positions": 448, "max_source_positions": 1500}, 448),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072),  # Command-R
        ({}, 2048),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 8.0}},
            32_768,
        ),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            8192,
        ),
        # YaRN and llama3 state the scaled length.
        (
            {"max_position_embeddings": 32_768, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            32_768,
        ),
        (
            {
                "max_position_embeddings": 131_072,
                "rope_parameters": {"rope_type": "llama3", "factor": 8.0},
            },
            131_072,
        ),
        (  # Phi-3-128k: longrope starts from the original length
            {
                "max_position_embeddings": 131_072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "su", "long_factor": [1.0]},
            },
            4096,
        ),
        (  # Gemma 3: nested by layer type, and never scaled again
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131_072,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 4.0},
                    "sliding_attention": None,
                },
            },
            16_384,
        ),
        ({"max_position_embeddings": 32_768, "rope_scaling": {"type": "mrope"}}, 32_768),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": None}},
            4096,
        ),
    ],
)
def test_derived_length(config: dict[str, Any], length: int) -> None:
    assert resolve_max_model_len(None, config).max_model_len == length
    assert resolve_max_model_len(100, config).max_model_len == 100


def test_auto_length_starts_from_the_models() -> None:
    fitted = resolve_max_model_len(-1, {"max_position_embeddings": 4096})
    assert (fitted.max_model_len, fitted.auto_fit) == (4096, True)
    with pytest.raises(InputError, match="positive integer"):
        resolve_max_model_len(-1, {})


def test_longer_than_the_model() -> None:
    config = {"max_position_embeddings": 4096}
    with pytest.raises(InputError) as caught:
        resolve_max_model_len(4097, config)
    assert "User-specified max_model_len (4097) is greater than the derived" in str(caught.value)
    assert "max_position_embeddings=4096" in str(caught.value)
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1" in str(caught.value)
    allowed = resolve_max_model_len(4097, config, allow_long=True)
    assert allowed.max_model_len == 4097
    assert allowed.note is not None
    assert resolve_max_model_len(9999, {}).max_model_len == 9999  # nothing to compare with


def test_disabled_window_caps_the_length() -> None:
    config = {"max_position_embeddings": 32_768, "sliding_window": 4096}
    assert resolve_max_model_len(None, config).max_model_len == 32_768
    capped = resolve_max_model_len(None, config, disable_sliding_window=True)
    assert (capped.max_model_len, capped.derived_from) == (4096, "sliding_window")


@pytest.mark.parametrize("value", [0, -1, "4096", float("nan"), float("inf"), [1], True, 1 << 60])
def test_hostile_lengths(value: object) -> None:
    with pytest.raises(ConfigError, match="expected a positive number"):
        resolve_max_model_len(None, {"max_position_embeddings": value})
    with pytest.raises(ConfigError, match="rope factor"):
        config = {"max_position_embeddings": 1, "rope_scaling": {"factor": value}}
        resolve_max_model_len(None, config)


# --- dtypes ---


@pytest.mark.parametrize(
    ("requested", "checkpoint", "capability", "expected"),
    [
        ("auto", "bfloat16", (9, 0), "bfloat16"),
        ("auto", "bfloat16", (7, 5), "float16"),
        ("auto", "float32", (9, 0), "bfloat16"),
        ("auto", "float32", (7, 0), "float16"),
        ("auto", None, (8, 0), "bfloat16"),
        ("auto", "float8_e4m3fn", (9, 0), "bfloat16"),
        ("half", "bfloat16", (9, 0), "float16"),
        ("float", "bfloat16", (9, 0), "float32"),
    ],
)
def test_dtype(
    requested: str, checkpoint: str | None, capability: tuple[int, int], expected: str
) -> None:
    dtype = resolve_dtype(
        requested, checkpoint=checkpoint, model_type="llama", compute_capability=capability
    )
    assert dtype.name == expected


def test_dtype_refusals_and_families() -> None:
    with pytest.raises(InputError, match="does not support float16"):
        resolve_dtype("half", checkpoint=None, model_type="gemma2", compute_capability=(9, 0))
    with pytest.raises(InputError, match=r"at least 8\.0; Tesla T4 has 7\.5"):
        resolve_engine(EngineArgs(dtype="bfloat16"), facts(), find_gpu("t4"))
    t4 = resolve_dtype("auto", checkpoint=None, model_type="gemma3", compute_capability=(7, 5))
    assert t4.name == "float32"
    pooling = resolve_dtype(
        "auto", checkpoint="float32", model_type="bert", is_pooling=True, compute_capability=(9, 0)
    )
    assert pooling.name == "float16"


def kv(requested: str = "auto", capability: tuple[int, int] = (9, 0), **more: Any) -> str:
    return resolve_kv_cache_dtype(
        requested, facts(**more), dtype="bfloat16", compute_capability=capability
    ).name


def test_kv_cache_dtype_of_the_checkpoint() -> None:
    modelopt = {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}
    assert kv(config={"quantization_config": modelopt}) == "fp8_e4m3"
    assert kv("bfloat16", config={"quantization_config": modelopt}) == "bfloat16"
    legacy = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4"},
    }
    assert kv(config={"quantization_config": legacy}) == "nvfp4"
    scheme = {"type": "float", "num_bits": 8, "strategy": "tensor", "symmetric": True}
    compressed = {"quant_method": "compressed-tensors", "kv_cache_scheme": scheme}
    assert kv(config={"quantization_config": compressed}) == "fp8"
    assert kv(config={"quantization_config": compressed}, use_mla=True) == "auto"
    odd = {**compressed, "kv_cache_scheme": {**scheme, "num_bits": 4}}
    with pytest.raises(UnsupportedError, match="num_bits=4"):
        kv(config={"quantization_config": odd})
    assert kv(config={"quantization_config": {"quant_method": "fp8"}}) == "auto"


def test_kv_cache_dtype_by_model_and_device() -> None:
    glm: dict[str, Any] = {"architecture": "GlmMoeDsaForCausalLM", "use_mla": True}
    assert kv(**glm) == "auto"
    assert kv(capability=(10, 0), **glm) == "fp8_e4m3"
    assert kv("bfloat16", architecture="DeepseekV32ForCausalLM", use_mla=True) == "auto"
    assert sparse_mla_kv_cache_dtype("FLASHMLA_SPARSE", "fp8") == "fp8_ds_mla"
    assert sparse_mla_kv_cache_dtype("FLASHMLA_SPARSE", "auto") == "auto"
    assert sparse_mla_kv_cache_dtype("FLASHINFER_MLA_SPARSE_SM120", "auto") == "fp8_ds_mla"


def test_kv_cache_dtype_refusals() -> None:
    with pytest.raises(InputError, match="incompatible with dtype"):
        kv("float16")
    with pytest.raises(InputError, match="not supported with MLA"):
        kv("nvfp4", use_mla=True)
    assert kv("nvfp4_ds_mla", use_mla=True) == "nvfp4_ds_mla"
    with pytest.raises(InputError, match="fp8 checkpoints"):
        kv("fp8_e5m2", quantization="fp8", config={"quantization_config": {"quant_method": "fp8"}})
    assert kv("fp8_e5m2", quantization="fp8") == "fp8_e5m2"  # quantised while loading


def test_turboquant_keeps_two_layers_at_either_end() -> None:
    assert skip_layers((), "turboquant_k8v4", facts()) == ["0", "1", "30", "31"]
    assert skip_layers(("5",), "fp8", facts()) == ["5"]
    assert skip_layers((), "turboquant_k8v4", facts(is_hybrid=True)) == []


# --- prefix caching and Mamba ---


def caching(**more: Any) -> tuple[bool, bool, str, int | None]:
    flags = more.pop("flags", {})
    mode = resolve_caching_mode(EngineArgs(**flags), facts(**more), max_model_len=8192)
    return (
        mode.enable_prefix_caching,
        mode.enable_chunked_prefill,
        mode.mamba_cache_mode,
        mode.mamba_block_size,
    )


def test_caching_defaults_by_kind() -> None:
    off: dict[str, Any] = {"enable_prefix_caching": False}
    assert caching() == (True, True, "none", None)
    assert caching(is_hybrid=True) == (True, True, "align", None)
    assert caching(is_hybrid=True, flags=off) == (False, True, "none", 8192)
    mamba: dict[str, Any] = {"architecture": "MambaForCausalLM", "is_attention_free": True}
    assert caching(**mamba) == (False, True, "none", 8192)
    assert caching(is_encoder_decoder=True) == (False, False, "none", None)
    pooling: dict[str, Any] = {"runner_type": "pooling"}
    assert caching(pooling=PoolingFacts(), **pooling) == (True, True, "none", None)
    mean = PoolingFacts(seq_pooling_type="MEAN")
    assert caching(pooling=mean, **pooling) == (False, False, "none", None)
    bert = PoolingFacts(seq_pooling_type="CLS", default_seq_pooling_type="CLS")
    assert caching(pooling=bert, **pooling) == (False, False, "none", None)


def test_caching_refusals() -> None:
    with pytest.raises(InputError, match="Chunked prefill is required"):
        caching(is_hybrid=True, flags={"enable_chunked_prefill": False})
    with pytest.raises(InputError, match="--mamba-block-size can only be set"):
        caching(flags={"mamba_block_size": 256, "enable_prefix_caching": False})


def test_hybrid_manager() -> None:
    env = EngineEnvironment()
    chunked = facts(text_config={"attention_chunk_size": 8192})
    assert not hybrid_manager_disabled(EngineArgs(), chunked, env)
    assert hybrid_manager_disabled(EngineArgs(), chunked, env, draft_uses_eagle=True)
    no = EngineEnvironment(allow_chunked_local_attn_with_hybrid_kv_cache=False)
    assert hybrid_manager_disabled(EngineArgs(), chunked, no)
    assert hybrid_manager_disabled(EngineArgs(), facts(), env, connector_supports_hybrid=False)
    assert hybrid_manager_disabled(EngineArgs(disable_hybrid_kv_cache_manager=True), facts(), env)
    with pytest.raises(InputError, match="explicitly enabled"):
        hybrid_manager_disabled(EngineArgs(disable_hybrid_kv_cache_manager=False), chunked, no)


# --- runner, speculative decoding ---


def run(env: EngineEnvironment | None = None, **flags: Any) -> tuple[bool, bool, int]:
    runner_type = flags.pop("runner_type", "generate")
    args = EngineArgs(**flags)
    runner = resolve_runner(
        args,
        facts(runner_type=runner_type),
        resolve_speculative(args),
        env or EngineEnvironment(),
    )
    return runner.uses_v2, runner.async_scheduling, runner.max_concurrent_batches


def test_runner() -> None:
    v1 = EngineEnvironment(use_v2_model_runner=False)
    assert run() == (True, True, 2)
    assert run(pipeline_parallel_size=4) == (True, True, 5)
    assert run(v1) == (False, True, 2)
    assert run(v1, pipeline_parallel_size=4) == (False, False, 4)
    assert run(async_scheduling=False) == (True, False, 1)
    assert run(runner_type="pooling") == (True, False, 1)
    suffix: dict[str, Any] = {"method": "suffix", "num_speculative_tokens": 4}
    assert run(speculative_config=suffix) == (False, False, 1)
    assert run(enable_dbo=True) == (False, True, 2)
    with pytest.raises(InputError, match="not supported by the V1 model runner with pipeline"):
        run(v1, pipeline_parallel_size=2, async_scheduling=True)
    with pytest.raises(InputError, match="V2 does not yet support: speculative method 'suffix'"):
        run(EngineEnvironment(use_v2_model_runner=True), speculative_config=suffix)
    with pytest.raises(InputError, match="V1 does not support: prefill context parallel"):
        run(v1, prefill_context_parallel_size=2)


@pytest.mark.parametrize(
    ("config", "method", "lookahead", "prefill_lookahead"),
    [
        ({"method": "ngram", "num_speculative_tokens": 5}, "ngram", 0, 0),
        ({"model": "ngram", "num_speculative_tokens": 5}, "ngram", 0, 0),
        ({"model": "a/small", "num_speculative_tokens": 5}, "draft_model", 5, 0),
        ({"model": "yuhuili/EAGLE3-LLaMA", "num-speculative-tokens": 3}, "eagle3", 3, 1),
        ({"method": "deepseek_mtp", "num_speculative_tokens": 1}, "mtp", 1, 1),
        ({"model": "a/dflash-x", "num_speculative_tokens": 7}, "dflash", 8, 1),
    ],
)
def test_speculative(
    config: dict[str, Any], method: str, lookahead: int, prefill_lookahead: int
) -> None:
    found = resolve_speculative(EngineArgs(speculative_config=config))
    assert found is not None
    assert found.method == method
    assert found.num_lookahead_tokens == lookahead
    assert found.num_prefill_lookahead_tokens == prefill_lookahead


def test_speculative_shortcuts_and_refusals() -> None:
    assert resolve_speculative(EngineArgs()) is None
    args = EngineArgs(spec_method="eagle3", spec_model="a/b", spec_tokens=3)
    found = resolve_speculative(args)
    assert found is not None
    assert (found.method, found.model, found.num_speculative_tokens) == ("eagle3", "a/b", 3)
    for config, message in (
        ({"method": "eagle3", "num_speculative_tokens": 3}, "needs a draft model"),
        ({"method": "ngram"}, "must be provided"),
        ({"method": "ngram", "num_speculative_tokens": 0}, "positive integer"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_speculative(EngineArgs(speculative_config=config))
    with pytest.raises(InputError, match="mutually exclusive"):
        resolve_speculative(EngineArgs(spec_method="ngram", speculative_config={"method": "mtp"}))


def test_draft_model_limits_the_length() -> None:
    draft = resolve_speculative(
        EngineArgs(speculative_config={"model": "a/small", "num_speculative_tokens": 1})
    )
    assert draft is not None
    assert limit_to_draft(8192, 2048, draft, uses_v2=True) == 2048
    assert limit_to_draft(8192, 2048, draft, uses_v2=False) == 8192
    eagle = replace(draft, method="eagle3")
    assert limit_to_draft(8192, 2048, eagle, uses_v2=True) == 8192
    yarn = ("yarn",)
    assert limit_to_draft(8192, 2048, eagle, uses_v2=True, draft_rope_types=yarn) == 2048


# --- parallel ---


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (32, 1, (32,)),
        (32, 4, (8, 8, 8, 8)),
        (33, 4, (8, 8, 9, 8)),
        (34, 4, (8, 9, 9, 8)),
        (35, 4, (9, 9, 9, 8)),
        (61, 4, (15, 15, 16, 15)),
        (7, 2, (4, 3)),
    ],
)
def test_pipeline_stages(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert split_layers(layers, stages) == expected
    assert [i for stage in stage_ranges(layers, stages) for i in stage] == list(range(layers))


def test_pipeline_stages_by_hand() -> None:
    assert split_layers(10, 2, "3,7") == (3, 7)
    for partition, message in (
        ("3,x", "Invalid partition string"),
        ("3,3,4", "does not match pp_size=2"),
        ("3,6", "does not match num_hidden_layers=10"),
    ):
        with pytest.raises(InputError, match=message):
            split_layers(10, 2, partition)
    with pytest.raises(InputError, match="larger than the model's 10 layers"):
        split_layers(10, 10**9)


@pytest.mark.parametrize(
    ("flags", "more", "message"),
    [
        ({"tensor_parallel_size": 3}, {}, r"attention heads \(32\) must be divisible by"),
        ({"enable_expert_parallel": True}, {}, "Number of experts"),
        ({"pipeline_parallel_size": 2}, {"supports_pp": False}, "Pipeline parallelism is not"),
        (
            {"tensor_parallel_size": 8, "decode_context_parallel_size": 3},
            {},
            "tp_size=8 must be divisible by dcp_size=3",
        ),
        (
            {"tensor_parallel_size": 8, "decode_context_parallel_size": 2},
            {},
            r"greater than the model's total number of KV heads \(8\)",
        ),
        (
            {"tensor_parallel_size": 16, "decode_context_parallel_size": 4},
            {},
            r"exceeds the maximum supported value \(2\)",
        ),
        (
            {"prefill_context_parallel_size": 2, "decode_context_parallel_size": 4},
            {"use_mla": True},
            r"valid DCP sizes are \[1, 2\]",
        ),
        ({"tensor_parallel_size": 4}, {"num_kv_heads": 6}, "6 is not divisible by 4"),
        (
            {"tensor_parallel_size": 6},
            {"num_attention_heads": 12, "num_kv_heads": 12, "vocab_size": 32_000},
            "32000 is not divisible by 6",
        ),
        ({"enable_eplb": True}, {}, "enable_expert_parallel must be True"),
    ],
)
def test_what_cannot_be_split(flags: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_parallel(EngineArgs(**flags), facts(**more), EngineEnvironment())


def test_what_can_be_split() -> None:
    env = EngineEnvironment()
    check_parallel(
        EngineArgs(tensor_parallel_size=16, decode_context_parallel_size=2), facts(), env
    )
    check_parallel(
        EngineArgs(tensor_parallel_size=8, decode_context_parallel_size=8),
        facts(use_mla=True, num_attention_heads=128, num_kv_heads=128, vocab_size=129_280),
        env,
    )
    assert kv_heads_per_rank(8, 16) == 1
    assert kv_heads_per_rank(8, 2) == 4
    assert kv_heads_per_rank(128, 8, use_mla=True) == 1


# --- all of it ---


def test_resolved_engine() -> None:
    args = EngineArgs(tensor_parallel_size=2, pipeline_parallel_size=2, max_model_len=4096)
    engine = resolve_engine(args, facts(), find_gpu("h100"))
    assert engine.dtype.name == "bfloat16"
    assert engine.kv_cache_dtype.name == "auto"
    assert engine.length.max_model_len == 4096
    assert engine.layers_per_stage == (16, 16)
    assert engine.max_in_flight_tokens == 3 * 8192
    assert engine.caching.enable_prefix_caching
    assert not engine.disable_hybrid_kv_cache_manager
    assert engine.notes == ()


def test_mla_disable_is_not_planned_for() -> None:
    env = EngineEnvironment(mla_disable=True)
    with pytest.raises(UnsupportedError, match="VLLM_MLA_DISABLE"):
        resolve_engine(EngineArgs(), facts(use_mla=True), find_gpu("h100"), env)
