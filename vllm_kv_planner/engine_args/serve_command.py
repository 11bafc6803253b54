"""A pasted command, ``vllm serve MODEL --flag …``, as EngineArgs.

Understood: ``vllm serve`` (also as ``python -m vllm.entrypoints.cli.main serve``), its older server
module, Dynamo's worker, a container of a vLLM image, a manifest's list of arguments, and whatever
stands around them (``sudo``, ``sh -c``, assignments); see ``find_server.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import InputError, printable
from ..records import dataclass, field
from .arguments import prepare_arguments
from .engine_args import EngineArgs, EngineEnvironment, read_environment
from .find_server import Server, find_server
from .flag_table import Flag, all_flags, wrapper_flags
from .shell_words import HOLE, ends_at_shell, filled, literal, split_command
from .unknown_flags import is_flag

__all__ = ["ServeCommand", "ends_at_shell", "parse_serve_command", "server_words", "split_command"]


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """What a pasted command asks for."""

    engine_args: EngineArgs
    environment: EngineEnvironment
    variables: dict[str, str] = field(repr=False)
    """Assignments before the command, or given to the container; may hold secrets."""
    ignored: tuple[str, ...]
    """Flags of the command that change neither KV cache nor memory."""
    notes: tuple[str, ...]
    """What the reader should know: flags not modelled or not known, defaults taken."""
    vllm_version: str | None
    """As the tag of the container's image says it."""
    lora_modules: tuple[str, ...]
    """Values of --lora-modules, for ``rules.check_modules``: the adapters' folders are not read."""


def parse_serve_command(
    command: str | Sequence[str], *, vllm_version: str | None = None
) -> ServeCommand:
    """Read a command as pasted, in one string or already split by the shell.

    Args:
        command: The text, or its words.
        vllm_version: The version it is for; None: as the container's tag says it.

    Raises:
        InputError: There is no vLLM server in it, something in it is not filled in, or vLLM 0.33
            would refuse a word of it; what EngineArgs raises.
        UnknownNameError: A flag that vLLM does not have.
    """
    from .flags import FlagParser, add_engine_flags, engine_args_from, ignored_flags, unsure_notes

    server = find_server(command)
    notes: list[str] = []
    if server.others:
        notes.append("the first vLLM server of the command is planned; paste others by themselves")
    left_out: list[str] = []
    rest = _own_words(server, notes, left_out)
    if server.program == "serve":
        _check_one_model(rest)
    arguments = prepare_arguments(rest, "serve" if server.program == "serve" else "module")
    if server.program == "serve" and _hides_model(rest, arguments):
        raise InputError(
            "`model` should be provided as the first positional argument when using "
            "`vllm serve`, that is before --served-model-name"
        )
    if "--" in arguments:
        raise InputError("-- in the command: vLLM takes no word behind it")
    parser = FlagParser(prog="vllm serve", add_help=False)
    parser.is_vllm = True
    parser.vllm_version = vllm_version or server.version
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--config")  # read before; its beginnings are as ambiguous as in vLLM
    add_engine_flags(parser, show_help=False)
    given = parser.parse_args(arguments)
    model = given.model_tag or getattr(given, "model", None)
    notes = [*unsure_notes(given), *notes]
    if model is None:
        notes.append(f"no model named: vLLM takes {EngineArgs.model}")
        model = EngineArgs.model
    engine_args = engine_args_from(given, model=model)
    environment = read_environment(server.variables)
    notes += _notes_on(environment, engine_args)
    return ServeCommand(
        engine_args=engine_args,
        environment=environment,
        variables=server.variables,
        ignored=(*ignored_flags(given), *left_out),
        notes=tuple(notes),
        vllm_version=server.version,
        lora_modules=tuple(getattr(given, "lora_modules", None) or ()),
    )


def server_words(command: str | Sequence[str]) -> list[str]:
    """The flags of the server in a pasted command, in the spelling argparse knows."""
    server = find_server(command)
    words = _own_words(server, [], [])
    return prepare_arguments(words, "serve" if server.program == "serve" else "module")


def _own_words(server: Server, notes: list[str], left_out: list[str]) -> list[str]:
    """The server's words for vLLM, with what is known filled in.

    Told in ``notes`` are flags of a program around vLLM, in ``left_out`` those whose value is not
    filled in, and that change nothing planned.

    Raises:
        InputError: Something that counts is not filled in.
    """
    words = server.words
    if server.program == "dynamo":
        words = _without(words, wrapper_flags("dynamo"), notes)
    flags = {spelling: flag for flag in all_flags() for spelling in flag.spellings}
    found: list[str] = []
    for each in words:
        word = filled(each, server.variables)
        if not word and each:
            continue  # a variable that is set to nothing leaves no word
        hole = HOLE.search(word)
        if hole is None:
            found.append(literal(word))
            continue
        attached = is_flag(word)
        behind = [each for each in found if is_flag(each)][-1:] if found else []
        name = word.partition("=")[0] if attached else "".join(behind)
        flag = flags.get("--" + name[2:].replace("_", "-") if name[:2] == "--" else name)
        if flag is not None and flag.takes != "many" and not attached and found[-1] != name:
            flag = None  # that flag has its value
        _check_hole(hole[0], name, flag)
        left_out.append(name)
        if not attached and found[-1] == name:
            del found[-1]
    return found


def _check_hole(hole: str, name: str, flag: Flag | None) -> None:
    """Refuse what is not filled in, unless its flag changes nothing."""
    if flag is not None and flag.effect == "none" and flag.takes not in ("switch", "set"):
        return
    where = f" (the value of {printable(name[:60])})" if flag is not None else ""
    raise InputError(
        f"{printable(hole[:80])}{where} is not filled in here: write what it stands for"
    )


def _without(words: Sequence[str], wrapper: Mapping[str, int], notes: list[str]) -> list[str]:
    """The words that a program around vLLM hands on."""
    found: list[str] = []
    i = 0
    while i < len(words):
        name, equals, _ = words[i].partition("=")
        name = "--" + name[2:].replace("_", "-").removeprefix("no-") if name[:2] == "--" else name
        i += 1
        if name not in wrapper:
            found.append(words[i - 1])
            continue
        most = 0 if equals else wrapper[name]
        while most and i < len(words) and not is_flag(words[i]):
            i, most = i + 1, most - 1
        notes.append(f"{name} is the wrapper's, not vLLM's; nothing planned for it")
    return found


def _check_one_model(words: Sequence[str]) -> None:
    if words and not is_flag(words[0]) and any(w.split("=", 1)[0] == "--model" for w in words):
        raise InputError(f"two models: {words[0][:80]!r} and --model; leave --model out")


def _hides_model(words: Sequence[str], prepared: Sequence[str]) -> bool:
    """``vllm serve --served-model-name NAME MODEL``: the flag swallows the model."""
    return (
        bool(words)
        and words[0].startswith("-")
        and "--config" not in words
        and not any(word == "--model" or word.startswith("--model=") for word in prepared)
        and any(word.split("=", 1)[0] == "--served-model-name" for word in prepared)
    )


def _notes_on(environment: EngineEnvironment, args: EngineArgs) -> Iterator[str]:
    """What the command's variables say that is not planned."""
    old = "VLLM_ATTENTION_BACKEND"
    if old in environment.others:
        yield f"{old} is not read by vLLM 0.33; use --attention-backend"
    others = [name for name in environment.others if name != old]
    if others:
        yield f"not modelled: {', '.join(others)}"
    devices = environment.visible_devices
    if devices is not None and args.num_gpus > len(devices):
        shown = f"the command shows vLLM {len(devices)} GPUs (CUDA_VISIBLE_DEVICES)"
        yield f"{shown} but asks for {args.num_gpus}"
