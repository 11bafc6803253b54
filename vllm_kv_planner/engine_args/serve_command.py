"""A pasted command, ``vllm serve MODEL --flag …``, as EngineArgs.

Understood: ``vllm serve`` (also as ``python -m vllm.entrypoints.cli.main serve``),
``python -m vllm.entrypoints.openai.api_server``, a container of the ``vllm-openai`` image, and
whatever stands before them (``sudo``, ``nohup``, assignments).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InputError, hiding
from ..records import dataclass, field
from .arguments import prepare_arguments
from .engine_args import EngineArgs
from .environment import EngineEnvironment, read_environment

_MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.launchers.api_server.entry")
_CLI_MODULE = "vllm.entrypoints.cli.main"
"""What the ``vllm`` program runs."""
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
# Where the shell would end the command or send its output elsewhere.
_SHELL_END = re.compile(r"(&&?|\|\|?|;|\d?>{1,2}.*|&>.*|\d>&\d|<.*)")
_CONTINUATION = re.compile(r"\\[ \t]*\r?\n")
_PROMPT = re.compile(r"\A\s*(?:[$#>]|[\w.-]+@[\w.-]+:\S*[$#])\s+")
_MAX_LENGTH = 100_000


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


def parse_serve_command(command: str | Sequence[str]) -> ServeCommand:
    """Read a command as pasted, in one string or already split by the shell.

    Raises InputError when there is no vLLM server in it, UnknownNameError for a flag that may be
    a misspelt one (others that vLLM 0.33 does not have are named in a note), and what EngineArgs
    raises.
    """
    words = split_command(command)
    with hiding(words):
        return _parsed(words)


def _parsed(words: list[str]) -> ServeCommand:
    from ..masking import masked_text
    from .flags import (
        FlagParser,
        add_engine_flags,
        engine_args_from,
        ignored_flags,
        unsure_notes,
    )

    variables, rest, is_serve = _find_server(words)
    arguments = prepare_arguments(rest)
    if is_serve and _hides_model(rest, arguments):
        raise InputError(
            "`model` should be provided as the first positional argument when using "
            "`vllm serve`, that is before --served-model-name"
        )
    parser = FlagParser(prog="vllm serve", add_help=False)
    parser.is_vllm = True
    parser.add_argument("model_tag", nargs="?")
    add_engine_flags(parser, show_help=False)
    given = parser.parse_args(arguments)
    if is_serve and given.model_tag and any(w.split("=", 1)[0] == "--model" for w in rest):
        raise InputError(f"two models: {given.model_tag[:80]!r} and --model; leave --model out")
    notes = unsure_notes(given)
    model = given.model_tag or getattr(given, "model", None)
    if model is None:
        notes.append(f"no model named: vLLM takes {EngineArgs.model}")
        model = EngineArgs.model
    engine_args = engine_args_from(given, model=model)
    environment = read_environment(variables)
    if "VLLM_ATTENTION_BACKEND" in variables:
        notes.append("VLLM_ATTENTION_BACKEND is not read by vLLM 0.33; use --attention-backend")
    others = [name for name in environment.others if name != "VLLM_ATTENTION_BACKEND"]
    if others:
        notes.append(f"not modelled: {', '.join(others)}")
    notes += _device_notes(engine_args, environment)
    return ServeCommand(
        engine_args=engine_args,
        environment=environment,
        variables=variables,
        ignored=tuple(ignored_flags(given)),
        notes=tuple(map(masked_text, notes)),
    )


def split_command(command: str | Sequence[str]) -> list[str]:
    """Words as a POSIX shell would split them; lines may be continued with a backslash."""
    if not isinstance(command, str):
        words = [word for word in command if not word or word.strip("\\ \t\r\n")]
        if len(words) != 1:
            return words
        command = words[0]  # the whole command in one pair of quotes
    if len(command) > _MAX_LENGTH:
        raise InputError(f"the command is longer than {_MAX_LENGTH} characters")
    import shlex

    text = _PROMPT.sub("", _CONTINUATION.sub(" ", command))
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"the command cannot be read: {str(error).lower()}") from None


def _find_server(words: Sequence[str]) -> tuple[dict[str, str], list[str], bool]:
    """Assignments, the server's own words, and whether it is ``vllm serve``."""
    variables: dict[str, str] = {}
    for i, word in enumerate(words):
        program = word.rsplit("/", 1)[-1]
        following = words[i + 1] if i + 1 < len(words) else ""
        if program == "vllm" and following == "serve":
            return variables, _until_shell_end(words[i + 2 :]), True
        if program == "vllm" and following and not following.startswith("-"):
            raise InputError(f"vllm {following[:40]} is not a server; only vllm serve is planned")
        if word == "-m" and following == _CLI_MODULE and words[i + 2 : i + 3] == ["serve"]:
            return variables, _until_shell_end(words[i + 3 :]), True
        if word == "-m" and following in _MODULES:
            return variables, _until_shell_end(words[i + 2 :]), False
        if program.split(":", 1)[0].split("@", 1)[0].startswith("vllm-openai"):
            return variables, _until_shell_end(_after_image(words[i + 1 :])), False
        assignment = _ASSIGNMENT.fullmatch(word.removeprefix("--env="))
        if assignment:
            variables[assignment[1]] = assignment[2]
    raise InputError(
        "no vLLM server in the command; expected vllm serve MODEL ... or "
        "python -m vllm.entrypoints.openai.api_server --model MODEL ..."
    )


def _after_image(words: Sequence[str]) -> list[str]:
    """The image starts ``vllm serve``; some repeat it."""
    rest = list(words)
    for prefix in (["vllm", "serve"], ["serve"]):
        if rest[: len(prefix)] == prefix:
            return rest[len(prefix) :]
    return rest


def _until_shell_end(words: Sequence[str]) -> list[str]:
    for i, word in enumerate(words):
        if ends_at_shell(word):
            last = word.removesuffix(";")
            return list(words[:i]) if _SHELL_END.fullmatch(word) else [*words[:i], last]
    return list(words)


def ends_at_shell(word: str) -> bool:
    """Whether a shell would end the command at this word, or send its output elsewhere."""
    return word.endswith(";") or _SHELL_END.fullmatch(word) is not None


def _hides_model(words: Sequence[str], prepared: Sequence[str]) -> bool:
    """``vllm serve --served-model-name NAME MODEL``: the flag swallows the model."""
    return (
        bool(words)
        and words[0].startswith("-")
        and "--config" not in words
        and not any(word == "--model" or word.startswith("--model=") for word in prepared)
        and any(word.split("=", 1)[0] == "--served-model-name" for word in prepared)
    )


def _device_notes(args: EngineArgs, environment: EngineEnvironment) -> list[str]:
    devices = environment.visible_devices
    if devices is None or args.num_gpus <= len(devices):
        return []
    return [
        f"the command shows vLLM {len(devices)} GPUs (CUDA_VISIBLE_DEVICES) "
        f"but asks for {args.num_gpus}"
    ]
