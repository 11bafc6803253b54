"""Flags of every command that plans: the device, the planner, a hand-made model, vLLM's own."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.engine_args import read_environment
from ..engine_args.flags import FlagParser, add_engine_flags, engine_args_from, unsure_notes
from ..errors import ConfigError, InputError, UnknownNameError
from ..files.json_file import read_json
from ..units import parse_memory_size, parse_quantity

if TYPE_CHECKING:
    from ..calibration.calibration import Calibration
    from ..config.find import FoundConfig
    from ..engine_args.engine_args import EngineArgs, EngineEnvironment
    from ..planning.request import Machine, PlanRequest

_SERVER = re.compile(r"\bvllm serve\b|-m (vllm|dynamo)\.")
CUSTOM_LENGTH = 8192
"""Tokens, where ``--custom`` comes without ``--max-model-len``."""

CUSTOM_FLAGS = ("layers", "kv-heads", "head-dim", "heads")


@cache
def command_parser(command: str) -> FlagParser:
    """The parser of a subcommand, made once, as ``commands.json`` describes it.

    A row of flags there holds ``argparse``'s own words; a text stands for rows that commands share.
    """
    table = read_json(__file__, "commands.json")
    own, program = table["commands"][command], f"vllm-kv-planner {command}"
    parser = FlagParser(
        prog=program,
        description=own["description"],
        epilog="\n".join([*own["epilog"], ""]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="\n       ".join(f"{program} {line}" for line in own.get("usage", ())) or None,
        allow_abbrev=False,
    )
    for group in own["groups"]:
        _add_group(parser, table["custom"] if group == "custom" else group, table["shared"])
    if "engine_flags_but" in own:
        add_engine_flags(parser, omit=own["engine_flags_but"])
    return parser


def _add_group(parser: FlagParser, group: dict[str, Any], shared: dict[str, Any]) -> None:
    into: argparse._ActionsContainer = parser
    if "title" in group:
        into = parser.add_argument_group(group["title"], group.get("about"))
    for row in group["flags"]:
        for flag in shared[row] if isinstance(row, str) else [row]:
            options = {name: value for name, value in flag.items() if name != "names"}
            if "type" in flag:
                options["type"] = _TYPES[flag["type"]]
            into.add_argument(*flag["names"], **options)


def quantity(text: str) -> int:
    """``32K`` as vLLM reads it, the refusal in one line."""
    try:
        return parse_quantity(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


_TYPES: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "quantity": quantity}


def parsed(command: str, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags before ``--``, read, and the pasted command behind it."""
    ours, pasted = split_at_dashes(list(arguments), command)
    return command_parser(command).parse_args(prepare_arguments(ours)), pasted


def split_at_dashes(
    arguments: list[str], command: str | None = None
) -> tuple[list[str], list[str]]:
    """What stands before ``--``, and the pasted command behind it.

    Where somebody forgot the dashes, ``plan vllm serve X --gpu L4``, the command's own flags are
    told from vLLM's by their names, where ``command`` is given.
    """
    if "--" in arguments:
        at = arguments.index("--")
        return arguments[:at], arguments[at + 1 :]
    if command is None or not is_pasted(arguments):
        return arguments, []
    from ..engine_args.flag_table import all_spellings

    vllms = frozenset(all_spellings())
    takes = {
        name: action.nargs != 0
        for action in command_parser(command)._actions
        for name in action.option_strings
        if name not in vllms
    }
    ours: list[str] = []
    pasted: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        name = "--" + name[2:].replace("_", "-") if name[:2] == "--" else name
        if name not in takes:
            pasted.append(word)
            continue
        ours.append(word)
        if takes[name] and not equals:
            ours += [each for each in [next(words, None)] if each is not None]
    return ours, pasted


def is_pasted(words: Sequence[str]) -> bool:
    """Whether a line without ``--`` holds a command that starts a server."""
    for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        program = word.rsplit("/", 1)[-1]
        if (
            (program == "vllm" and following == "serve")
            or (word == "serve" and (not before.startswith("-") or "=" in before))
            or (program in ("docker", "podman", "nerdctl") and following == "run")
            or (word == "-m" and following.startswith(("vllm.", "dynamo.")))
            or (" " in word and _SERVER.search(word) is not None)
        ):
            return True
    return False


def request_of(given: argparse.Namespace, model: str | None) -> PlanRequest:
    """What our own flags ask for, of one model.

    Raises:
        PlannerError: The input is wrong; one line says what and where.
    """
    found = custom_model(given, model)
    if found is None:
        if model is None:
            raise InputError("no model named: a Hub id, a directory or a config.json, or --custom")
        from ..config.find import find_config

        found = find_config(model, revision=getattr(given, "revision", None))
    also: dict[str, object] = {"model": found.id}
    notes = unsure_notes(given)
    if given.custom and getattr(given, "max_model_len", None) is None:
        also["max_model_len"] = CUSTOM_LENGTH
        notes.append(f"a hand-made model has no length of its own: {CUSTOM_LENGTH:,} tokens taken")
    args = engine_args_from(given, **also)
    from ..engine_args.rules import check_modules

    notes += check_modules(getattr(given, "lora_modules", None) or (), args)
    return request_for(given, args, found, read_environment(os.environ), notes)


def request_of_command(
    given: argparse.Namespace, pasted: list[str], own: Collection[str] = ()
) -> PlanRequest:
    """What a pasted ``vllm serve`` line asks for; ``own`` as ``check_before_dashes`` takes it.

    ``--model`` before the dashes says which model stands at a path that is not on this machine.

    Raises:
        PlannerError: The input is wrong; one line says what and where.
    """
    from ..config.find import find_config
    from ..engine_args.rules import check_modules
    from ..engine_args.serve_command import parse_serve_command

    check_before_dashes(given, (*own, "model"))
    command = parse_serve_command(pasted, vllm_version=given.vllm_version)
    args = command.engine_args
    notes = [*unsure_notes(given), *command.notes, *check_modules(command.lora_modules, args)]
    named = getattr(given, "model", None)
    if named is not None:
        found = find_config(named)
        notes.append(f"{args.model} is planned as {found.id}, as --model says")
    else:
        try:
            found = find_config(args.model, revision=args.revision)
        except (ConfigError, UnknownNameError) as error:
            hint = "--model ID before the -- says which model it is"
            raise type(error)(f"{error}; {hint}") from None
    if given.vllm_version is None and command.vllm_version is not None:
        given.vllm_version = command.vllm_version
        notes.append(f"vLLM {command.vllm_version}: the tag of the container's image")
    return request_for(given, args, found, command.environment, notes)


def check_before_dashes(given: argparse.Namespace, own: Collection[str] = ()) -> None:
    """Refuse what belongs into the pasted command and would be lost before its ``--``.

    Raises:
        InputError: The model, or an engine flag.
    """
    from ..engine_args.flag_table import all_flags

    if model := getattr(given, "model_tags", None):
        raise InputError(f"{model[0]!r} before --: the model stands in the pasted command")
    values = vars(given)
    for flag in all_flags():
        if flag.field not in own and values.get(flag.field) is not None:
            raise InputError(
                f"{flag.spellings[0]} before --: vLLM's flags stand in the pasted command"
            )


def request_for(
    given: argparse.Namespace,
    args: EngineArgs,
    found: FoundConfig,
    environment: EngineEnvironment,
    notes: list[str],
) -> PlanRequest:
    """What the flags ask for, of a model that is already found."""
    from ..gpu.detect import choose_gpu
    from ..planning.request import PlanRequest

    gpu = getattr(given, "gpu", None)
    if gpu is None and given.gpu_memory is not None:
        notes = [*notes, "no GPU named: one like an H100 with this memory; --gpu NAME for another"]
    machine = machine_of(given)
    # the CPU is no GPU of the catalogue: vLLM's CPU build plans for it, and nobody else
    on_cpu = gpu == "cpu" and given.planner == "vllm"
    return PlanRequest(
        found=found,
        args=args,
        gpu=gpu if on_cpu else choose_gpu(gpu, given.gpu_memory),
        planner=given.planner,
        vllm_version=given.vllm_version,
        environment=environment,
        machine=machine,
        notes=(*notes, *machine.notes),
    )


def machine_of(given: argparse.Namespace) -> Machine:
    """Free memory as said, and the records of earlier starts."""
    from ..planning.request import Machine

    free, others = given.free_memory, given.other_processes
    if free is not None and others is not None:
        raise InputError("--free-memory and --other-processes: one of them says it all")
    return Machine(
        free_memory_bytes=None if free is None else sized("--free-memory", free),
        other_processes_bytes=0 if others is None else sized("--other-processes", others),
        calibration=calibration_of(given),
    )


def sized(flag: str, text: str) -> int:
    """A size, its refusal with the flag's name."""
    try:
        return parse_memory_size(text)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None


def custom_model(given: argparse.Namespace, model: str | None) -> FoundConfig | None:
    """The hand-made model's config; None where none is described."""
    values = {name: getattr(given, name.replace("-", "_")) for name in CUSTOM_FLAGS}
    if not given.custom:
        stray = [name for name, value in values.items() if value is not None]
        if stray:
            raise InputError(f"--{stray[0]} describes a hand-made model: add --custom")
        return None
    if model is not None:
        raise InputError(f"--custom describes the model by hand; MODEL {model!r} is one too many")
    from ..config.found import custom_config

    return custom_config(**{name.replace("-", "_"): value for name, value in values.items()})


def calibration_of(given: argparse.Namespace) -> Calibration | None:
    """The records to plan with; None where there are none.

    Raises:
        InputError: The file named is not there, or is not usable.
    """
    if given.no_calibration:
        if given.calibration is not None:
            raise InputError("--calibration and --no-calibration: one of them")
        return None
    path = given.calibration or usual_path()
    if given.calibration is None and not os.path.exists(path):
        return None
    from ..calibration.store import load

    return load(path)


def usual_path() -> str:
    """``$XDG_CONFIG_HOME/vllm-kv-planner/calibration.json``, below ~/.config where not set."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "vllm-kv-planner", "calibration.json")
