"""Where a vLLM server stands in a command: behind wrappers, in a container, in a list."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..errors import InputError, printable
from ..records import dataclass, field
from .flag_table import all_spellings
from .shell_words import literal, looks_like_list, read_dockerfile, simple_commands

_MODULES = {
    "vllm.entrypoints.openai.api_server": "module",
    "vllm.entrypoints.launchers.api_server.entry": "module",
    "vllm.entrypoints.api_server": "module",
    "dynamo.vllm": "dynamo",
}
_CLI_MODULES = ("vllm.entrypoints.cli.main", "vllm")
"""What the ``vllm`` program runs."""
_OTHER_COMMANDS = (
    "bench", "benchmark", "chat", "collect-env", "complete", "download-kernels", "launch",
    "openai", "preload", "run-batch", "snapshot",
)  # fmt: skip
_SERVER = re.compile(r"\bvllm\s+serve\b|vllm\.entrypoints|\bdynamo\.vllm\b|/vllm-openai\b")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_TAG = re.compile(r"(?:^v?|vllm[-_]?v?)(0\.\d+(?:\.\d+)?(?:rc\d+|\.post\d+)?)(?![\d])")
_REQUIRED = re.compile(r"vllm(?:\[[\w,-]*\])?(?:@|==)v?(0\.\d+[\w.]*)")
"""``vllm==0.31.0``, ``vllm@0.31.0``: the package, as uv and pipx are told which."""
_CONTAINERS = ("docker", "podman", "nerdctl")
_ALONE = re.compile(
    r"--(rm|rmi|detach|interactive|tty|privileged|init|read-only|no-healthcheck|oom-kill-disable"
    r"|publish-all|quiet|replace|no-hosts|no-hostname|env-host|sig-proxy|disable-content-trust"
    r"|passwd|tls-verify)|-[ditPq]+"
)
"""Options of ``docker run`` that take no value."""
_MOST_DEEP = 5


@dataclass(kw_only=True)
class Server:
    """A vLLM server's own words.

    Attributes:
        words: What stands behind the program.
        program: ``serve``: ``vllm serve``; ``module``: its older server module; ``dynamo``.
        variables: Assignments before it, or given to its container; they may hold secrets.
        version: Of the container image's tag, where it is one of vLLM's.
        others: Whether the command starts more servers.
    """

    words: list[str]
    program: Literal["serve", "module", "dynamo"]
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    version: str | None = None
    others: bool = False


def find_server(command: str | Sequence[str]) -> Server:
    """The first server in a pasted text, or in words that a shell has split.

    Raises:
        InputError: There is none.
    """
    words = [] if isinstance(command, str) else [word for word in command if word.strip("\\ \n")]
    text = command if isinstance(command, str) else words[0] if len(words) == 1 else ""
    if text and looks_like_list(text):
        return _in_manifest(_loaded(text))
    dockerfile = read_dockerfile(text)
    if dockerfile is not None:
        return _in_manifest(dockerfile)
    if len(words) > 1 and looks_like_list(words[0] + " "):
        lines = " ".join(words)
        return (
            _in_manifest(_loaded(lines)) if "[" in lines else _bare([w for w in words if w != "-"])
        )
    variables: dict[str, str] = {}
    found = _in_text(command, variables)
    if found is not None:
        return found
    return _bare(next(iter(simple_commands(command)), []))


def _bare(words: list[str]) -> Server:
    """``--model gpt2 -tp 2``, ``serve gpt2``: a server's words without their program."""
    if words and re.fullmatch(r"(args|command)\s*:", words[0]):
        words = words[1:]
    if words[:1] == ["serve"]:
        return Server(words=words[1:], program="serve")
    flags = words[1:2] if words and re.fullmatch(r"[\w.-]+/[\w.-]+", words[0]) else words[:1]
    if words and all(word.startswith("--") or word in all_spellings() for word in flags):
        return Server(words=words, program="serve")
    raise InputError(
        "no vLLM server in the command; expected vllm serve MODEL ... or "
        "python -m vllm.entrypoints.openai.api_server --model MODEL ..."
    )


def _in_text(
    command: str | Sequence[str], variables: dict[str, str], deep: int = 0
) -> Server | None:
    commands = iter(simple_commands(command) if deep < _MOST_DEEP else ())
    for words in commands:
        found = _in_words(words, variables, deep)
        if found is not None:
            found.others = found.others or any(_SERVER.search(" ".join(each)) for each in commands)
            return found
    return None


def _in_words(words: Sequence[str], variables: dict[str, str], deep: int = 0) -> Server | None:
    required = next((each for each in map(_REQUIRED.fullmatch, words) if each), None)
    words = ["vllm" if word == (required and required[0]) else word for word in words]
    found = _server_in(words, variables, deep)
    if found is not None and required is not None:
        found.version = found.version or required[1]
    return found


def _server_in(words: Sequence[str], variables: dict[str, str], deep: int) -> Server | None:
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        program = word.rsplit("/", 1)[-1]
        rest = list(words[i + 2 :])
        if program in _CONTAINERS and following in ("run", "create", "container"):
            return _in_container(rest[1:] if following == "container" else rest, variables, deep)
        kind = _program(word, program, following, words[i + 2 : i + 3])
        if kind is not None:
            rest = rest[1:] if following in _CLI_MODULES else rest
            rest = list(words[i + 1 :]) if kind == "script" else rest
            program_kind = "module" if kind == "script" else kind
            return Server(words=rest, program=program_kind, variables=variables)  # type: ignore[arg-type]
        if re.search(r"\s", word) and _SERVER.search(word):
            found = _in_text(literal(word), variables, deep + 1)
            if found is not None:
                return found
        elif program.split(":", 1)[0].startswith("vllm-openai") and following:
            server = _image_server(list(words[i + 1 :]), variables)
            server.version = _version_of(word)
            return server
        assignment = _ASSIGNMENT.fullmatch(word.removeprefix("--env="))
        if assignment:
            variables[assignment[1]] = literal(assignment[2])
    return None


def _program(word: str, program: str, following: str, after: Sequence[str]) -> str | None:
    """What a word and the next start: ``serve``, ``module``, ``dynamo``, ``script``; None: nothing.

    Raises:
        InputError: A program of vLLM's that is no server.
    """
    if program in ("vllm", "vllm.exe") and following == "serve":
        return "serve"
    if program == "vllm" and following in _OTHER_COMMANDS:
        raise InputError(f"vllm {following[:40]} is not a server; only vllm serve is planned")
    if word == "-m" and following in _CLI_MODULES and list(after) == ["serve"]:
        return "serve"
    if word == "-m" and following in _MODULES:
        return _MODULES[following]
    if word.endswith("vllm/entrypoints/openai/api_server.py"):
        return "script"
    return None


def _in_container(words: list[str], variables: dict[str, str], deep: int) -> Server:
    """``docker run``'s own options, then the image and what it is given.

    Raises:
        InputError: No image, or one that is not known to start vLLM.
    """
    entrypoint: str | None = None
    i = 0
    while i < len(words) and words[i].startswith("-"):
        name, equals, value = words[i].partition("=")
        i += 1
        if not equals and not name.startswith("--") and name[:2] in ("-e", "-v", "-p") and name[2:]:
            name, value = name[:2], name[2:]
        elif equals and name.startswith("-e") and not name.startswith("--"):
            name, value = "-e", f"{name[2:]}={value}"
        elif not equals and not _ALONE.fullmatch(name):
            value = words[i] if i < len(words) else ""
            i += 1
        if name == "--entrypoint":
            entrypoint = value
        assignment = _ASSIGNMENT.fullmatch(value) if name in ("-e", "--env") else None
        if assignment:
            variables[assignment[1]] = assignment[2]
    if i >= len(words):
        raise InputError("the container's command names no image")
    image, rest = words[i], words[i + 1 :]
    started = [*shlex.split(entrypoint or ""), *rest]
    server = _in_words(started, variables, deep)
    if server is None and not entrypoint and "vllm" in image.rsplit("/", 1)[-1]:
        server = _image_server(started, variables)
    if server is None:
        what = f"--entrypoint {entrypoint}" if entrypoint else f"the image {image}"
        raise InputError(f"{printable(what[:200])} is not known to start a vLLM server")
    server.version = server.version or _version_of(image)
    return server


def _image_server(words: list[str], variables: dict[str, str]) -> Server:
    """The image starts ``vllm serve``; some repeat it."""
    for prefix in (["--"], ["vllm", "serve"], ["serve"]):
        if words[: len(prefix)] == prefix:
            words = words[len(prefix) :]
    return Server(words=words, program="serve", variables=variables)


def _version_of(image: str) -> str | None:
    name, _, tag = image.rsplit("/", 1)[-1].partition("@")[0].partition(":")
    match = _TAG.search(tag) if "vllm" in name else None
    return None if match is None else match[1]


def _in_manifest(value: Any) -> Server:
    """The server of a pasted list, container, pod or Compose file, once read.

    Raises:
        InputError: It holds none, or several.
    """
    servers: dict[str, Server] = {}
    for name, container in _containers(value, ""):
        variables = _variables(container.get("env", container.get("environment")))
        words = [
            word
            for key in ("entrypoint", "command", "args")
            for word in _listed(container.get(key))
        ]
        image = str(container.get("image", ""))
        found = _in_words(words, variables)
        if found is None and words and ("vllm" in image or "image" not in container):
            found = _image_server(words, variables)
        if found is not None:
            found.version = found.version or _version_of(image)
            servers[name or f"container {len(servers) + 1}"] = found
    if not servers:
        raise InputError("no vLLM server in the list; expected args such as --model MODEL")
    if len(servers) > 1:
        raise InputError(f"several vLLM servers: {', '.join(servers)[:200]}; paste one of them")
    return next(iter(servers.values()))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        from ..files.yaml_file import parse_yaml

        return parse_yaml(text, "the command", "the pasted list")


def _containers(value: Any, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What has arguments, by name, wherever it stands."""
    if isinstance(value, list) and all(isinstance(each, (str, int, float)) for each in value):
        return [(name, {"args": value})]
    if isinstance(value, list):
        return [found for each in value for found in _containers(each, name)]
    if not isinstance(value, Mapping):
        return []
    name = str(value.get("name", name))
    if any(key in value for key in ("args", "command")):
        return [(name, value)]
    return [
        found
        for key, each in value.items()
        if isinstance(each, (dict, list)) and not (isinstance(each, list) and _is_plain(each))
        for found in _containers(each, str(key))
    ]


def _is_plain(value: list[Any]) -> bool:
    return not any(isinstance(each, (dict, list)) for each in value)


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [word for words in simple_commands(value) for word in words]
    return [str(each) for each in value] if isinstance(value, list) else []


def _variables(value: Any) -> dict[str, str]:
    """``env`` of a pod (names and values), ``environment`` of Compose (lines, or a mapping)."""
    if isinstance(value, Mapping):
        return {str(name): str(each) for name, each in value.items()}
    found: dict[str, str] = {}
    for each in value if isinstance(value, list) else []:
        if isinstance(each, Mapping) and "value" in each:
            found[str(each.get("name"))] = str(each["value"])
        elif isinstance(each, str) and "=" in each:
            name, _, text = each.partition("=")
            found[name] = text
    return found
