"""Config classes that come with a checkpoint, as code: stand-ins, for no remote code is run.

vLLM has a model class of its own for these model types but takes the config class from the
checkpoint (``trust_remote_code``). A class with the same base is registered in its place. Whatever
config.json states is kept; only defaults that it leaves unstated may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .names import name

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
