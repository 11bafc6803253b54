"""Which models take LoRA adapters.

Source: vLLM 0.33 ``v1/worker/lora_model_runner_mixin.py`` ``load_lora_model``,
``model_executor/models/interfaces.py`` ``supports_lora``; the classes are data, ``no_lora.json``.
"""

from __future__ import annotations

from ..data_files import read_json
from ..errors import UnsupportedError
from .engine_args import EngineArgs


def check_lora(args: EngineArgs, architecture: str) -> None:
    """Refuse adapters of a model whose class has no place for them.

    Raises:
        UnsupportedError: vLLM stops while it loads such a model.
    """
    if args.enable_lora and architecture in read_json(__file__, "no_lora.json")["architectures"]:
        raise UnsupportedError(
            f"{architecture} does not support LoRA yet (vLLM 0.33); leave --enable-lora out"
        )
