"""What is known of the machine beside the GPU's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import dataclass

if TYPE_CHECKING:
    from ..calibration.calibration import Calibration
    from ..gpu.gpu import GPU


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU as it is at this moment, and what earlier starts on it taught.

    Attributes:
        free_memory_bytes: Free on the GPU when the engine starts; None: what an idle one has.
        other_processes_bytes: What others hold of it, where ``free_memory_bytes`` is not given.
        calibration: Lessons of ``vllm-kv-planner calibrate``; None: only what comes bundled.
    """

    free_memory_bytes: int | None = None
    other_processes_bytes: int = 0
    calibration: Calibration | None = None

    def device(self, gpu: GPU) -> GPU:
        """The GPU with the total that starts on this machine printed."""
        return gpu if self.calibration is None else self.calibration.device(gpu)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the lessons cannot be used."""
        return () if self.calibration is None else self.calibration.notes


UNKNOWN_MACHINE = Machine()
