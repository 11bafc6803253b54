"""A sweep on a Ray cluster: the same rows as from processes, whatever happens to an actor."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray: pip install ray", allow_module_level=True)

GRID = [
    *("gpt2", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "L4,H100"),
    *("--grid", "tensor_parallel_size=1,2,5", "--grid", "max_model_len=1K,none"),
]
ENVIRONMENT = {
    **os.environ,
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **more},
        timeout=300,
        check=False,
    )


def sweep(path: Path, *arguments: str, **more: str) -> bytes:
    command = ["-m", "vllm_kv_planner", "sweep", *GRID, "--output", str(path), *arguments]
    done = python(*command, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    return path.read_bytes()


CLUSTER = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of this machine alone, which ends with its process: ``ray stop`` ends all."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        found = next(line.split()[1] for line in process.stdout if line.startswith("address "))
        yield found
        process.stdin.close()
        assert process.wait(60) == 0


def test_the_rows_are_those_of_the_process_pool(address: str, tmp_path: Path) -> None:
    pool = sweep(tmp_path / "pool.csv")
    assert pool.count(b"\n") == 25
    assert sweep(tmp_path / "ray.csv", "--ray", address, "--workers", "2") == pool
    # half of it, and the rest on the cluster
    half = b"".join(pool.splitlines(keepends=True)[:13])
    (tmp_path / "half.csv").write_bytes(half)
    on_ray = ["--ray", "auto", "--resume"]
    assert sweep(tmp_path / "half.csv", *on_ray, RAY_ADDRESS=address) == pool


def test_the_death_of_an_actor_is_one_rows_error(address: str) -> None:
    script = f"""
import os, signal
from vllm_kv_planner.capacity.sweep.run import sweep
from vllm_kv_planner.config.find import FoundConfig, find_config
import ray

class Deadly(dict):
    def get(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)

models = ["gpt2", FoundConfig("deadly", Deadly(find_config("gpt2").config), "local")]
result = sweep(grid={{"max_num_seqs": [1, 2, 3]}}, setups=[{{"model": m}} for m in models],
               kv_cache_memory_bytes=1 << 30, ray={address!r})
at = result.columns.index
print([row[at("kv_cache.num_gpu_blocks")] for row in result.rows])
print(["died" in (row[at("error")] or "") for row in result.rows], ray.is_initialized())
"""
    done = python("-c", script)
    # Ray prints before these what it thinks of the actor
    assert done.stdout.splitlines()[-2:] == [
        "[1820, None, 1820, None, 1820, None]",
        "[False, True, False, True, False, True] False",
    ], done.stderr[-3000:]


def test_a_connection_of_the_callers_is_used_and_kept(address: str) -> None:
    script = f"""
import ray
from vllm_kv_planner.capacity.sweep.run import sweep
ray.init(address={address!r}, log_to_driver=False)
result = sweep("gpt2", kv_cache_memory_bytes=1 << 30, ray="auto")
print(result.fit, ray.is_initialized())
"""
    done = python("-c", script)
    assert done.stdout.splitlines() == ["1 True"], done.stderr[-3000:]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("127.0.0.1:1", "nobody answers"),
        ("ray://127.0.0.1:1", "nobody answers"),
        ("nonsense", "--ray nonsense"),
    ],
)
def test_no_cluster_is_one_line(wanted: str, said: str) -> None:
    done = python("-m", "vllm_kv_planner", "sweep", "gpt2", "--ray", wanted)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1
