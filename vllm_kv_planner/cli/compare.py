"""``vllm-kv-planner compare``: models side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..engine_args.arguments import prepare_arguments
from ..errors import InputError, printable
from .output import rendered, say
from .planner_flags import CUSTOM_FLAGS, command_parser, custom_model, request_for

if TYPE_CHECKING:
    import argparse

    from ..capacity.compared import ComparedModel
    from ..config.find import FoundConfig
    from ..planning.request import PlanRequest


def run_compare(arguments: Sequence[str]) -> int:
    """Parse, plan each, print; returns the exit code."""
    from ..capacity.compare import LENGTHS, compare

    if "--" in arguments:
        raise InputError("compare takes models and flags, no pasted command behind --")
    given = command_parser("compare").parse_args(prepare_arguments(list(arguments)))
    lengths = [length_of(text) for text in given.length or ()]
    comparison = compare(rows_of(given), lengths or LENGTHS)
    say(rendered(comparison, given.format))
    return 0 if comparison.complete else 1


def length_of(text: str) -> int:
    """One ``--length``.

    Raises:
        InputError: Not a count; says which flag.
    """
    from ..units import parse_quantity

    try:
        return parse_quantity(text)
    except InputError as error:
        raise InputError(f"--length: {error}; repeat the flag for several") from None


def rows_of(given: argparse.Namespace) -> list[PlanRequest | ComparedModel]:
    """What to plan, model by model; a model nobody knows is answered already.

    Raises:
        PlannerError: A flag is wrong, whatever the model.
    """
    from ..capacity.compared import ComparedModel
    from ..engine_args.engine_args import read_environment
    from ..engine_args.flags import engine_args_from, unsure_notes
    from ..records import replace

    args = engine_args_from(given)
    environment = read_environment(os.environ)
    notes = unsure_notes(given)
    return [
        each
        if isinstance(each, ComparedModel)
        else request_for(given, replace(args, model=each.id), each, environment, notes)
        for each in named_models(given)
    ]


def named_models(given: argparse.Namespace) -> Iterator[FoundConfig | ComparedModel]:
    """The models of the command line, in its order: named ones, then hand-made ones."""
    from ..capacity.compare import COMMON_MODELS, found_or_refused

    alone = custom_model(given, None)
    hand_made = [*map(parse_custom_model, given.custom_model)]
    names = given.model_tags or [name for name in [getattr(given, "model", None)] if name]
    if not (names or hand_made or alone):
        names = COMMON_MODELS
    for name in names:
        yield found_or_refused(name, getattr(given, "revision", None))
    if alone is not None:
        yield alone
    yield from hand_made


EXAMPLE = "NAME=layers:32,kv-heads:8,head-dim:128"


def parse_custom_model(text: str) -> FoundConfig:
    """The config of one ``--custom-model``.

    Raises:
        InputError: Not of that form, or a figure that makes no sense.
    """
    from ..config.found import custom_config
    from ..records import replace

    name, equals, facts = text.partition("=")
    if not (name.strip() and equals):
        raise wrong(text, "expected")
    values: dict[str, int] = {}
    for fact in facts.split(","):
        key, _, value = fact.partition(":")
        key = key.strip()
        if key not in CUSTOM_FLAGS or key in values:
            raise wrong(text, f"{key[:40]!r}: each once of {', '.join(CUSTOM_FLAGS)}, such as")
        try:
            values[key] = int(value)
        except ValueError:
            raise wrong(text, f"{key} {value[:40]!r} is not a whole number; expected") from None
    try:
        found = custom_config(**{key.replace("-", "_"): values.get(key) for key in CUSTOM_FLAGS})
    except InputError as error:
        message = str(error).replace("--custom needs --layers, --kv-heads and --head-dim; --", "")
        raise wrong(text, f"{message.removeprefix('--')}; such as") from None
    return replace(found, id=printable(name.strip()))


def wrong(text: str, why: str) -> InputError:
    """The refusal, with the form that is right."""
    return InputError(f"--custom-model {text[:80]!r}: {why} {EXAMPLE}")
