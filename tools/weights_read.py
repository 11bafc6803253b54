"""What vLLM's model class registers on a rank, read off the class built without storage.

Run by ``tools/make_weights.py`` in an environment with vLLM 0.33; no GPU. A process imports vLLM
once and builds every model in a fork, as the planner's own child process does.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from weights_modules import rows, tensor_bytes  # noqa: E402

from vllm_kv_planner.gpu.catalogue import find_gpu  # noqa: E402
from vllm_kv_planner.vllm_adapter.absent_gpu import describe_gpu  # noqa: E402
from vllm_kv_planner.vllm_adapter.child import child_environment, make_path  # noqa: E402

GPU = "H100"
SECONDS = 60


class NotBuiltError(Exception):
    """vLLM refused a config; its first line."""


def enter() -> None:
    """Become a process whose environment is that of the planner's child; run once, at the start."""
    if os.environ.get("WEIGHTS_FOLDER"):
        return
    folder = tempfile.mkdtemp(prefix="make-weights-")
    make_path(folder)
    environment = child_environment(folder, describe_gpu(find_gpu(GPU)))
    environment["WEIGHTS_FOLDER"] = folder
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


class Builder:
    """Builds models; ``close`` removes what was written."""

    def __init__(self) -> None:
        self.folder = os.environ["WEIGHTS_FOLDER"]
        self.started = False

    def start(self) -> None:
        """Import vLLM, once there is something to build."""
        if self.started:
            return
        from vllm_kv_planner.vllm_adapter.server import Server, import_all

        self.started, self.import_all = True, import_all
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            Server(self.folder, sys.stdin, nothing).prepare()
        from vllm.engine import arg_utils
        from vllm.plugins import load_general_plugins

        arg_utils.configure_logging_if_needed = lambda config: None  # 1.7 s in each fork
        load_general_plugins()
        gc.disable()  # forks would copy every page it touches

    def close(self) -> None:
        """Remove the folder of caches."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def build(
        self, config: Mapping[str, Any], *, rank: int = 0, **arguments: Any
    ) -> dict[str, Any]:
        """``rows``, ``bytes`` of distinct storages, ``read`` keys of the config.

        ``arguments`` are ``EngineArgs``; ``rank``: the rank of the whole engine.

        Raises:
            NotBuiltError: vLLM's refusal.
        """
        kept = None
        if os.environ.get("WEIGHTS_CACHE"):
            text = json.dumps([config, rank, arguments], sort_keys=True)
            name = hashlib.sha256(text.encode()).hexdigest()[:24]
            kept = Path(os.environ["WEIGHTS_CACHE"], name)
        answer = json.loads(kept.read_text()) if kept and kept.exists() else None
        if answer is None:
            answer = self._forked(config, rank, arguments)
            if kept is not None:
                kept.write_text(json.dumps(answer))
        if "refused" in answer:
            raise NotBuiltError(answer["refused"])
        return dict(answer)

    def _forked(
        self, config: Mapping[str, Any], rank: int, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        self.start()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _answer(config, rank, arguments, writing, self.folder)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            data = pipe.read()
        os.waitpid(pid, 0)
        answer = json.loads(data) if data else {"refused": "the process died"}
        self.import_all(answer.pop("imported", ()))
        return dict(answer)


def _answer(
    config: Mapping[str, Any], rank: int, arguments: dict[str, Any], writing: int, folder: str
) -> None:
    """In a fork: one model's rows as JSON into the pipe, then the end."""
    import signal

    signal.alarm(SECONDS)
    nothing = os.open(os.devnull, os.O_WRONLY)
    if not os.environ.get("WEIGHTS_DEBUG"):
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    known = set(sys.modules)
    try:
        answer = _built(config, rank, arguments, folder)
    except BaseException as error:
        if os.environ.get("WEIGHTS_DEBUG"):
            import traceback

            traceback.print_exc()
        answer = {"refused": f"{type(error).__name__}: {error}"[:400]}
    answer["imported"] = [name for name in sys.modules if name not in known]
    try:
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
    finally:
        os._exit(0)  # also where nobody listens any more


def _built(
    config: Mapping[str, Any], rank: int, arguments: dict[str, Any], folder: str
) -> dict[str, Any]:
    import torch

    from vllm_kv_planner.vllm_adapter.internals import patches
    from vllm_kv_planner.vllm_adapter.internals.config import engine_config, register_remote_config
    from vllm_kv_planner.vllm_adapter.internals.names import name, optional_name
    from vllm_kv_planner.vllm_adapter.internals.worker import join_groups

    model = tempfile.mkdtemp(dir=folder)
    Path(model, "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    register_remote_config(config, names_code=True)
    request = {
        "arguments": {"model": model, "skip_tokenizer_init": True, **arguments},
        "usage": "server",
    }
    vllm_config = engine_config(request)  # the class may look into the folder, too
    vllm_config.parallel_config.rank = rank
    with name("set_current_vllm_config")(vllm_config):
        kernels: Any = getattr(vllm_config, "kernel_config", None)
        if hasattr(kernels, "ir_op_priority"):
            kernels.ir_op_priority.set_default()
        join_groups(vllm_config, rank)
        workspace = optional_name("init_workspace_manager")
        if workspace is not None:
            workspace(torch.device("meta"), 1)
        with _recorded(vllm_config.model_config.hf_config) as read, _marked() as towers:
            loader = name("get_model_loader")(vllm_config.load_config)
            built = loader.load_model(
                vllm_config=vllm_config, model_config=vllm_config.model_config
            )
    dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
    return {
        "rows": list(rows(built, dtype)),
        "bytes": patches.storage_bytes(built),
        "tensors": tensor_bytes(built),
        "dtype": dtype,
        "read": sorted(read),
        "classes": {n: type(m).__name__ for n, m in built.named_modules() if n.count(".") < 2},
        "stacks": {
            n: len(m) for n, m in built.named_modules() if isinstance(m, torch.nn.ModuleList)
        },
        "lora_embeddings": bool(getattr(built, "embedding_modules", None)),
        "towers": towers,
    }


@contextlib.contextmanager
def _marked() -> Iterator[dict[str, list[str]]]:
    """Modules that a class marks as towers, and the modalities that each serves."""
    from vllm.model_executor.models.interfaces import SupportsMultiModal

    own = SupportsMultiModal._mark_tower_model
    found: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def marking(self: Any, vllm_config: Any, modalities: Any, **more: Any) -> Iterator[None]:
        with own(self, vllm_config, modalities, **more):
            yield
        served = {modalities} if isinstance(modalities, str) else modalities
        found.update((name, sorted(served)) for name in self._tower_model_names)

    SupportsMultiModal._mark_tower_model = marking
    try:
        yield found
    finally:
        SupportsMultiModal._mark_tower_model = own


@contextlib.contextmanager
def _recorded(config: Any) -> Iterator[set[str]]:
    """The keys that are read of a config and of those inside it, by their paths."""
    from transformers import PretrainedConfig

    paths = {id(config): ""}
    for key, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            paths[id(value)] = f"{key}."
            for inner, deep in list(vars(value).items()):
                if isinstance(deep, PretrainedConfig):
                    paths[id(deep)] = f"{key}.{inner}."
    own = PretrainedConfig.__getattribute__
    read: set[str] = set()

    def recording(self: Any, key: str) -> Any:
        if key[:1] != "_" and id(self) in paths:
            read.add(paths[id(self)] + key)
        return own(self, key)

    PretrainedConfig.__getattribute__ = recording
    try:
        yield read
    finally:
        PretrainedConfig.__getattribute__ = own
