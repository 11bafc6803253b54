"""EngineArgs as a whole, and the engine it resolves to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vllm_kv_planner.engine_args.defaults import resolve_engine
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.flags import FlagParser, add_engine_flags, engine_args_from
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.gpu import find_gpu

from .engine_cases import facts


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
