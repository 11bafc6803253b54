"""Where vLLM is listened to: small wrappers around a few of its functions, put there on import.

Each wrapper calls what it wraps whatever happens to it itself: an error of ours is one warning
line. Only ``enforce`` ends a start, by SystemExit in the process that was about to launch the
engine: there it ends without a traceback and before any other process is started.

Neither ``vllm.stat_logger_plugins`` nor ``vllm.endpoint_plugins`` is used as an entry point: an
installed stat logger switches statistics on where ``--disable-log-stats`` switched them off, and an
installed endpoint makes every server warn that ``VLLM_PLUGINS`` is not set.

Source: vLLM 0.33 ``v1/engine/utils.py`` ``launch_core_engines``, ``v1/engine/core_client.py``
``InprocClient``, ``v1/engine/core.py`` ``EngineCore._initialize_kv_caches``,
``v1/metrics/loggers.py`` ``StatLoggerManager``, ``v1/engine/async_llm.py``,
``plugins/__init__.py`` ``load_endpoint_plugins``, ``platforms/interface.py`` ``validate_environ``.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from .telling import MODE, guarded, warn

MODES = ("report", "enforce", "enforce=strict")
NAME = "vllm_kv_planner"
"""Of the plugin, as ``VLLM_PLUGINS`` lists it."""
_installed: list[str] = []


def install(mode: str) -> None:
    """Put the hooks in place, once a process."""
    if _installed:
        return
    if mode not in MODES:
        warn(f"{MODE}={mode[:40]!r} is none of {', '.join(MODES)}: nothing is planned or stopped")
        return
    _installed.append(mode)
    for name, hook in _HOOKS.items():
        if name in sys.modules:
            guarded(hook)(sys.modules[name])
    sys.meta_path.insert(0, _AfterImport())


def _nothing(*_: Any, **__: Any) -> None:
    pass


def wrapped(
    owner: Any,
    name: str,
    *,
    before: Callable[..., None] = _nothing,
    after: Callable[..., None] = _nothing,
) -> None:
    """Call ``before`` and ``after`` around a function, with its arguments; their errors are told.

    A function that this version of vLLM does not have is passed over.
    """
    inner = getattr(owner, name, None)
    if inner is None or hasattr(inner, "_kv_planner"):
        return

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        guarded(before)(*args, **kwargs)
        result = inner(*args, **kwargs)
        guarded(after)(*args, **kwargs)
        return result

    outer._kv_planner = True  # type: ignore[attr-defined]
    setattr(owner, name, outer)


def _launching(*args: Any, **kwargs: Any) -> None:
    """Before the engine's processes, or the engine in this process, are made."""
    from .watch import before_start

    config = kwargs.get("vllm_config") or next(
        (each for each in args if type(each).__name__ == "VllmConfig"), None
    )
    refusal = before_start(config, _installed[0])
    if refusal:
        raise SystemExit(f"KV planner: {refusal}")


def _sized(core: Any, vllm_config: Any) -> None:
    """The engine has its KV cache."""
    from .watch import after_start

    after_start(core, vllm_config)


def _initialized(_: Any) -> None:
    """The front end has the engine's final config."""
    from .metrics import set_gauges

    set_gauges()


def _client(module: ModuleType) -> None:
    wrapped(module, "launch_core_engines", before=_launching)
    if hasattr(module, "InprocClient"):
        wrapped(module.InprocClient, "__init__", before=_launching)


def _core(module: ModuleType) -> None:
    wrapped(module.EngineCore, "_initialize_kv_caches", after=_sized)


def _loggers(module: ModuleType) -> None:
    wrapped(module.StatLoggerManager, "log_engine_initialized", after=_initialized)


def _plugins(module: ModuleType) -> None:
    """Our endpoint among those that vLLM loads, where the operator lists it in VLLM_PLUGINS."""
    inner = getattr(module, "load_endpoint_plugins", None)
    listed = os.environ.get("VLLM_PLUGINS", "").split(",")
    if inner is None or NAME not in listed or hasattr(inner, "_kv_planner"):
        return

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        from .metrics import Endpoint

        return [*inner(*args, **kwargs), Endpoint()]

    outer._kv_planner = True  # type: ignore[attr-defined]
    module.load_endpoint_plugins = outer  # type: ignore[attr-defined]


def _platform(module: ModuleType) -> None:
    """vLLM refuses or warns of variables of its prefix that it does not know, ours too."""
    inner = getattr(module.Platform, "validate_environ", None)
    if inner is None:
        return

    def outer(cls: Any, *args: Any, **kwargs: Any) -> None:
        ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(MODE)}
        try:
            inner.__func__(cls, *args, **kwargs)
        finally:
            os.environ.update(ours)

    module.Platform.validate_environ = classmethod(outer)


_HOOKS: Mapping[str, Callable[[ModuleType], None]] = {
    "vllm.v1.engine.utils": _client,
    "vllm.v1.engine.core_client": _client,
    "vllm.entrypoints.cli.serve": _client,
    "vllm.v1.engine.core": _core,
    "vllm.v1.metrics.loggers": _loggers,
    "vllm.plugins": _plugins,
    "vllm.platforms.interface": _platform,
}


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds what the others find, and hooks a module once it has been run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None for every module without a hook: the other finders answer."""
        if fullname not in _HOOKS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self._hook(spec.loader, fullname)
                return spec  # type: ignore[no-any-return]
        return None

    def _hook(self, loader: Any, fullname: str) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            guarded(_HOOKS[fullname])(module)

        loader.exec_module = exec_module
