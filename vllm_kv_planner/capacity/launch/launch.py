"""``plan_launch()``: what a command would start, whether it fits, and the start itself."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ...engine_args.environment import read_environment
from ...engine_args.lora import check_modules
from ...engine_args.serve_command import parse_serve_command
from ...errors import InputError, UnsupportedError
from ...gpu.gpu import GPU
from ...masking import hiding
from ...planner import plan_of
from ...planning.machine import UNKNOWN_MACHINE, Machine
from ...planning.request import PlanRequest
from ...planning.types import Plan
from ...records import dataclass, replace
from ...vllm_adapter.ended import end_shared_planner
from ..fit.suggestions import with_changes
from .command import Command, environment_of, read_command
from .installed import installed_version, is_known

FITS = "fits"
BORDERLINE = "borderline"
"""It fits only if the prediction is not as far off as it may be."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command, and the plan of the engine that it starts.

    Attributes:
        command: What will be started.
        request: The engine.
        plan: Its plan.
    """

    command: Command
    request: PlanRequest
    plan: Plan

    @property
    def verdict(self) -> str:
        """``fits``, ``borderline`` or ``does not fit``."""
        return self.plan.verdict.replace("_", " ")

    def start(self) -> NoReturn:
        """Become the command: signals, exit code, standard streams are its own from here on.

        Raises:
            InputError: The program is not there, or cannot be started.
        """
        if os.name == "nt":
            raise UnsupportedError("launch starts commands on Linux and macOS; --dry-run plans")
        program = self.command.program()
        end_shared_planner()  # nothing is cleaned up behind exec
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when this began
                stream.flush()
        # Python ignores these, and what is ignored stays so across exec
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execve(program, self.command.words, self.command.environment())
        except OSError as error:
            raise InputError(f"{program[:200]!r} cannot be started: {error.strerror}") from None


def plan_launch(
    command: str | Sequence[str],
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
) -> Launch:
    """Plan what ``vllm serve …`` would start; ``.start()`` starts it.

    Args:
        command: The command, as one text or its words; assignments may stand before it.
        gpu: The GPU of every rank; None: the first one of this machine, else H100.
        planner: ``standalone``, ``vllm`` or ``auto``.
        vllm_version: None: the one installed beside the program, else 0.33.
        machine: Free memory of a shared GPU, and lessons of earlier starts.

    Raises:
        PlannerError: The command is no vLLM server, or cannot be planned; one line says why.
    """
    from ...config.find import find_config

    read = read_command(command)
    with environment_of(read), hiding(read.words):
        served = parse_serve_command(read.words)
        args = served.engine_args
        request = PlanRequest(
            found=find_config(args.model, revision=args.revision),
            args=args,
            gpu=gpu,
            planner=planner,
            vllm_version=vllm_version,
            environment=served.environment,
            machine=machine,
            notes=(*served.notes, *check_modules(served.lora_modules, args)),
        )
        return launch_of(read, request)


def launch_of(command: Command, request: PlanRequest) -> Launch:
    """The launch of a request that was read from the command's words.

    What the request leaves open is what this machine says: its GPU, its environment variables, the
    version of vLLM that lies beside the program.
    """
    with environment_of(command):
        if command.shares_environment:
            own = parse_serve_command(command.words).variables  # as in: env NAME=VALUE vllm serve
            request = replace(request, environment=read_environment({**os.environ, **own}))
        request = _on_this_machine(request)
        request = _with_version(request, command)
        plan = with_changes(request, plan_of(request))
        return Launch(command=command, request=request, plan=plan)


def _on_this_machine(request: PlanRequest) -> PlanRequest:
    if request.gpu is not None:
        return request
    from ...gpu.detect import present_gpus

    present = present_gpus()
    if not present:
        return request
    notes = [f"no GPU named: planned for this machine's {present[0].name}"]
    wanted = request.args.num_gpus
    if wanted > len(present):
        notes.append(f"the command asks for {wanted} GPUs, and this machine shows {len(present)}")
    return replace(request, gpu=present[0], notes=(*request.notes, *notes))


def _with_version(request: PlanRequest, command: Command) -> PlanRequest:
    if request.vllm_version is not None or request.planner == "vllm":
        return request
    try:
        version = installed_version(command.program())
    except InputError:
        return request  # only planned, or not here
    if version is None:
        return request
    if is_known(version):
        return replace(request, vllm_version=version)
    note = f"vLLM {version} is installed beside the program; its own rules are not known"
    return replace(request, notes=(*request.notes, note))
