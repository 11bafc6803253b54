"""What to plan, as one value: the model found, the flags, the GPU, the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config.find import FoundConfig, found_config
from ..engine_args.engine_args import EngineArgs, EngineEnvironment
from ..engine_args.value_types import shown
from ..errors import InputError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.gpu import GPU
from ..records import dataclass, replace
from ..version import VLLM_VERSION

if TYPE_CHECKING:
    import os

    from ..calibration.calibration import Calibration


PLANNERS = ("auto", "standalone", "vllm")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU as it is at this moment, and what earlier starts on it taught.

    Attributes:
        free_memory_bytes: Free on the GPU when the engine starts; None: what an idle one has.
        other_processes_bytes: What others hold of it, where ``free_memory_bytes`` is not given.
        calibration: Records of ``vllm-kv-planner calibrate``; None: only what comes bundled.
    """

    free_memory_bytes: int | None = None
    other_processes_bytes: int = 0
    calibration: Calibration | None = None

    def device(self, gpu: GPU) -> GPU:
        """The GPU with the total that starts on this machine printed."""
        return gpu if self.calibration is None else self.calibration.device(gpu)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the records cannot be used."""
        return () if self.calibration is None else self.calibration.notes


UNKNOWN_MACHINE = Machine()


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """One engine to plan; ``vllm_kv_planner.plan(request)`` plans it.

    Attributes:
        found: The model's config.
        args: vLLM's flags.
        gpu: Every rank's GPU; None: the default one, which the plan says.
        planner: ``auto``, ``standalone`` or ``vllm``.
        vllm_version: Version to plan for; None: the one whose rules are restated.
        environment: vLLM's environment variables; None: none set.
        machine: Free memory, and records of earlier starts.
        notes: Sentences to add to the plan.
    """

    found: FoundConfig
    args: EngineArgs
    gpu: str | GPU | None = None
    planner: str = "auto"
    vllm_version: str | None = None
    environment: EngineEnvironment | None = None
    machine: Machine = UNKNOWN_MACHINE
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> GPU:
        """The GPU, the default one where none is named, as starts on this machine reported it.

        Raises:
            UnknownNameError: No such GPU.
        """
        gpu = DEFAULT_GPU if self.gpu is None else self.gpu
        return self.machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))

    @property
    def gives_memory(self) -> bool:
        """Whether the flags say how large the KV cache is."""
        args = self.args
        return args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override is not None

    @property
    def said(self) -> tuple[str, ...]:
        """What to know of where the model's config came from, and of the flags."""
        return (*self.found.notes, *self.notes)

    def on(self, gpu: str | GPU) -> PlanRequest:
        """The same engine on another GPU."""
        return replace(self, gpu=gpu)

    def with_args(self, **changes: Any) -> PlanRequest:
        """The same engine with other flags, by vLLM's names.

        Raises:
            InputError: A value that cannot be.
        """
        return replace(self, args=replace(self.args, **changes))

    def check(self) -> None:
        """Refuse what is neither a name nor one of our own objects, and another config's path.

        Raises:
            InputError: Which, and what it should be.
        """
        check_inputs(self.gpu, self.vllm_version, self.machine, self.planner)
        path = self.args.hf_config_path
        if path is not None and path != self.args.model:
            raise InputError(
                f"--hf-config-path {shown(path)}: not read; name that folder as the model instead"
            )


def plan_request(
    model: str | os.PathLike[str] | FoundConfig,
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> PlanRequest:
    """The request of ``plan()``'s arguments, its inputs checked and its model found.

    Raises:
        PlannerError: The input is wrong; one line says what and where.
    """
    check_inputs(gpu, vllm_version, machine, planner)
    found = found_config(model, engine_args.get("revision"))
    return PlanRequest(
        found=found,
        args=engine_args_of(found.id, engine_args, vllm_version),
        gpu=gpu,
        planner=planner,
        vllm_version=vllm_version,
        machine=machine,
        notes=machine.notes,
    )


def engine_args_of(
    model: str, given: Mapping[str, Any], vllm_version: str | None = None
) -> EngineArgs:
    """The flags that a caller gave by vLLM's names.

    Raises:
        InputError: A value that cannot be.
        UnknownNameError: No such flag, which names the nearest, or none in that version.
    """
    try:
        args = EngineArgs(model=model, **given)
    except TypeError as error:
        from ..engine_args.unknown_flags import unknown_argument

        raise unknown_argument(given, EngineArgs) or InputError(f"plan(): {error}") from None
    if vllm_version is not None:
        from ..engine_args.flag_table import check_version

        changed = (each for each in given if getattr(args, each) != getattr(EngineArgs, each, None))
        check_version(changed, vllm_version)
    return args


def check_inputs(
    gpu: object = None,
    vllm_version: object = None,
    machine: object = UNKNOWN_MACHINE,
    planner: object = "auto",
) -> None:
    """Refuse what is neither a name nor one of our own objects.

    Raises:
        InputError: Which, and what it should be.
    """
    if planner not in PLANNERS:
        raise InputError(f"--planner {shown(planner)}: one of {', '.join(PLANNERS)}")
    if gpu is not None and not isinstance(gpu, (str, GPU)):
        raise InputError(f"gpu: {shown(gpu)} is neither the name of a GPU nor a GPU")
    if not isinstance(machine, Machine):
        raise InputError(f"machine: {shown(machine)} is not a Machine")
    if vllm_version is None or vllm_version == VLLM_VERSION:
        return
    import re

    if not isinstance(vllm_version, str) or not re.fullmatch(
        r"v?\d{1,4}(\.\d{1,4})+([.+-]?[A-Za-z][\w.+-]{0,80})?", vllm_version, re.ASCII
    ):
        raise InputError(
            f"--vllm-version: {shown(vllm_version)} is not a version such as '0.33.0' or "
            "'0.26.1rc1'"
        )
