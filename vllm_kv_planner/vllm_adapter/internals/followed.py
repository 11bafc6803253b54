"""Tensors without storage, followed: what vLLM's code would hold on the GPU, moment by moment.

Every tensor lies on the meta device; a dispatch mode sees each operator, counts the storages that
it makes for as long as somebody holds them, and keeps the largest sum. An operator of vLLM's that
is Python (``vllm::…``) is entered: the function registered for CUDA runs on these tensors, so that
the workspaces are seen which its fake implementation hides. Compiled kernels are not run.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...errors import UnsupportedError
from ...memory.phase import allocated_bytes
from .kernels import ANSWERS, GIVES, MADE_OF_PYTHON, ON_HOST, SCRATCH, SHAPES_ALONE, WRITES

_CUDA = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
_FOR_CUDA = (torch._C.DispatchKey.CUDA, torch._C.DispatchKey.CompositeExplicitAutograd)


class NotFollowed(UnsupportedError):
    """A kernel nobody here knows what it allocates, by name."""


class Followed(TorchDispatchMode):
    """Counts live storages while it is active.

    Attributes:
        live: Bytes now, as PyTorch's caching allocator counts them.
        peak: The most there was; whoever asks about a span of time sets it to ``live`` first.
    """

    def __init__(self, *, split_limited: bool) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._split_limited = split_limited
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The operator's result, without its kernel."""
        kwargs = kwargs or {}
        name = func._schema.name
        if func.namespace in MADE_OF_PYTHON and any(
            map(func.has_kernel_for_dispatch_key, _FOR_CUDA)
        ):
            with self:
                return func.redispatch(_CUDA, *args, **kwargs)
        if name in WRITES:
            return None
        known = name in ANSWERS and (name in ON_HOST or args[0].device.type == "meta")
        if not (known or func.namespace in SHAPES_ALONE or name in GIVES) and takes_tensors(args):
            raise NotFollowed(f"{name} cannot be followed without a GPU")
        try:
            out = (ANSWERS[name] if known else func)(*args, **kwargs)
        except NotImplementedError:
            raise NotFollowed(f"{name} cannot be followed without a GPU") from None
        if name in SCRATCH:
            self.peak = max(self.peak, self.live + SCRATCH[name](*args))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, on_host=name in ON_HOST)
        return out

    def _see(self, tensor: torch.Tensor, *, on_host: bool) -> None:
        if tensor.device.type != "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        size = allocated_bytes(storage.nbytes(), split_limited=self._split_limited)
        self._sizes[key] = 0 if on_host else size
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def takes_tensors(args: tuple[Any, ...]) -> bool:
    """Whether it is a kernel, and not a question about the device."""
    return any(isinstance(each, torch.Tensor) for each in tree_leaves(args))
