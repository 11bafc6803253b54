"""The plugin inside vLLM: silent when not asked, harmless when broken, right on real engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.vllm_python import CPU, CUDA, free_port
from vllm_kv_planner import plan
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.engine_plugin import hooks, register, watch
from vllm_kv_planner.engine_plugin.config import gpu_here
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.vllm_adapter.absent_gpu import describe_gpu
from vllm_kv_planner.vllm_adapter.child import child_environment, make_path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
LLAMA = {
    "config_class": "LlamaConfig",
    "model_class": "LlamaForCausalLM",
    "values": {
        **{"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 3},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512},
        "max_position_embeddings": 1024,
    },
}
ENGINE = """
import sys
from tests.vllm_cpu_engines import run_engine
if __name__ == "__main__":
    {first}
    print(run_engine(sys.argv[1], {arguments!r}))
    print("ran on")
"""


def needs(variable: str) -> str:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"needs vLLM: set {variable}")
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes this checkout an installed package, and the CPU build one named vllm."""
    folder = tmp_path_factory.mktemp("installed")
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    groups = setup["options.entry_points"]
    text = "".join(f"[{name}]\n{groups[name].strip()}\n" for name in groups if "vllm." in name)
    for name, version in (("vllm_kv_planner", "0"), ("vllm", "0.32.0+cpu")):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "vllm_kv_planner-0.dist-info" / "entry_points.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "llama"
    making = f"from tests.vllm_cpu_engines import make_model; make_model({str(folder)!r}, {LLAMA})"
    subprocess.run([needs(CPU), "-c", making], check=True, capture_output=True, cwd=ROOT)
    return folder


def engine(
    installed: Path, model: Path, mode: str, first: str = "", **arguments: Any
) -> subprocess.CompletedProcess[str]:
    """A real ``LLM(...)`` on the CPU, and what follows it in the same script."""
    script = model.parent / "engine.py"
    script.write_text(ENGINE.format(first=first or "pass", arguments=arguments))
    return subprocess.run(
        [needs(CPU), str(script), str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env=environment_of(installed, mode),
    )


def environment_of(installed: Path, mode: str) -> dict[str, str]:
    return {
        **os.environ,
        **{"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"},
        **{"VLLM_LOGGING_LEVEL": "INFO", "VLLM_KV_PLANNER": mode},
    }


def said(text: str) -> list[str]:
    return [
        line.split("KV planner: ", 1)[1] for line in text.splitlines() if "KV planner: " in line
    ]


def test_nothing_is_imported_unless_asked() -> None:
    script = (
        "import sys; before = set(sys.modules); from vllm_kv_planner.engine_plugin import register;"
        " register(); print(*(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "VLLM_KV_PLANNER": ""},
    )
    ours = {name for name in ran.stdout.split() if name.startswith("vllm_kv_planner")}
    assert ours <= {
        "vllm_kv_planner",
        "vllm_kv_planner.engine_plugin",
        "vllm_kv_planner.version",
    }


def test_an_unknown_mode_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VLLM_KV_PLANNER", "enfroce")
    finders = list(sys.meta_path)
    register()
    assert sys.meta_path == finders
    (record,) = caplog.records
    assert "none of report, enforce, enforce=strict" in record.getMessage()


def test_hooks_are_put_on_import_and_survive_their_own_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "_installed", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    hooked: list[ModuleType] = []
    monkeypatch.setattr(
        hooks, "_HOOKS", {"hooked_one": hooked.append, "hooked_two": lambda _: 1 / 0}
    )
    for name in ("hooked_one", "hooked_two", "plain_one"):
        (tmp_path / f"{name}.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    hooks.install("report")
    import hooked_one  # type: ignore[import-not-found]
    import hooked_two  # type: ignore[import-not-found]
    import plain_one  # type: ignore[import-not-found]

    assert hooked == [hooked_one] and hooked_two.value == plain_one.value == 7
    assert "ZeroDivisionError" in caplog.text
    for name in ("hooked_one", "hooked_two", "plain_one"):
        del sys.modules[name]


def test_a_wrapped_function_runs_whatever_happens_around_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Any] = []
    owner = SimpleNamespace(start=lambda *, size: 2 * size)
    hooks.wrapped(
        owner, "start", before=lambda **_: 1 / 0, after=lambda **given: seen.append(given["size"])
    )
    assert owner.start(size=3) == 6 and seen == [3]
    assert "ZeroDivisionError" in caplog.text

    def refuse(**_: Any) -> None:
        raise SystemExit("not started")

    owner = SimpleNamespace(start=lambda **_: seen.append("ran"))
    hooks.wrapped(owner, "start", before=refuse)
    with pytest.raises(SystemExit, match="not started"):
        owner.start(size=3)
    assert seen == [3]


def test_the_memory_of_a_cpu_is_not_made_up() -> None:
    config = SimpleNamespace(
        device_config=SimpleNamespace(device_type="cpu"),
        cache_config=SimpleNamespace(kv_cache_memory_bytes=None),
    )
    with pytest.raises(UnsupportedError, match="--kv-cache-memory-bytes or VLLM_CPU_KVCACHE_SPACE"):
        gpu_here(config)
    config.cache_config.kv_cache_memory_bytes = 64 << 20
    assert gpu_here(config) is None


def test_what_vllm_refuses_of_unknown_variables_is_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    class Platform:
        @classmethod
        def validate_environ(cls, hard_fail: bool) -> None:
            seen.append(os.environ.get("VLLM_KV_PLANNER"))

    monkeypatch.setenv("VLLM_KV_PLANNER", "report")
    hooks._platform(SimpleNamespace(Platform=Platform))  # type: ignore[arg-type]
    Platform.validate_environ(True)
    assert seen == [None] and os.environ["VLLM_KV_PLANNER"] == "report"


GIB = 1 << 30


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        ({"kv_cache_bytes": 50 * GIB}, "50.00 GiB actual (as planned)"),
        (
            {"kv_cache_bytes": 48 * GIB, "weights_bytes": 16 * GIB, "activation_peak_bytes": GIB},
            "(-4.00%); outside the band; furthest off: weights +1.00 GiB",
        ),
        ({"kv_cache_bytes": 51 * GIB}, "(+2.00%); inside the band"),
        ({"gpu_blocks": 990}, "blocks 1,000 predicted, 990 actual (-1.00%)"),
        ({}, "nothing to compare"),
    ],
)
def test_the_difference_in_words(actual: Mapping[str, Any], words: str) -> None:
    predicted = {
        **{"kv_cache_bytes": 50 * GIB, "band_bytes": GIB, "weights_bytes": 15 * GIB},
        **{"activation_peak_bytes": GIB, "gpu_blocks": 1000, "max_concurrency": None},
    }
    assert watch.after_line(predicted, actual).endswith(words)


def test_a_refusal_names_the_change_that_would_fit() -> None:
    answer = plan("meta-llama/Llama-3.1-70B-Instruct", gpu="H100", max_model_len=8192)
    line = watch.refusal_line(answer)
    assert line.startswith("not started, does not fit: ")
    assert "--tensor-parallel-size 4 would (" in line


def test_an_engine_has_what_was_planned(installed: Path, model: Path) -> None:
    ran = engine(installed, model, "report", max_model_len=512, kv_cache_memory_bytes=64 << 20)
    assert ran.returncode == 0 and "ran on" in ran.stdout, ran.stderr
    before, after = said(ran.stdout + ran.stderr)
    assert before.startswith("fits: ") and "682 blocks, 170.50 requests of 512 tokens" in before
    assert "blocks 682 predicted, 682 actual (as planned)" in after


def test_an_impossible_engine_is_not_started(installed: Path, model: Path) -> None:
    ran = engine(installed, model, "enforce", max_model_len=512, kv_cache_memory_bytes=100_000)
    assert ran.returncode == 1 and "ran on" not in ran.stdout
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "KV planner: not started, does not fit: one request of max_model_len 512"
    )
    assert "EngineCore" not in ran.stdout + ran.stderr


def test_a_server_tells_its_metrics(installed: Path, model: Path) -> None:
    """Two API servers, so two processes with metrics, and one engine; one of them all speaks."""
    port, log = free_port(), model.parent / "server.log"
    served = [
        needs(CPU),
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
        str(model),
        "--port",
        str(port),
    ]
    served += ["--skip-tokenizer-init", "--enforce-eager", "--max-model-len", "512"]
    served += ["--kv-cache-memory-bytes", "64M", "--api-server-count", "2"]
    environment = environment_of(installed, "report") | {"VLLM_PLUGINS": "vllm_kv_planner"}
    with log.open("w") as output:
        process = subprocess.Popen(served, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + SECONDS
        while asked(port, "/health") is None:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        metrics = (asked(port, "/metrics") or b"").decode()
        told = json.loads(asked(port, "/kv_plan") or b"{}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    for source in ("predicted", "actual"):
        assert f'vllm_kv_planner_gpu_blocks{{source="{source}"}} 682.0' in metrics
        assert told[source]["gpu_blocks"] == 682
    assert told["predicted"]["plan"]["model"]["num_layers"] == 3
    text = log.read_text()
    assert len(said(text)) == 2
    assert "Unknown vLLM environment variable" not in text


def asked(port: int, path: str) -> bytes | None:
    """The server's answer; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None


def test_an_error_of_ours_stops_no_engine(installed: Path, model: Path) -> None:
    first = (
        "from vllm_kv_planner.engine_plugin import watch, config; import os;"
        " os.environ['VLLM_ENABLE_V1_MULTIPROCESSING'] = '0';"
        " watch.planned = watch.measured = None"
    )
    arguments = {"max_model_len": 512, "kv_cache_memory_bytes": 64 << 20}
    ran = engine(installed, model, "enforce=strict", first, **arguments)
    assert ran.returncode == 0 and "ran on" in ran.stdout, ran.stderr
    warned = said(ran.stdout + ran.stderr)
    assert len(warned) == 2 and all("TypeError" in line for line in warned), warned


CASES: list[dict[str, Any]] = [
    {"model": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 8192},
    {
        **{"model": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 4096, "block_size": 32},
        **{"tensor_parallel_size": 2, "kv_cache_dtype": "fp8", "max_num_seqs": 64},
    },
    {"model": "google/gemma-3-27b-it", "max_model_len": 32768, "enforce_eager": True},
    {
        "model": "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "tensor_parallel_size": 4,
        "max_model_len": 32768,
    },
    {
        **{"model": "Qwen/Qwen3-8B", "max_model_len": 16384, "enable_lora": True, "max_loras": 2},
        **{"pipeline_parallel_size": 2, "enable_prefix_caching": False},
    },
    {
        **{"model": "deepseek-ai/DeepSeek-V3", "tensor_parallel_size": 8, "max_model_len": 8192},
        "speculative_config": {"method": "mtp", "num_speculative_tokens": 1},
    },
    {"model": "openai/gpt-oss-20b", "gpu_memory_utilization": 0.8, "max_num_batched_tokens": 4096},
]
RESOLVE = """
import json, sys
from vllm_kv_planner.vllm_adapter.server import Server
Server(sys.argv[1], sys.stdin, sys.stdout).prepare()
from vllm_kv_planner.engine_plugin.config import flags
from vllm_kv_planner.vllm_adapter.internals.config import engine_config
for line in sys.stdin:
    request = json.loads(line)
    print("RESOLVED", json.dumps(flags(engine_config({"arguments": request, "usage": "server"}))))
"""


def test_a_resolved_config_is_planned_as_the_command_line_was(tmp_path: Path) -> None:
    """What vLLM 0.33 resolved, read back from its VllmConfig, makes the same plan."""
    python = needs(CUDA)
    make_path(str(tmp_path))
    environment = child_environment(str(tmp_path), describe_gpu(find_gpu("H100")))
    lines = []
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(find_config(case["model"]).config))
        lines.append(json.dumps({**case, "model": str(folder), "skip_tokenizer_init": True}))
    ran = subprocess.run(
        [python, "-c", RESOLVE, str(tmp_path)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env=environment,
    )
    resolved = [
        json.loads(line.removeprefix("RESOLVED "))
        for line in ran.stdout.splitlines()
        if line.startswith("RESOLVED ")
    ]
    assert len(resolved) == len(CASES), ran.stderr[-2000:]
    for case, flags in zip(CASES, resolved, strict=True):
        found = find_config(case["model"])
        given = {key: value for key, value in case.items() if key != "model"}
        one = plan(found, gpu="H100", planner="standalone", **given)
        other = plan(found, gpu="H100", planner="standalone", **flags)
        assert (other.kv_cache, other.memory) == (one.kv_cache, one.memory), flags
