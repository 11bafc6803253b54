"""No code of a repository runs, whichever way it comes in.

Every trap is a Python file that would leave a marker behind: the rule is that it never appears.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import Hub
from tests.vllm_python import CUDA
from vllm_kv_planner import (
    InputError,
    PlannerError,
    UnsupportedError,
    VLLMPlanner,
    plan,
    plan_engine,
    plan_request,
)
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.vllm_adapter.arguments import check_no_code, without_code, write_model_folder
from vllm_kv_planner.vllm_adapter.child import child_environment, make_path
from vllm_kv_planner.vllm_adapter.workload import VLLMRun
from vllm_kv_planner.workload.trace_formats import off_the_terminal, token_counter
from vllm_kv_planner.workload.types import TraceRequest

pytest_plugins = ("tests.hub_fixtures",)

TINY: dict[str, Any] = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
AUTO_MAP = {
    "AutoConfig": "trap.Trap",
    "AutoModel": "trap.Trap",
    "AutoModelForCausalLM": "trap.Trap",
    "AutoTokenizer": ["trap.Trap", "trap.Trap"],
    "AutoProcessor": "trap.Trap",
    "AutoImageProcessor": "trap.Trap",
    "AutoFeatureExtractor": "trap.Trap",
}
SIDE_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "adapter_config.json",
    os.path.join("1_Pooling", "config.json"),
)
# What the planner, its child or a library imports, were it looked for in the model's folder.
IMPORTED = (
    "trap",
    "json",
    "yaml",
    "torch",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "numpy",
    "vllm",
    "modeling_trap",
    "custom_generate/generate",
)
TIMEOUT = 120


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """What no test may leave behind."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


def repository(folder: Path, marker: Path, **changes: Any) -> Path:
    """A folder whose every file names code, and the code."""
    folder.mkdir(parents=True)
    for name in IMPORTED:
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(marker)!r}, 'w').close()\nclass Trap: pass\n")
    config = {
        **TINY,
        "auto_map": AUTO_MAP,
        "custom_pipelines": {"text-generation": {"impl": "trap.Trap", "pt": ["Trap"]}},
        "trust_remote_code": True,
        "_attn_implementation": "trap/kernels",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in SIDE_FILES:
        side = folder / name
        side.parent.mkdir(exist_ok=True)
        content = {"auto_map": AUTO_MAP, "inner": [{"auto_map": AUTO_MAP}], "eos_token_id": 1}
        side.write_text(json.dumps(content))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "trap.Trap", "auto_map": AUTO_MAP}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def command(
    *arguments: str | Path, cwd: Path, stdin: str = "y\n", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Our command as a process, started in ``cwd``, with an answer waiting on standard input."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
    environment.pop("PYTHONPATH", None)
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, "-m", "vllm_kv_planner", *map(str, arguments)],
        cwd=cwd,
        check=False,
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


LENGTHS = ("--prompt-tokens", "10", "--output-tokens", "5", "--requests", "3")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", ".", "--gpu", "L4", "--trust-remote-code"),
        ("fit", "--model", ".", "--gpu", "L4"),
        ("sweep", ".", "--gpu", "L4", "--workers", "1", "--grid", "block_size=16,32"),
        ("workload", ".", "--gpu", "L4", *LENGTHS),
        ("launch", "--gpu", "L4", "--", "vllm", "serve", ".", "--trust-remote-code"),
        ("paging", ".", "--gpu", "L4"),
        (
            *("plan", "gpt2", "--gpu", "L4", "--speculative-config"),
            '{"model": "./", "num_speculative_tokens": 2, "method": "draft_model"}',
        ),
        (
            *("launch", "--gpu", "L4", "--", "vllm", "serve", "gpt2", "--enable-lora"),
            *("--lora-modules", "trap=./"),
        ),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_a_local_folder(arguments: tuple[str, ...], marker: Path, tmp_path: Path) -> None:
    """As model, draft and adapter; even where the command is started in it."""
    done = command(*arguments, cwd=repository(tmp_path / "repo", marker))
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("own_home")
def test_the_hub(marker: Path, tmp_path: Path, the_hub: Hub) -> None:
    """No Python file is even asked for."""
    folder = repository(tmp_path / "repo", marker)
    for path in folder.rglob("*"):
        if path.is_file():
            the_hub.add("org/trap", path.read_bytes(), str(path.relative_to(folder)))
    assert plan("org/trap", gpu="L4").fits
    assert the_hub.asked
    assert not [path for path, _ in the_hub.asked if ".py" in path]


def tokenizer_repository(folder: Path, marker: Path) -> Path:
    repository(folder, marker, model_type="trap")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Trap", "auto_map": AUTO_MAP})
    )
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_tokenizer(marker: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = tokenizer_repository(tmp_path / "repo", marker)
    with pytest.raises(InputError, match="comes as code, which is never run"):
        token_counter(str(folder))


def test_a_tokenizer_is_not_asked_about_on_the_trace(marker: Path, tmp_path: Path) -> None:
    """The trace is standard input, and begins with what would be a yes."""
    pytest.importorskip("transformers")
    folder = tokenizer_repository(tmp_path / "repo", marker)
    turns = [{"value": "one two three four five"}, {"value": "six seven eight nine ten"}]
    trace = "\n" * 3 + json.dumps({"conversations": turns}) + "\n" + "y\n" * 3
    done = command(
        *("workload", "gpt2", "--gpu", "L4", "--trace", "-", "--tokenizer", folder),
        cwd=tmp_path,
        stdin=trace,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "comes as code, which is never run" in done.stderr


def test_libraries_have_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library asks is not answered; what it prints is not our output."""
    stdin, stdout = sys.stdin, sys.stdout
    with off_the_terminal():
        print("said by a library")
        with pytest.raises(EOFError):
            input("run it? ")
    assert (sys.stdin, sys.stdout) == (stdin, stdout)
    said = capsys.readouterr()
    assert said.out == ""
    assert "said by a library" in said.err


def test_a_trace_is_text(marker: Path, tmp_path: Path) -> None:
    """A pickle that would leave the marker when loaded is no trace."""
    import pickle

    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(marker), "w")

    trace = tmp_path / "trace"
    trace.write_bytes(pickle.dumps(Trap()))
    done = command("workload", "gpt2", "--gpu", "L4", "--trace", trace, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_what_is_handed_to_vllm(marker: Path, tmp_path: Path) -> None:
    """Side files are cleaned as config.json is; all others stay behind."""
    folder = repository(tmp_path / "repo", marker)
    (folder / "generation_config.json").write_text(
        json.dumps({"auto_map": AUTO_MAP, "max_length": 9, "deep": [[{"custom_generate": "x"}]]})
    )
    (tmp_path / "models").mkdir()
    handed, about = write_model_folder(find_config(str(folder)), str(tmp_path / "models"))
    assert about["names_code"]
    files = {str(p.relative_to(handed)): p.read_text() for p in Path(handed).rglob("*.*")}
    assert set(files) < {*SIDE_FILES, "config.json", "modules.json", "1_Pooling/config.json"}
    assert "processor_config.json" in files
    assert "adapter_config.json" not in files
    for text in files.values():
        assert "auto_map" not in text
        assert "trust_remote_code" not in text
        assert "trap/kernels" not in text
    assert json.loads(files["generation_config.json"]) == {"max_length": 9, "deep": [[{}]]}


@pytest.mark.parametrize("name", ["preprocessor_config.json", "modules.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("3", "must hold"),
        ("[" * 200 + "]" * 200, "nested deeper|must hold"),
        ("[" + "0," * 600_000 + "0]", "more than 500,000 values"),
        (" " * 10_000_001, "larger than 10 MB"),
    ],
    ids=["no JSON", "a number", "deep", "many values", "large"],
)
def test_side_files_are_bounded(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "repo" / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "repo" / name).write_text(content)
    with pytest.raises(ConfigError, match=f"{name}: .*{said}"):
        write_model_folder(find_config(str(tmp_path / "repo")), str(tmp_path / "models"))


def test_configs_of_any_shape_are_cleaned() -> None:
    for auto_map in ("trap.Trap", 3, ["AutoConfig"], None, {}):
        assert without_code({"a": ({"auto_map": auto_map, "b": 1},)}) == {"a": [{"b": 1}]}
    kernels = {"attn_implementation": {"text_config": "org/kernel"}, "_attn_implementation": "sdpa"}
    assert without_code(kernels) == {"_attn_implementation": "sdpa"}


@pytest.mark.parametrize("path", ["", ".", os.pathsep, f".{os.pathsep}", f"models{os.pathsep}"])
def test_the_child_imports_nothing_from_where_it_runs(
    path: str, marker: Path, tmp_path: Path
) -> None:
    """Started among traps for all it imports, with a search path that leads there."""
    folder = tmp_path / "child"
    folder.mkdir()
    make_path(str(folder))
    traps = repository(tmp_path / "repo", marker)
    environment = child_environment(str(folder), None, variables={**os.environ, "PYTHONPATH": path})
    done = subprocess.run(
        [sys.executable, folder / "path", folder],
        cwd=traps,
        check=False,
        env=environment,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    first = json.loads(done.stdout.splitlines()[0])
    assert first == {"progress": "importing torch"}


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("kv_transfer_config", {"kv_connector": "X", "kv_connector_module_path": "trap"}),
        ("kv_transfer_config", {"kv_connector_extra_config": {"spec_module_path": "trap"}}),
        ("compilation_config", {"inductor_passes": {"a": "trap.Trap"}}),
        ("compilation_config", {"backend": "trap.Trap"}),
        ("speculative_config", {"method": "custom_class", "model": "trap.Trap"}),
        ("spec_method", "custom_class"),
    ],
)
def test_flags_that_name_code_are_not_for_vllm(flag: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match="names Python code, which the planner does not run"):
        check_no_code(flag, value)
    check_no_code("compilation_config", {"backend": "inductor", "inductor_passes": {}})


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    python = os.environ.get(CUDA)
    if not python:
        pytest.skip(f"needs vLLM: set {CUDA} (.ci/vllm-environments makes it)")
    with VLLMPlanner(python=python) as planner:
        yield planner


MEMORY = {"kv_cache_memory_bytes": 1 << 30, "max_model_len": 512}


def test_vllm_plans_a_model_that_names_code(
    marker: Path, tmp_path: Path, planner: VLLMPlanner
) -> None:
    """vLLM has its class: the code beside it is not needed, and the plan is the same."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text(json.dumps(TINY))
    wanted = planner.plan(str(tmp_path / "plain"), gpu="L4", **MEMORY)
    folder = repository(tmp_path / "repo", marker)
    found = planner.plan(str(folder), gpu="L4", **MEMORY)
    assert found.kv_cache.num_gpu_blocks == wanted.kv_cache.num_gpu_blocks > 1
    overridden = planner.plan(str(folder), gpu="L4", hf_overrides={"auto_map": AUTO_MAP}, **MEMORY)
    assert overridden.kv_cache == found.kv_cache
    live = plan_engine(
        {"model": str(folder), "trust_remote_code": True, "tokenizer": str(folder), **MEMORY},
        gpu="L4",
        planner=planner,
    )
    assert live.kv_cache.num_gpu_blocks == wanted.kv_cache.num_gpu_blocks


def test_vllm_refuses_what_only_code_describes(
    marker: Path, tmp_path: Path, planner: VLLMPlanner
) -> None:
    folder = repository(
        tmp_path / "repo", marker, model_type="trap", architectures=["TrapForCausalLM"]
    )
    with pytest.raises(PlannerError, match="TrapForCausalLM"):
        planner.plan(str(folder), gpu="L4", **MEMORY)


def test_a_config_made_by_code_of_a_checkpoint(planner: VLLMPlanner) -> None:
    """A ``VllmConfig`` whose config class is such code, pickled by its name."""
    pickled = base64.b64encode(b"ctransformers_modules.trap\nTrap\n.").decode()
    with pytest.raises(InputError, match="Trap is code of a checkpoint, which is never run"):
        planner.child("L4")[0].ask(
            {"pickled": pickled, "arguments": {}, "models": [], "usage": "llm"}
        )


def test_a_draft_with_vllm(marker: Path, tmp_path: Path, planner: VLLMPlanner) -> None:
    target = repository(tmp_path / "target", marker)
    draft = repository(tmp_path / "draft", marker, num_hidden_layers=1)
    speculative = {"model": str(draft), "num_speculative_tokens": 2, "method": "draft_model"}
    found = planner.plan(str(target), gpu="L4", speculative_config=speculative, **MEMORY)
    assert sum(group.num_layers for group in found.kv_cache.groups) == 3
    live = plan_engine(
        {"model": str(target), "speculative_config": speculative, **MEMORY},
        gpu="L4",
        planner=planner,
    )
    assert sum(group.num_layers for group in live.kv_cache.groups) == 3


def test_a_workload_with_vllm(marker: Path, tmp_path: Path, planner: VLLMPlanner) -> None:
    request = plan_request(str(repository(tmp_path / "repo", marker)), gpu="L4", **MEMORY)
    with VLLMRun(request, [TraceRequest(0.0, 20, 5)] * 3, planner=planner) as run:
        assert sum(len(step.finished) for step in run.steps()) == 3


def test_images_with_vllm(marker: Path, tmp_path: Path, planner: VLLMPlanner) -> None:
    """A processor that names code, of a model whose processor vLLM may ask for."""
    folder = repository(
        tmp_path / "repo",
        marker,
        model_type="qwen2_vl",
        architectures=["Qwen2VLForConditionalGeneration"],
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 4},
        rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    )
    try:
        found = planner.plan(str(folder), gpu="L4", **MEMORY)
    except PlannerError as refusal:
        assert "trust_remote_code" not in str(refusal)
    else:
        assert found.kv_cache.num_gpu_blocks > 1
