"""Prefix caching, Mamba modes and the hybrid manager by kind of model."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.engine_args.caching import hybrid_manager_disabled, resolve_caching_mode
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.facts import PoolingFacts
from vllm_kv_planner.errors import InputError

from .engine_cases import facts


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
