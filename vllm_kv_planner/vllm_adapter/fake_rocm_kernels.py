"""Stand-ins for the kernel libraries that vLLM's builds for AMD GPUs bring along.

vLLM 0.33's images for ROCm (``docker/Dockerfile.rocm_base``) hold AITER and flash-attn; which
attention backends it tries depends on whether they can be imported. Here they can, and nothing of
them can be called. Not for the CUDA platform, whose libraries are really there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, cast

LIBRARIES = ("aiter", "flash_attn")
CUDA_ONLY = ("flashinfer", "deep_gemm", "vllm.vllm_flash_attn")
"""What vLLM's wheel for CUDA brings along, and its builds for AMD GPUs do not have."""


class StandIn(ModuleType):
    """A module that has every name, none of which runs."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: object, **kwargs: object) -> NoReturn:
            raise RuntimeError(f"{self.__name__}.{name} was called, and no GPU is there to run it")

        return missing


class Finder(MetaPathFinder, Loader):
    """Finds the stand-ins, and whatever would lie below them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A stand-in's spec; None for everything else."""
        if fullname.partition(".")[0] not in LIBRARIES:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty one."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def pretend() -> None:
    """Let the libraries be found, and CUDA's not, in this process."""
    sys.meta_path.insert(0, Finder())
    for name in CUDA_ONLY:
        sys.modules[name] = cast(ModuleType, None)  # Python's way to say: not there
