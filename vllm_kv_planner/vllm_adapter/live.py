"""``plan_engine``: the plan of an engine that the caller is about to start, from vLLM's objects."""

from __future__ import annotations

import base64
import os
import pickle
from collections.abc import Mapping
from typing import Any

from ..config.find import FoundConfig, find_config
from ..errors import InputError, UnsupportedError
from ..files.json_file import shown
from ..gpu.detect import present_gpus
from ..gpu.gpu import GPU
from ..planning.types import Plan
from .arguments import (
    CONFIG_OVERRIDES,
    HANDED_OVER,
    check_no_code,
    without_code,
    write_model_folder,
)
from .client import THIS_MACHINE, VLLMPlanner, draft_model, finished

# Arguments of LLM() that its EngineArgs never see.
_ONLY_LLM = ("chat_template", "hf_token")
_KINDS = ("VllmConfig", "AsyncEngineArgs", "EngineArgs")


def plan_engine(
    engine: Any = None,
    *,
    gpu: str | GPU | None = None,
    planner: VLLMPlanner | None = None,
    **llm_arguments: Any,
) -> Plan:
    """What vLLM will make of this engine's KV cache, by its own code.

    vLLM plans in a process of its own: nothing of the caller's vLLM is touched.

    Args:
        engine: vLLM's ``EngineArgs``, ``AsyncEngineArgs`` or ``VllmConfig``, or a mapping of the
            arguments of ``LLM(...)``; or leave it out and give those arguments by name.
        gpu: Name of the GPU of every rank, or a ``GPU``. Default: the GPUs of this machine; with
            vLLM's CPU build, the CPU.
        planner: The planner whose process answers; default: one that all calls share.
        **llm_arguments: As ``LLM(...)`` takes them.

    Raises:
        PlannerError: vLLM's refusal, or why it cannot be asked, in one line.
    """
    if engine is None or isinstance(engine, (Mapping, str)):
        given = {"model": engine} if isinstance(engine, str) else dict(engine or {})
        engine = {**given, **llm_arguments}
    elif llm_arguments:
        raise InputError(f"plan_engine: {next(iter(llm_arguments))} beside {kind_of(engine)}")
    kind = kind_of(engine)
    if planner is None:
        from .shared import installed_planner

        planner = installed_planner()
    elif not isinstance(planner, VLLMPlanner):
        raise InputError(f"planner: {shown(planner)} is no VLLMPlanner")
    device = gpu if gpu is not None else device_here(engine, kind)
    if kind == "VllmConfig":
        check_device(engine, gpu)
    child, gpu_of_child = planner.child(device)
    if kind == "VllmConfig":
        found = FoundConfig(
            str(engine.model_config.model), {}, source_of(str(engine.model_config.model))
        )
        request: dict[str, Any] = {"pickled": pickled(engine), "arguments": {}, "models": []}
    else:
        found, request = handed_over(engine, child.models)
    usage = "server" if kind == "AsyncEngineArgs" else "llm"
    return finished(child.ask({**request, "usage": usage}), child, gpu_of_child, found, ())


def kind_of(engine: Any) -> str:
    """Which of vLLM's classes it is, told by name: vLLM need not be importable here."""
    if isinstance(engine, dict):
        return "LLM"
    for base in type(engine).__mro__:
        if base.__module__.startswith("vllm.") and base.__name__ in _KINDS:
            return base.__name__
    raise InputError(
        f"plan_engine takes vLLM's EngineArgs, AsyncEngineArgs, VllmConfig or the arguments of "
        f"LLM(...), not {type(engine).__name__}"
    )


def device_here(engine: Any, kind: str) -> GPU | str:
    """The first GPU of this machine; where there is none, what vLLM itself finds."""
    if kind == "VllmConfig" and str(engine.device_config.device_type) == "cpu":
        return THIS_MACHINE
    gpus = present_gpus()
    return gpus[0] if gpus else THIS_MACHINE


def check_device(config: Any, gpu: str | GPU | None) -> None:
    """Refuse to plan a config for another kind of device than it was made for.

    Raises:
        UnsupportedError: It was.
    """
    made_for = str(config.device_config.device_type)
    if gpu is not None and (made_for == "cpu") != (gpu == THIS_MACHINE):
        raise UnsupportedError(
            f"this VllmConfig was resolved for {made_for}, so its defaults are not those of "
            f"{gpu if isinstance(gpu, str) else gpu.name}: give the EngineArgs it came from"
        )


def handed_over(engine: Any, models: str) -> tuple[FoundConfig, dict[str, Any]]:
    """The request for arguments of some kind, with every config in a folder for the child."""
    mapping = isinstance(engine, dict)
    values: dict[str, Any] = engine if mapping else vars(engine)
    if "model" not in values:
        raise InputError("plan_engine: no model named")
    found = find_config(
        str(values.get("hf_config_path") or values["model"]), revision=values.get("revision")
    )
    folder, about = write_model_folder(found, models)
    changes: dict[str, Any] = {"model": folder, "trust_remote_code": False}
    changes |= {key: value for key, value in HANDED_OVER.items() if not mapping or value}
    for key, value in values.items():
        if isinstance(value, dict):
            check_no_code(key, value)
            if key in CONFIG_OVERRIDES:
                changes[key] = without_code(value)
    drafts = {**values, **changes}
    speculative = drafts.get("speculative_config")
    if isinstance(speculative, dict):
        drafts["speculative_config"] = dict(speculative)
    draft = draft_model(drafts)
    abouts = [about]
    if draft is not None:
        holder, key = draft
        holder[key], about_draft = write_model_folder(find_config(holder[key]), models)
        abouts.append(about_draft)
        changes["speculative_config"] = drafts.get("speculative_config")
        changes["spec_model"] = drafts.get("spec_model")
    if mapping:
        dropped = (*_ONLY_LLM, *(key for key in HANDED_OVER if not HANDED_OVER[key]))
        engine = {
            key: value for key, value in values.items() if value is not None and key not in dropped
        }
    return found, {"pickled": pickled(engine), "arguments": changes, "models": abouts}


def pickled(engine: Any) -> str:
    """The caller's object for the child, which runs the same Python."""
    try:
        return base64.b64encode(pickle.dumps(engine)).decode("ascii")
    except Exception as error:
        raise InputError(
            f"plan_engine: {kind_of(engine)} cannot be handed to another process: {error}"
        ) from None


def source_of(model: str) -> str:
    """Where vLLM found the config it has read already."""
    return "local" if os.path.isdir(model) else "hf-cache"
