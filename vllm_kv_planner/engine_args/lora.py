"""Which models take LoRA adapters, and which adapters the engine takes.

Source: vLLM 0.33 ``v1/worker/lora_model_runner_mixin.py`` ``load_lora_model``, ``add_lora``,
``model_executor/models/interfaces.py`` ``supports_lora`` (the classes are data, ``no_lora.json``),
``entrypoints/common/cli_args.py`` ``LoRAParserAction``, ``lora/peft_helper.py``
``validate_legal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError, PlannerError, UnsupportedError
from ..files.data import read_json
from .choices import CHOICES
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


def check_modules(words: Iterable[str], args: EngineArgs) -> list[str]:
    """What to know of the adapters that ``--lora-modules`` loads at the start.

    Args:
        words: The flag's values: ``NAME=PATH``, or a JSON object with ``name`` and ``path``.
        args: The engine's flags.

    Raises:
        InputError: vLLM would not start: a value it cannot read, LoRA not enabled, or an adapter
            it does not take.
    """
    from ..config.adapter import find_adapter
    from ..config.find import is_offline

    notes = []
    for name, path in map(_name_and_path, filter(None, words)):
        where = f"--lora-modules {name[:60]}"
        if not args.enable_lora:
            raise InputError(f"{where}: LoRA is not enabled. Use --enable-lora to enable LoRA.")
        try:
            adapter = find_adapter(path, offline=is_offline())
        except PlannerError as error:
            raise InputError(f"{where}: {error}") from None
        if adapter is None:
            notes.append(
                f"{where}: {path[:100]} is not known here, so its rank is not held against "
                f"--max-lora-rank {args.max_lora_rank}"
            )
            continue
        _check_adapter(adapter, where, args.max_lora_rank)
        base = adapter.get("base_model_name_or_path")
        if isinstance(base, str) and base and not _may_be(base, args.model):
            notes.append(f"{where}: its config says that it is an adapter of {base[:100]}")
    return notes


def _name_and_path(word: str) -> tuple[str, str]:
    """As vLLM reads one value: JSON where it holds a comma, or no ``=``."""
    if "=" in word and "," not in word:
        name, _, path = word.partition("=")
        return name, path
    from ..files.json_file import parse_config

    try:
        found = parse_config(word.encode(), "--lora-modules")
    except PlannerError:
        raise InputError(f"Invalid JSON format for --lora-modules: {word[:100]}") from None
    known = {"name", "path", "base_model_name", "is_3d_lora_weight"}
    named, at = found.get("name"), found.get("path")
    if not isinstance(named, str) or not isinstance(at, str) or found.keys() - known:
        raise InputError(
            f"Invalid fields for --lora-modules: {word[:100]} - name and path are needed, "
            "base_model_name and is_3d_lora_weight may be given"
        )
    return named, at


def _check_adapter(adapter: Mapping[str, Any], where: str, most: int) -> None:
    from ..config.adapter import largest_rank

    rank = largest_rank(adapter)
    if rank is not None and rank > most:
        enough = min((size for size in CHOICES["max_lora_rank"] if size >= rank), default=None)
        helps = "" if enough is None else f" --max-lora-rank {enough} takes it"
        raise InputError(f"{where}: LoRA rank {rank} is greater than max_lora_rank {most}.{helps}")
    if adapter.get("use_dora"):
        raise InputError(f"{where}: vLLM does not yet support DoRA.")
    if adapter.get("bias", "none") != "none":
        raise InputError(f"{where}: Adapter bias is not supported.")


def _may_be(base: str, model: str) -> bool:
    """Whether an adapter's base can be the model: names of paths and of owners differ."""
    short = [
        name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].lower() for name in (base, model)
    ]
    return short[0] in short[1] or short[1] in short[0]
