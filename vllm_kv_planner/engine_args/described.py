"""The model of a config under an engine's flags; the last ones are remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..config.find import FoundConfig
from ..errors import ConfigError
from ..model.describe import describe
from ..model.description import ModelDescription
from ..model.multimodal_tokens import shows_nothing
from .engine_args import EngineArgs


def described(found: FoundConfig, args: EngineArgs) -> ModelDescription:
    """The model of a config under these flags; the last ones are remembered."""
    return _described(
        # the objects themselves, which the cache keeps alive: an id cannot come to mean another
        Keyed(found, (id(found.config), *map(id, found.files.values()))),
        Keyed(args.hf_overrides, repr(args.hf_overrides)),
        text_only(found, args),
        args.disable_sliding_window,
        args.runner,
        args.convert,
    )


def text_only(found: FoundConfig, args: EngineArgs) -> bool:
    """Whether no image, audio or video can reach the model."""
    if args.enable_mm_embeds:
        return False
    limits = args.limit_mm_per_prompt
    return args.language_model_only or (bool(limits) and shows_nothing(found.config, limits))


@contextmanager
def named(found: FoundConfig) -> Iterator[None]:
    """Say which config a complaint about ``config.json`` means."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        if not message.startswith("config.json: "):
            raise
        where = found.path or found.id
        raise type(error)(where + message.removeprefix("config.json")) from None


class Keyed:
    """A value that compares by a key of its own, so that what follows from it can be remembered."""

    def __init__(self, value: Any, key: object) -> None:
        self.value = value
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _described(
    found: Keyed,
    hf_overrides: Keyed,
    language_model_only: bool,
    disable_sliding_window: bool,
    runner: str,
    convert: str,
) -> ModelDescription:
    return describe(
        found.value.with_quantization,
        where=found.value.path or found.value.id,
        name=found.value.id,
        hf_overrides=hf_overrides.value,
        language_model_only=language_model_only,
        disable_sliding_window=disable_sliding_window,
        runner=runner,
        convert=convert,
    )
