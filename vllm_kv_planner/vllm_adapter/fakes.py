"""Answer torch's and Triton's questions about the GPU from the catalogue; lend kernel libraries.

Only questions: whatever would touch a device's memory still fails loudly. Nothing here imports
vLLM; it runs before vLLM does, because vLLM asks while it is being imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, cast

from .absent_gpu import DeviceCount, absent_gpu

MIB = 1 << 20


class FakeStream:
    """Mixture-of-experts and multi-stream layers make streams in their constructors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.cuda_stream = 0
        self.device = None

    def synchronize(self) -> None:
        """Nothing runs."""

    def wait_stream(self, other: Any) -> None:
        """Nothing runs."""

    def wait_event(self, event: Any) -> None:
        """Nothing runs."""

    def record_event(self, event: Any = None) -> Any:
        """An event that has happened."""
        return event or FakeEvent()

    def query(self) -> bool:
        """Everything is done."""
        return True

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class FakeEvent:
    """An event that has happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def record(self, stream: Any = None) -> None:
        """Nothing runs."""

    def wait(self, stream: Any = None) -> None:
        """Nothing runs."""

    def synchronize(self) -> None:
        """Nothing runs."""

    def query(self) -> bool:
        """It has happened."""
        return True

    def elapsed_time(self, other: Any) -> float:
        """No time passes."""
        return 0.0


def device_properties(device: Any = None) -> SimpleNamespace:
    """What ``torch.cuda.get_device_properties`` says of the device."""
    gpu = absent_gpu()
    return SimpleNamespace(
        name=gpu.name,
        major=gpu.capability[0],
        minor=gpu.capability[1],
        total_memory=gpu.torch_total_bytes,
        multi_processor_count=gpu.num_sms,
        is_integrated=int(gpu.is_integrated),
        is_multi_gpu_board=0,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=gpu.shared_memory_bytes,
        shared_memory_per_multiprocessor=gpu.shared_memory_bytes + 1024,
        warp_size=64 if gpu.gcn_architecture else 32,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        L2_cache_size=50 * MIB,
        uuid="0" * 32,
        gcnArchName=gpu.gcn_architecture,
        pci_bus_id=0,
        pci_device_id=0,
        pci_domain_id=0,
        clock_rate=1_000_000,
        memory_clock_rate=1_000_000,
    )


def pretend_torch() -> None:
    """Make torch answer for the absent GPU, in this process."""
    import torch

    # vLLM's import runs Dynamo's map of torch.cuda functions to tracing rules. It has to be made
    # once from the real functions, before they are replaced.
    import torch._dynamo.trace_rules
    import torch._inductor.lowering

    torch._dynamo.trace_rules.get_torch_obj_rule_map()
    gpu = absent_gpu()
    memory = (gpu.torch_total_bytes, gpu.torch_total_bytes)
    _pretend_cuda(torch.cuda, memory)
    _pretend_accelerator(torch, memory)
    torch.Event, torch.Stream = FakeEvent, FakeStream


def _pretend_cuda(cuda: Any, memory: tuple[int, int]) -> None:
    gpu = absent_gpu()
    cuda.is_available = lambda: True
    cuda.is_initialized = lambda: False
    cuda.device_count = lambda: DeviceCount.value
    cuda._device_count_nvml = lambda: DeviceCount.value
    cuda.current_device = lambda: 0
    cuda.get_device_name = lambda device=None: gpu.name
    cuda.get_device_capability = lambda device=None: gpu.capability
    cuda.get_device_properties = device_properties
    cuda.is_bf16_supported = lambda *a, **k: gpu.capability >= (8, 0)
    cuda.mem_get_info = lambda device=None: memory
    for name in ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        setattr(cuda, name, _returns(None))
    for name in ("manual_seed", "manual_seed_all", "set_stream"):
        setattr(cuda, name, _returns(None))
    for name in ("max_memory_allocated", "memory_allocated", "memory_reserved"):
        setattr(cuda, name, _returns(0))
    cuda.Stream = cuda.ExternalStream = FakeStream
    cuda.Event = FakeEvent
    cuda.current_stream = lambda *a, **k: FakeStream()
    cuda.default_stream = lambda *a, **k: FakeStream()
    cuda.stream = _no_context()
    cuda.device = _no_context()


def _pretend_accelerator(torch: Any, memory: tuple[int, int]) -> None:
    accelerator = torch.accelerator
    accelerator.is_available = lambda: True
    accelerator.device_count = lambda: DeviceCount.value
    accelerator.current_accelerator = lambda *a, **k: torch.device("cuda")
    accelerator.current_device_index = lambda: 0
    accelerator.current_stream = lambda *a, **k: FakeStream()
    accelerator.get_memory_info = lambda *a, **k: memory
    for name in ("set_device_index", "synchronize", "empty_cache"):
        setattr(accelerator, name, _returns(None))
    for name in ("max_memory_allocated", "memory_allocated"):
        setattr(accelerator, name, _returns(0))


# A new function at every use: Dynamo makes its map again later, and refuses one function that it
# meets under two names.
def _returns(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _no_context() -> Callable[..., Any]:
    @contextlib.contextmanager
    def nothing(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    return nothing


class _Utilities:
    @staticmethod
    def get_device_properties(device: int = 0) -> dict[str, int]:
        """What kernels size themselves by."""
        gpu = absent_gpu()
        return {
            "max_shared_mem": gpu.shared_memory_bytes,
            "max_num_regs": 65536,
            "multiprocessor_count": gpu.num_sms,
            "warpSize": 64 if gpu.gcn_architecture else 32,
            "sm_clock_rate": 1_000_000,
            "mem_clock_rate": 1_000_000,
            "mem_bus_width": 4096,
        }


class FakeDriver:
    """Triton's active driver."""

    utils = _Utilities

    def get_current_target(self) -> Any:
        """The capability as Triton writes it: 90 for Hopper, gfx942 for MI300X."""
        from triton.backends.compiler import GPUTarget

        gpu = absent_gpu()
        if gpu.gcn_architecture:
            return GPUTarget("hip", gpu.gcn_architecture, 64)
        major, minor = gpu.capability
        return GPUTarget("cuda", major * 10 + minor, 32)

    def get_current_device(self) -> int:
        """The first."""
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        """The default one."""
        return 0

    def set_current_device(self, device: int) -> None:
        """There is only one."""

    def get_active_torch_device(self) -> Any:
        """Tensors would live on CUDA."""
        import torch

        return torch.device("cuda")

    def get_device_interface(self) -> Any:
        """torch's CUDA module, which answers for the absent GPU too."""
        import torch

        return torch.cuda

    def get_benchmarker(self) -> None:
        """Nothing can be timed."""


def pretend_triton() -> None:
    """Make Triton answer for the absent GPU; nothing to do where Triton is not installed.

    Kernels' modules (flash-linear-attention among them) ask it for the target while they are
    imported; Triton would compile a shim against the driver to find out.
    """
    try:
        from triton.runtime import driver
    except ImportError:
        return
    driver.set_active(FakeDriver())


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


def pretend_rocm_kernels() -> None:
    """Let the kernel libraries of vLLM's builds for AMD GPUs be found, and CUDA's not.

    Which attention backends vLLM 0.33 tries depends on whether they can be imported
    (``docker/Dockerfile.rocm_base``); nothing of them can be called.
    """
    sys.meta_path.insert(0, Finder())
    for name in CUDA_ONLY:
        sys.modules[name] = cast(ModuleType, None)  # Python's way to say: not there
