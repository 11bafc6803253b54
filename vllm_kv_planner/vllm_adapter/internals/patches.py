"""What has to be replaced in vLLM once, so that one process can stand for every rank.

Only surroundings are replaced: process groups, the registry's subprocess, weights. Whatever decides
about the KV cache is left alone.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

from ...errors import UnsupportedError
from .names import name

META_LOAD_FORMAT = "vllm_kv_planner_meta"
GPUS_PER_NODE = 8


def apply() -> None:
    """Make the replacements; once per process, after vLLM is imported."""
    refuse_remote_code()
    register_meta_loader()
    inspect_models_here()
    fake_process_groups()


def refuse_remote_code() -> None:
    """No Python file of a checkpoint is imported, whoever asks for it and however.

    Every way there ends in one function of transformers (``dynamic_module_utils.py``
    ``get_class_in_module``, after the file was fetched by ``get_cached_module_file``).
    """
    from transformers import dynamic_module_utils

    def refuse(named: Any, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(f"{named} is code of a checkpoint, which is never run")

    dynamic_module_utils.get_class_in_module = refuse
    dynamic_module_utils.get_cached_module_file = refuse


def register_meta_loader() -> None:
    """The load format that builds the real model class without weights."""
    base: Any = name("BaseModelLoader")

    class MetaModelLoader(base):
        """The model class with parameters that have shapes and no storage."""

        def download_model(self, model_config: Any) -> None:
            """There is nothing to download."""

        def load_weights(self, model: Any, model_config: Any) -> None:
            """There is nothing to load."""

        def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> Any:
            """Build the class."""
            name("get_model_cls")(model_config)  # imports its module, which alibi_on_cpu looks for
            alibi_on_cpu()
            with name("set_default_torch_dtype")(model_config.dtype), on_meta():
                # 0.30 gave loaders a method for it
                create = getattr(self, "create_model", None) or name("initialize_model")
                model = create(vllm_config=vllm_config, model_config=model_config, prefix=prefix)
            return model.eval()

    name("register_model_loader")(META_LOAD_FORMAT)(MetaModelLoader)


def inspect_models_here() -> None:
    """Look at model classes in this process.

    vLLM does it in a subprocess so as not to start CUDA. There is no CUDA to start, and the
    subprocess costs an import of vLLM.
    """
    registry = name("registry")
    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda function: function()


def fake_process_groups() -> None:
    """Groups of any size in one process: torch's ``fake`` backend."""
    from torch.testing._internal.distributed import fake_pg  # noqa: F401 (registers it)

    make_group = dist.new_group

    def fake_group(ranks: Any = None, *args: Any, backend: Any = None, **kwargs: Any) -> Any:
        # vLLM asks for gloo for its CPU groups, which would wait for the other ranks for ever.
        return make_group(ranks, backend="fake")

    dist.new_group = torch.distributed.new_group = fake_group
    parallel_state = name("parallel_state")
    parallel_state._node_count = lambda group: max(
        1, -(-dist.get_world_size(group=group) // GPUS_PER_NODE)
    )
    parallel_state.in_the_same_node_as = lambda group, source_rank=0: [
        rank // GPUS_PER_NODE == source_rank // GPUS_PER_NODE
        for rank in range(dist.get_world_size(group=group))
    ]
    # Messages between ranks go through shared memory, and nobody is there to read them.
    name("shm_broadcast").MessageQueue.create_from_process_group = staticmethod(
        lambda *args, **kwargs: None
    )


_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0
"""``MAP_NORESERVE``, which Python names from 3.13 on."""
_ALIBI_MODELS = ("bloom", "falcon", "baichuan", "jais", "mpt")


class _CudaToMeta(TorchFunctionMode):
    """``torch.device("meta")`` only fills in a device where none is given.

    Model code that says ``device="cuda"`` (or the platform's device type) outright lands here.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The call, with meta in place of CUDA."""
        swapped = {key: _swap(value) for key, value in (kwargs or {}).items()}
        if type(swapped.get("device")) is int:  # device=torch.cuda.current_device()
            swapped["device"] = "meta"
        pinned = swapped.pop("pin_memory", None)  # pinning asks the driver
        if pinned and func is torch.zeros:
            return _untouched(*args, **swapped)
        if func is torch.Tensor.cuda:
            return args[0].to("meta")
        if func is torch.Tensor.pin_memory:
            return args[0]
        return func(*(_swap(value) for value in args), **swapped)


def _untouched(*size: Any, dtype: torch.dtype, device: Any = None) -> torch.Tensor:
    """Zeros of the host's memory that take none before somebody writes them.

    A token id of every request and position may be tens of gigabytes; torch would write its zeros.
    """
    shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    room = mmap.mmap(-1, max(shape.numel() * dtype.itemsize, 1), flags=kind)
    return torch.frombuffer(room, dtype=dtype, count=shape.numel()).view(shape)


def _swap(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("meta")
    if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
        return "meta"
    return value


@contextmanager
def on_meta() -> Iterator[None]:
    """Make every tensor on the meta device."""
    with torch.device("meta"), _CudaToMeta():
        yield


@contextmanager
def cuda_is_meta() -> Iterator[None]:
    """Make on the meta device what is asked for on CUDA."""
    with _CudaToMeta():
        yield


def alibi_on_cpu() -> None:
    """Compute ALiBi slopes on the CPU: constructors read them, and meta tensors have no values.

    For models whose module is loaded already.
    """
    for model in _ALIBI_MODELS:
        module = sys.modules.get(f"vllm.model_executor.models.{model}")
        slopes = getattr(module, "_get_alibi_slopes", None)
        if slopes is not None:
            module._get_alibi_slopes = _on_cpu(slopes)  # type: ignore[union-attr]


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return on_cpu


def storage_bytes(model: Any, *, but_not: Any = None) -> int:
    """Bytes of the distinct storages behind a model's parameters and buffers.

    By storage, because weights may be tied (one tensor under two names) or views of each other
    (Mamba 2 keeps its convolution's weight a second time as a buffer). ``but_not`` names a model
    whose storages do not count: a draft model that shares its target's embedding.
    """
    shared = _storages(but_not) if but_not is not None else {}
    return sum(size for key, size in _storages(model).items() if key not in shared)


def _storages(model: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage.nbytes()
    return found
