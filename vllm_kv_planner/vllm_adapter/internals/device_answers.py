"""What platform classes answer about the device: a GPU from the catalogue, as often as needed."""

from __future__ import annotations

from typing import Any

from vllm.platforms.interface import DeviceCapability

from ..absent_gpu import DeviceCount, absent_gpu

# Parts that are sold with NVLink switches; decides about all-reduce kernels only.
_FULLY_CONNECTED = ((8, 0), (9, 0), (10, 0), (10, 3))


class DeviceAnswers:
    """As many of the absent GPU as the engine asks for; stands before vLLM's platform class."""

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        """Compute capability."""
        return DeviceCapability(*absent_gpu().capability)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """NVML's name of it."""
        return absent_gpu().name

    @classmethod
    def _get_physical_device_name(cls, device_id: int = 0) -> str:
        return absent_gpu().name

    @classmethod
    def get_device_uuid(cls, device_id: int = 0) -> str:
        """One for each."""
        return f"GPU-00000000-0000-0000-0000-{device_id:012d}"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """NVML's total: what vLLM's batch defaults go by."""
        return absent_gpu().nvml_total_bytes

    @classmethod
    def is_fully_connected(cls, device_ids: list[int]) -> bool:
        """Whether every GPU reaches every other through NVLink."""
        return absent_gpu().capability in _FULLY_CONNECTED

    @classmethod
    def num_compute_units(cls, device_id: int = 0) -> int:
        """Streaming multiprocessors."""
        return absent_gpu().num_sms

    @classmethod
    def is_integrated_gpu(cls, device_id: int = 0) -> bool:
        """Whether its memory is the host's."""
        return absent_gpu().is_integrated

    @classmethod
    def device_count(cls) -> int:
        """As many as the engine asks for."""
        return DeviceCount.value

    # CUDA_VISIBLE_DEVICES is empty in this process, so there is nothing to map through it.
    @classmethod
    def device_id_to_physical_device_id(cls, device_id: int) -> int:
        """The same number."""
        return device_id

    @classmethod
    def visible_device_id_to_physical_device_id(cls, device_id: int) -> int:
        """The same number."""
        return device_id

    @classmethod
    def logical_device_id_to_visible_device_id(cls, device_id: int) -> int:
        """The same number."""
        return device_id

    @classmethod
    def get_all_gpu_pci_bus_ids(cls) -> dict[int, str]:
        """One for each."""
        return {index: f"0000:{index:02x}:00.0" for index in range(DeviceCount.value)}

    @classmethod
    def get_device_numa_node(cls, device_id: int = 0) -> None:
        """Not known."""

    @classmethod
    def get_all_device_numa_nodes(cls) -> None:
        """Not known."""

    @classmethod
    def log_warnings(cls) -> None:
        """The real one warns about mixed devices, through NVML."""

    @classmethod
    def manual_seed_all(cls, seed: int) -> None:
        """No generator to seed."""

    @classmethod
    def set_device(cls, device: Any) -> None:
        """No device to set."""

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """The plain one; the real one opens NCCL, custom all-reduce and symmetric memory."""
        return (
            "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
        )
