"""KV connectors: which turn the hybrid KV cache manager off, and what vLLM refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import rank_of, setup_of
from vllm_kv_planner.engine_args.caching import without_hybrid
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.memory.cuda_graphs import captures


def connector(name: object, **more: Any) -> dict[str, Any]:
    return {"kv_connector": name, "kv_role": "kv_both", **more}


def several(*names: str) -> dict[str, Any]:
    extra = {"connectors": [connector(name) for name in names]}
    return connector("MultiConnector", kv_connector_extra_config=extra)


@pytest.mark.parametrize(
    ("flags", "supports"),
    [
        ({}, True),
        ({"kv_transfer_config": connector("NixlConnector")}, True),
        ({"kv_transfer_config": connector("LMCacheConnectorV1")}, False),
        ({"kv_transfer_config": several("NixlConnector", "OffloadingConnector")}, True),
        ({"kv_transfer_config": several("NixlConnector", "HF3FSKVConnector")}, False),
        ({"kv_transfer_config": several()}, False),
        ({"kv_transfer_config": connector("Mine", kv_connector_module_path="mine")}, True),
        ({"kv_offloading_size": 10}, True),
        ({"kv_offloading_size": 10, "kv_offloading_backend": "lmcache"}, False),
    ],
)
def test_hybrid_kv_cache_manager(flags: dict[str, Any], supports: bool) -> None:
    """As the connectors' classes say it, ``SupportsHMA`` or not."""
    assert (without_hybrid(EngineArgs(**flags)) is None) is supports


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "kv_connector is not set"),
        ({"kv_connector": "NixlConnector"}, "kv_role is 'None'; valid: kv_producer"),
        (connector("NixlConnectr"), "nearest: NixlConnector"),
        (connector("Own"), "no connector 'Own'"),
        (connector(7), "takes a text or null"),
    ],
)
def test_connectors_vllm_refuses(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        without_hybrid(EngineArgs(kv_transfer_config=config))


def test_without_the_hybrid_manager_every_layer_keeps_the_whole_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lmcache = setup_of("google/gemma-3-4b-it", kv_transfer_config=connector("LMCacheConnectorV1"))
    asked = setup_of("google/gemma-3-4b-it", disable_hybrid_kv_cache_manager=True)
    assert lmcache.resolved.disable_hybrid_kv_cache_manager
    assert lmcache.cache.stages == asked.cache.stages
    assert not setup_of("google/gemma-3-4b-it").resolved.disable_hybrid_kv_cache_manager


def test_work_between_layers_keeps_graphs_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    layerwise = connector("LMCacheConnectorV1", kv_connector_extra_config={"use_layerwise": True})
    for config in (
        layerwise,
        connector("MultiConnector", kv_connector_extra_config={"connectors": [layerwise]}),
    ):
        taken = captures(rank_of(setup_of(kv_transfer_config=config)))
        assert taken.piecewise and not taken.full
    assert captures(rank_of(setup_of(kv_transfer_config=connector("LMCacheConnectorV1")))).full
