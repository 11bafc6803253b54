"""What a KV connector changes in the plan (``--kv-transfer-config``, ``--kv-offloading-size``).

Source: vLLM 0.33 ``config/kv_transfer.py``, ``config/vllm.py`` ``_post_init_kv_transfer_config``,
``distributed/kv_transfer/kv_connector/factory.py`` (the registry, ``supports_hma_config``), and the
connectors' classes: which of them are ``SupportsHMA``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError
from .engine_args import EngineArgs

_HYBRID = {
    "ExampleConnector": False,
    "ExampleHiddenStatesConnector": True,
    "LMCacheConnectorV1": False,
    "LMCacheMPConnector": False,
    "NixlConnector": True,
    "NixlPullConnector": True,
    "NixlPushConnector": True,
    "MultiConnector": True,
    "HiSparseConnector": True,
    "MoRIIOConnector": True,
    "OffloadingConnector": True,
    "DecodeBenchConnector": True,
    "MooncakeConnector": True,
    "MooncakeStoreConnector": True,
    "FlexKVConnectorV1": False,
    "SimpleCPUOffloadConnector": True,
    "HF3FSKVConnector": False,
    "UMBPStoreConnector": True,
}
"""Every registered connector, and whether it works with the hybrid KV cache manager."""
_ROLES = ("kv_producer", "kv_consumer", "kv_both")
_MOST = 64


def supports_hybrid(args: EngineArgs) -> bool | None:
    """Whether the hybrid KV cache manager may stay on; None without a connector.

    A connector of one's own (``kv_connector_module_path``) is taken to work with it.

    Raises:
        InputError: The connector is not named, or its role is not.
        UnknownNameError: No such connector.
    """
    if args.kv_offloading_size is not None:
        return args.kv_offloading_backend == "native"
    return None if args.kv_transfer_config is None else _supports(args.kv_transfer_config)


def why_hybrid_is_off(args: EngineArgs) -> str | None:
    """Which connector turns the hybrid KV cache manager off; None where none does, or a flag does.

    As ``_post_init_kv_transfer_config`` and the check for ``SupportsHMA`` in vllm/config/vllm.py.
    """
    if args.disable_hybrid_kv_cache_manager is not None or supports_hybrid(args) is not False:
        return None
    if args.kv_offloading_size is not None:
        cause = f"--kv-offloading-backend {args.kv_offloading_backend}"
    else:
        cause = " in ".join(_without_hybrid(args.kv_transfer_config or {}))
    return f"{cause} turns the hybrid KV cache manager off (a KV connector without support for it)"


def _without_hybrid(config: Mapping[str, Any]) -> list[str]:
    """Names from the connector at fault up to the one that was asked for."""
    name = str(config.get("kv_connector"))
    for child in _children(config) if name == "MultiConnector" else []:
        if not _supports(child, 1):
            return [*_without_hybrid(child), name]
    return [name]


def needs_piecewise(config: Mapping[str, Any] | None) -> bool:
    """Whether the connector works between layers, which a full CUDA graph does not let it."""
    if config is None:
        return False
    if config.get("kv_connector") == "MultiConnector":
        return any(map(needs_piecewise, _children(config)))
    extra = config.get("kv_connector_extra_config")
    layerwise = isinstance(extra, Mapping) and bool(extra.get("use_layerwise"))
    return config.get("kv_connector") == "LMCacheConnectorV1" and layerwise


def _supports(config: Mapping[str, Any], depth: int = 0) -> bool:
    name, role = config.get("kv_connector"), config.get("kv_role")
    if not isinstance(name, str) or not name:
        raise InputError("--kv-transfer-config: kv_connector is not set")
    if role not in _ROLES and not (role is None and depth):
        raise InputError(
            f"--kv-transfer-config: kv_role is {str(role)[:40]!r}; valid: {', '.join(_ROLES)}"
        )
    if config.get("kv_connector_module_path"):
        return True
    if name not in _HYBRID:
        from difflib import get_close_matches

        near = get_close_matches(name, _HYBRID, n=2, cutoff=0.5) or sorted(_HYBRID)
        raise UnknownNameError(
            f"--kv-transfer-config: no connector {name[:60]!r}; nearest: {', '.join(near)}"
        )
    if name != "MultiConnector":
        return _HYBRID[name]
    children = _children(config)
    return bool(children) and depth < 2 and all(_supports(each, depth + 1) for each in children)


def _children(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    extra = config.get("kv_connector_extra_config")
    found = extra.get("connectors") if isinstance(extra, Mapping) else None
    listed = found if isinstance(found, list) else []
    return [each for each in listed[:_MOST] if isinstance(each, Mapping)]
