"""``VLLMPlanner``: plans made by vLLM's own code, in child processes that import it once.

A process can answer for one GPU only, because vLLM remembers what it was told while it was
imported. So there is one child for every GPU asked for; each lives until the planner is closed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from ..config.find import FoundConfig, find_config
from ..errors import InputError, PlannerError, UnsupportedError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.detect import present_gpus
from ..gpu.gpu import GPU
from ..planning.request import PlanRequest, plan_request
from ..planning.types import (
    DOES_NOT_FIT,
    FITS,
    EngineInfo,
    GPUInfo,
    GroupInfo,
    KVCacheInfo,
    MemoryInfo,
    ModelInfo,
    Plan,
    PlannerInfo,
)
from ..version import __version__
from .absent_gpu import describe_gpu
from .arguments import variables, vllm_arguments, write_model_folder
from .child import Child, Progress, say_on_terminal

PYTHON = "KV_PLANNER_PYTHON"
"""Environment variable: the Python interpreter that has vLLM, where it is not this one."""
THIS_MACHINE = "cpu"
"""``gpu=`` for the platform vLLM itself finds here: the CPU, with vLLM's CPU build."""
OWN_DEVICE = "own device"
TIMEOUT = 900.0


class Asked(NamedTuple):
    """A child's answer, and what it was asked about."""

    answer: dict[str, Any]
    child: Child
    device: GPU | None
    found: FoundConfig
    defaulted: bool

    def plan(self, notes: tuple[str, ...]) -> Plan:
        """As a plan."""
        if self.defaulted:
            notes = (*notes, f"no GPU given: planned for {DEFAULT_GPU}; --gpu NAME for another")
        return finished(self.answer, self.child, self.device, self.found, notes)


class VLLMPlanner:
    """Plans of vLLM's own code; a context manager.

    >>> with VLLMPlanner() as planner:  # doctest: +SKIP
    ...     for model in models:
    ...         print(planner.plan(model, gpu="H100", kv_cache_memory_bytes=40 << 30))
    """

    def __init__(
        self,
        *,
        python: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
        progress: Progress = say_on_terminal,
    ) -> None:
        """Nothing is started yet.

        Args:
            python: The interpreter that has vLLM; default: ``KV_PLANNER_PYTHON``, else this
                one.
            timeout: Seconds to wait for one answer.
            progress: Called with a line on what takes time; default: to a terminal.
        """
        from ..files.written import path_of

        if python is not None:
            python = path_of(python, "python")
        self._python = python or os.environ.get(PYTHON) or sys.executable
        self._timeout = timeout
        self._progress = progress
        self._children: dict[str, Child] = {}

    def plan(
        self,
        model: str | os.PathLike[str] | FoundConfig,
        *,
        gpu: str | GPU | None = None,
        **engine_args: Any,
    ) -> Plan:
        """As ``vllm_kv_planner.plan``, answered by vLLM.

        Raises:
            PlannerError: vLLM's refusal, or a reason why it cannot be asked, in one line.
        """
        return self.plan_request(plan_request(model, gpu=gpu, planner="vllm", **engine_args))

    def plan_request(self, request: PlanRequest, stage_memory: Sequence[int] | None = None) -> Plan:
        """The plan of a request.

        ``stage_memory`` is the KV memory of every pipeline stage, in bytes of one GPU, where it
        was predicted.

        Raises:
            PlannerError: As ``plan``.
        """
        more = {} if stage_memory is None else {"stage_memory": list(stage_memory)}
        return self.ask(request, **more).plan(request.notes)

    def profile(self, request: PlanRequest) -> dict[str, Any]:
        """What vLLM's own profile run holds on a rank, executed without a GPU; uncompiled.

        A process that dies of it, and whatever vLLM raises, is a part that was not followed.
        """
        try:
            eager = request.with_args(enforce_eager=True)
            return self.ask(eager, profile=True).answer
        except PlannerError as error:
            return {"refused": {"load": str(error)}}

    def ask(self, request: PlanRequest, **more: Any) -> Asked:
        """The child's answer about a request; ``more`` joins what it is told.

        Raises:
            PlannerError: As ``plan``.
        """
        args, found = request.args, request.found
        gpu = request.gpu
        if gpu is None:
            gpu = next(iter(present_gpus()), None)
        child, device = self.child(gpu, default_gpu=DEFAULT_GPU)
        defaulted = gpu is None and device is not None
        check_version(child.ready["vllm_version"], request.vllm_version)
        folder, about = write_model_folder(found, child.models)
        arguments = vllm_arguments(args, folder)
        models = [about]
        draft = draft_model(arguments)
        if draft is not None:
            config, key = draft
            drafts_folder, about_draft = write_model_folder(
                find_config(config[key], revision=config.get("revision")), child.models
            )
            config[key] = drafts_folder
            models.append(about_draft)
        self._progress(f"vLLM {child.ready['vllm_version']} plans {found.id}")
        question = {
            "arguments": arguments,
            "usage": args.usage_context,
            "environment": variables(request.environment),
            "models": models,
            **more,
        }
        try:
            answer = child.ask(question, "profile" if "profile" in more else "plan")
        except InputError as error:
            raise type(error)(str(error).replace(folder, found.id)) from None
        return Asked(answer, child, device, found, defaulted)

    def child(
        self, gpu: str | GPU | None, *, default_gpu: str | None = None
    ) -> tuple[Child, GPU | None]:
        """The process that answers for this GPU (started where it is not there yet), and the GPU.

        Args:
            gpu: The GPU; ``THIS_MACHINE`` or None for the device that vLLM itself finds.
            default_gpu: In place of None, the GPU to take unless vLLM has a device of its own.

        Raises:
            UnsupportedError: vLLM cannot be started, or not for this GPU.
        """
        either = gpu is None and default_gpu is not None
        wanted = default_gpu if either else gpu
        device = None
        if wanted is not None and wanted != THIS_MACHINE:
            device = wanted if isinstance(wanted, GPU) else find_gpu(wanted)
        absent = None if device is None else describe_gpu(device)
        key = "" if absent is None else absent.to_json()
        if (either or absent is None) and OWN_DEVICE in self._children:
            key = OWN_DEVICE
        child = self._children.get(key)
        if child is None or not child.is_alive:
            child = Child(
                self._python,
                absent,
                else_own_device=either,
                timeout=self._timeout,
                progress=self._progress,
            )
            self._children[OWN_DEVICE if child.ready["device"] == "cpu" else key] = child
        own = child.ready["device"] == "cpu"
        if device is None and not own:
            raise UnsupportedError(
                f"vLLM {child.ready['vllm_version']} finds no device of its own on this machine: "
                "name the GPU to plan for (--gpu, gpu=)"
            )
        return child, None if own else device

    def close(self) -> None:
        """End the child processes."""
        for child in self._children.values():
            child.close()
        self._children.clear()

    def __enter__(self) -> VLLMPlanner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_version(installed: str, wanted: str | None) -> None:
    """Refuse to answer for another version than the one that is asked.

    Raises:
        UnsupportedError: It is another.
    """
    if wanted is not None and wanted.split(".")[:2] != installed.split(".")[:2]:
        raise UnsupportedError(f"--vllm-version {wanted}: the vLLM installed is {installed}")


def draft_model(arguments: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Where the arguments name a draft model of its own: the object and its key."""
    speculative = arguments.get("speculative_config")
    for holder, key in ((speculative, "model"), (arguments, "spec_model")):
        named = holder.get(key) if isinstance(holder, dict) else None
        # "ngram" and the like stand there too
        if isinstance(named, str) and ("/" in named or os.path.exists(named)):
            assert isinstance(holder, dict)
            return holder, key
    return None


def finished(
    answer: dict[str, Any],
    child: Child,
    device: GPU | None,
    found: FoundConfig,
    notes: tuple[str, ...],
) -> Plan:
    """The plan of a child's answer."""
    if not child.ready["tested"]:
        tested = ", ".join(child.ready["tested_versions"])
        notes = (
            f"vLLM {child.ready['vllm_version']} is not a version this planner is tested with "
            f"({tested}): compare with the engine's own figures",
            *notes,
        )
    return assemble(
        answer,
        model_id=found.id,
        config_source=found.source,
        revision=found.revision,
        gpu_name=child.ready["device_name"] or "CPU" if device is None else device.name,
        gpu_total_bytes=None if device is None else device.torch_total_bytes,
        notes=(*found.notes, *notes),
    )


WEIGHTS = (
    "parameters and buffers of vLLM's own model class on this rank, draft model included, before "
    "process_weights_after_loading"
)


def assemble(
    answer: dict[str, Any],
    *,
    model_id: str,
    config_source: str,
    revision: str | None,
    gpu_name: str,
    gpu_total_bytes: int | None,
    notes: Sequence[str],
) -> Plan:
    """The plan as the contract has it."""
    memory = answer["memory"]
    return Plan(
        planner=PlannerInfo(name="vllm", version=__version__, vllm_version=answer["vllm_version"]),
        model=ModelInfo(
            id=model_id,
            architecture=answer["architecture"],
            config_source=config_source,
            revision=revision,
            num_layers=answer["num_layers"],
        ),
        gpu=GPUInfo(name=gpu_name, total_memory_bytes=gpu_total_bytes, num_gpus=answer["num_gpus"]),
        engine=EngineInfo(**answer["engine"]),
        memory=MemoryInfo(
            requested_bytes=memory["requested_bytes"],
            weights_bytes=memory["weights_bytes"],
            activation_peak_bytes=None,
            cuda_graph_bytes=None,
            non_torch_bytes=None,
            available_kv_cache_bytes=memory["available_kv_cache_bytes"],
            uncertainty_bytes=0 if memory["requested_bytes"] is None else None,
            provenance={
                "available_kv_cache_bytes": memory["provenance"],
                "weights_bytes": WEIGHTS,
            },
        ),
        kv_cache=KVCacheInfo(
            **answer["kv_cache"], groups=tuple(GroupInfo(**group) for group in answer["groups"])
        ),
        verdict=FITS if answer["fits"] else DOES_NOT_FIT,
        limits=tuple(answer.get("refusals", ())),
        fits=answer["fits"],
        notes=(*answer["notes"], *notes),
    )
