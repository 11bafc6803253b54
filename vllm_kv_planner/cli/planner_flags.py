"""Flags of every command that plans: the device, the planner, a hand-made model, vLLM's own."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..engine_args.engine_args import read_environment
from ..engine_args.flags import FlagParser, engine_args_from, unsure_notes
from ..engine_args.rules import check_modules
from ..errors import ConfigError, InputError, UnknownNameError
from ..version import VLLM

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Sequence

    from ..calibration.calibration import Calibration
    from ..config.find import FoundConfig
    from ..engine_args.engine_args import EngineArgs, EngineEnvironment
    from ..planning.request import Machine, PlanRequest

_SERVER = re.compile(r"\bvllm serve\b|-m (vllm|dynamo)\.")
CUSTOM_LENGTH = 8192
"""Tokens, where ``--custom`` comes without ``--max-model-len``."""

CUSTOM_FLAGS = {
    "layers": "decoder layers",
    "kv-heads": "KV heads of a layer",
    "head-dim": "width of a head",
    "heads": "query heads (default: as many as KV heads)",
}


def command_parser(command: str, *, description: str, usage: str, epilog: str) -> FlagParser:
    """An empty parser of a subcommand; ``usage`` after the program and command, lines split."""
    import argparse

    program = f"vllm-kv-planner {command}"
    indented = "\n       ".join(f"{program} {line}" for line in usage.splitlines())
    return FlagParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=indented,
        allow_abbrev=False,
    )


def add_planner_flags(group: argparse._ActionsContainer, *, gpu: bool = True) -> None:
    """Flags beside vLLM's: the device as it is, and who plans."""
    if gpu:
        group.add_argument(
            "--gpu",
            metavar="NAME",
            help="GPU of every rank: H100 (default), L4, ...; auto asks NVML",
        )
    group.add_argument("--gpu-memory", metavar="SIZE", help="its memory, such as 80GiB")
    group.add_argument("--free-memory", metavar="SIZE", help="free on a shared GPU at the start")
    group.add_argument("--other-processes", metavar="SIZE", help="or: what others hold of it")
    add_calibration_flags(group)
    group.add_argument(
        "--planner",
        choices=("auto", "standalone", "vllm"),
        default="auto",
        help="rules restated (standalone), or vLLM's own code",
    )
    group.add_argument("--vllm-version", metavar="V", help=f"vLLM to plan for ({VLLM})")


def add_custom_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a hand-made model."""
    custom = parser.add_argument_group("a hand-made model in place of MODEL")
    custom.add_argument("--custom", action="store_true", help="describe the model by hand")
    for name, help_text in CUSTOM_FLAGS.items():
        custom.add_argument(f"--{name}", type=int, metavar="N", help=help_text)


def split_at_dashes(
    arguments: list[str], make_parser: Callable[[], FlagParser] | None = None
) -> tuple[list[str], list[str]]:
    """What stands before ``--``, and the pasted command behind it.

    Where somebody forgot the dashes, ``plan vllm serve X --gpu L4``, the command's own flags are
    told from vLLM's by their names, of which ``make_parser`` knows those of the command.
    """
    if "--" in arguments:
        at = arguments.index("--")
        return arguments[:at], arguments[at + 1 :]
    if make_parser is None or not is_pasted(arguments):
        return arguments, []
    from ..engine_args.flag_table import all_spellings

    vllms = frozenset(all_spellings())
    takes = {
        name: action.nargs != 0
        for action in make_parser()._actions
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
    from ..engine_args.serve_command import parse_serve_command

    check_before_dashes(given, (*own, "model"))
    command = parse_serve_command(pasted, vllm_version=given.vllm_version)
    args = command.engine_args
    notes = [
        *unsure_notes(given),
        *command.notes,
        *check_modules(command.lora_modules, args),
    ]
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

    model = getattr(given, "model_tags", None)
    if model:
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
    from ..engine_args.choose_gpu import choose_gpu
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
    """Free memory as said, and the lessons of earlier starts."""
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
    from ..engine_args.arguments import parse_memory_size

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

    return custom_config(
        layers=values["layers"],
        kv_heads=values["kv-heads"],
        head_dim=values["head-dim"],
        heads=values["heads"],
    )


def add_calibration_flags(parser: argparse._ActionsContainer, *, ignorable: bool = True) -> None:
    """Where the lessons are."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="lessons of calibrate (default: the user's own file)",
    )
    if ignorable:
        parser.add_argument("--no-calibration", action="store_true", help="use no lessons")


def calibration_of(given: argparse.Namespace) -> Calibration | None:
    """The lessons to plan with; None where there are none.

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
