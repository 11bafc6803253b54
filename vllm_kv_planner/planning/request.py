"""What to plan, as one value: the model found, the flags, the GPU, the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..gpu.gpu import GPU
from ..model.find import FoundConfig
from ..records import dataclass, replace
from .machine import UNKNOWN_MACHINE, Machine

if TYPE_CHECKING:
    import os

    from .standalone import Prepared
    from .types import Plan


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """One engine to plan.

    Attributes:
        found: The model's config.
        args: vLLM's flags.
        gpu: Every rank's GPU; None: the default one, which the plan says.
        planner: ``auto``, ``standalone`` or ``vllm``.
        vllm_version: Version to plan for; None: the one whose rules are restated.
        environment: vLLM's environment variables; None: none set.
        machine: Free memory, and lessons of earlier starts.
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

    def plan(self, *, changes: bool = False) -> Plan:
        """The plan; with ``changes``, also the smallest change that would make it fit.

        Raises:
            PlannerError: The engine cannot be planned; one line says why.
        """
        from ..planner import plan_engine_args

        plan = plan_engine_args(
            self.args,
            found=self.found,
            gpu=self.gpu,
            planner=self.planner,
            vllm_version=self.vllm_version,
            environment=self.environment,
            machine=self.machine,
            notes=self.notes,
        )
        if not changes or (plan.fits and plan.host is None):
            return plan
        from ..capacity.fit.suggestions import changes_of

        return replace(plan, changes=changes_of(self, plan))

    @property
    def said(self) -> tuple[str, ...]:
        """What to know of where the model's config came from, and of the flags."""
        return (*self.found.notes, *self.notes)

    def prepare(self) -> Prepared:
        """The engine set up by the rules restated here, its memory not yet divided.

        Raises:
            PlannerError: As ``plan``.
        """
        from .standalone import prepare

        return prepare(
            self.args,
            self.found,
            gpu=self.gpu,
            vllm_version=self.vllm_version,
            environment=self.environment,
            machine=self.machine,
        )

    def on(self, gpu: str | GPU) -> PlanRequest:
        """The same engine on another GPU."""
        return replace(self, gpu=gpu)

    def with_args(self, **changes: Any) -> PlanRequest:
        """The same engine with other flags, by vLLM's names.

        Raises:
            InputError: A value that cannot be.
        """
        return replace(self, args=replace(self.args, **changes))


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
    from ..model.find import found_config
    from ..planner import check_inputs, check_planner, engine_args_of

    check_planner(planner)
    check_inputs(gpu, vllm_version, machine)
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
