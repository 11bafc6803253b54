"""dtypes of model and KV cache, from vLLM's source by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.engine_args.caching import (
    resolve_kv_cache_dtype,
    skip_layers,
)
from vllm_kv_planner.engine_args.defaults import resolve_engine
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.lengths import resolve_dtype
from vllm_kv_planner.errors import InputError, UnsupportedError
from vllm_kv_planner.gpu import find_gpu

from .engine_cases import facts


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
