"""Tensors with a shape and no storage, whatever device a model's code names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

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
        swapped.pop("pin_memory", None)  # pinning asks the driver
        if func is torch.Tensor.cuda:
            return args[0].to("meta")
        if func is torch.Tensor.pin_memory:
            return args[0]
        return func(*(_swap(value) for value in args), **swapped)


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
