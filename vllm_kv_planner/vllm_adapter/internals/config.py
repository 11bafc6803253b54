"""vLLM's ``VllmConfig`` from a request: keyword arguments, or an object of vLLM's own."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

from ...errors import InputError, UnsupportedError
from ..absent_gpu import DeviceCount
from .names import name, version
from .patches import META_LOAD_FORMAT

_SIZES = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "data_parallel_size",
)


class CallersObject(pickle.Unpickler):
    """The caller's object, unless it is made of code that came with a checkpoint."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function by name.

        Raises:
            UnsupportedError: It came with a checkpoint.
        """
        if module.partition(".")[0] == "transformers_modules":
            raise UnsupportedError(
                f"plan_engine: {name} is code of a checkpoint, which is never run: give the "
                "EngineArgs, without trust_remote_code"
            )
        return super().find_class(module, name)


def engine_config(request: Mapping[str, Any]) -> Any:
    """The config vLLM itself makes of the request, with weights that are not read."""
    for variable, value in request.get("environment", {}).items():
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value
    given: Any = None
    if "pickled" in request:
        # Written by our own parent process, from the caller's own object.
        given = CallersObject(io.BytesIO(base64.b64decode(request["pickled"]))).load()
    config: Any = given
    if isinstance(given, dict):
        request = {**request, "arguments": {**given, **request["arguments"]}}
        given = None
    if given is None or hasattr(given, "create_engine_config"):
        args = engine_args(given, request)
        make_room(args)
        context = name("UsageContext")
        usage = context.LLM_CLASS if request["usage"] == "llm" else context.OPENAI_API_SERVER
        config = args.create_engine_config(usage_context=usage)
    else:
        make_room(config.parallel_config)
        for model in (
            config.model_config,
            getattr(config.speculative_config, "draft_model_config", None),
        ):
            if model is not None:
                model.trust_remote_code = False
    # Set here and not among the arguments: vLLM derives settings from the load format asked for.
    config.load_config.load_format = META_LOAD_FORMAT
    return config


def engine_args(given: Any, request: Mapping[str, Any]) -> Any:
    """vLLM's ``EngineArgs``: the caller's own with the model's folder, or one from arguments."""
    if given is None:
        return name("EngineArgs")(**typed_arguments(request["arguments"]))
    for field, value in request["arguments"].items():
        if hasattr(given, field):
            setattr(given, field, value)
    return given


def typed_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with JSON objects made what vLLM's own field wants.

    vLLM's command line does this while parsing; its ``EngineArgs`` does it for some fields only.
    """
    kind = name("EngineArgs")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    typed: dict[str, Any] = {}
    for key, value in arguments.items():
        if key not in fields:
            raise InputError(f"vLLM {version()} has no --{key.replace('_', '-')}")
        typed[key] = value
        if key == "compilation_config" and isinstance(value, int):
            typed[key] = {"mode": value}  # as LLM(...) takes it
        if isinstance(typed[key], dict):
            typed[key] = _validated(kind, key, typed[key])
    return typed


def _validated(kind: Any, key: str, value: dict[str, Any]) -> Any:
    """A JSON object as the type that the field of ``kind`` declares."""
    from pydantic import TypeAdapter

    # One field at a time: others may name types that vLLM imports for type checkers only.
    field = type("Field", (), {"__annotations__": {key: kind.__annotations__[key]}})
    try:
        hint = get_type_hints(field, vars(sys.modules[kind.__module__]), include_extras=True)[key]
    except NameError:
        return value
    return TypeAdapter(hint).validate_python(value)


def make_room(sizes: Any) -> None:
    """Let the machine have as many GPUs as the engine asks for."""
    world = 1
    for size in _SIZES:
        world *= getattr(sizes, size, 1) or 1
    DeviceCount.at_least(world)


# model type: the transformers class its config builds on, where that is not the plain one
_BASES = {
    "mimo": "Qwen2Config",
    "deepseek": "LlamaConfig",
    "phi3_v": "Phi3Config",
    **dict.fromkeys(
        ("exaone", "orion", "qwen", "baichuan", "internlm", "phi3small", "minicpm", "phi-msft"),
        "PreTrainedConfig",
    ),
    "nemotron-nas": "PreTrainedConfig",
}
_ATTRIBUTE_MAPS = {"exaone": {"num_hidden_layers": "num_layers"}}


class _Block(dict[str, Any]):
    """Nemotron-NAS: its config class turns block descriptions into objects."""

    def __getattr__(self, key: str) -> Any:
        try:
            value = self[key]
        except KeyError:
            raise AttributeError(key) from None
        return _Block(value) if type(value) is dict else value


def register_remote_config(config: Mapping[str, Any], names_code: bool) -> str | None:
    """Register a stand-in where the checkpoint's own config class would be needed.

    vLLM takes the config class of such model types from the checkpoint (``trust_remote_code``); no
    such code runs here. The stand-in has the same base, and keeps whatever config.json states: only
    defaults that it leaves unstated may differ.

    Returns a note about it, None where vLLM or transformers has the class. ``names_code``: whether
    the config names code of its own (``auto_map``).
    """
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = config.get("model_type")
    known = name("config_registry")
    if not isinstance(model_type, str) or model_type in CONFIG_MAPPING or model_type in known:
        return None
    if not names_code and model_type not in _BASES:
        return None
    base: Any = getattr(transformers, _BASES.get(model_type, "PreTrainedConfig"))
    body: dict[str, Any] = {"model_type": model_type, "__module__": __name__}
    if base is transformers.PreTrainedConfig and "max_position_embeddings" in config:
        # transformers asks for it before it sets the attributes it has no field for
        body["max_position_embeddings"] = config["max_position_embeddings"]
    if model_type == "nemotron-nas":
        body["__init__"] = _with_blocks(base)
    if model_type in _ATTRIBUTE_MAPS:
        body["attribute_map"] = _ATTRIBUTE_MAPS[model_type]
    made = type(f"RemoteConfig_{model_type.replace('-', '_')}", (base,), body)
    globals()[made.__name__] = made  # so that a config that holds one can be pickled
    AutoConfig.register(model_type, made, exist_ok=True)
    return (
        f"the config class of {model_type!r} comes with the checkpoint as code, which is not run: "
        "values that config.json leaves out are not known"
    )


def _with_blocks(base: Any) -> Any:
    def __init__(self: Any, *args: Any, block_configs: Any = (), **kwargs: Any) -> None:
        base.__init__(self, *args, **kwargs)
        self.block_configs = [_Block(block) for block in block_configs]

    return __init__
