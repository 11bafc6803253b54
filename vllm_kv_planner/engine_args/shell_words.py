"""A pasted text or a line's words as simple commands, the way a POSIX shell would see them.

Texts may also be the lists of a manifest, ``args: ["--model", "gpt2"]`` or lines of ``- --model``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError

MOST_CHARACTERS = 100_000
HOLE = re.compile(
    r"\{\{.*?\}\}"  # Helm, Jinja
    r"|\$\(\(.*?\)\)|\$\([^()]*\)|`[^`]*`|\$\{[^{}]*\}"  # shells, Kubernetes
    r"|\$[A-Za-z_]\w*|\$[@*#0-9]"
    r"|(?<![^=\s\"'])<[A-Za-z][^<>\n]{0,80}>(?![^\s\"'])"  # <your-model>
)
"""What somebody else fills in."""

_PROMPT = re.compile(r"\A\s*(?:[$#>]|[\w.-]+@[\w.-]+:\S*[$#])\s+")
_CONTINUED = re.compile(r"[\\^`][ \t]*\r?\n")
_COMMENT = re.compile(r"(?m)^[ \t]*#.*$|[ \t]#[^'\"\n]*$")
_DESCRIPTOR = re.compile(r"(?<=\s)[0-9](?=>)")
_FLAG_BELOW = re.compile(r"\r?\n(?=[ \t]*-)")
_BLANK = re.compile(r"\s+")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\\$", re.DOTALL)
"""What a shell takes together; in single quotes, and escaped, a dollar is a dollar."""
_AS_IT_IS = str.maketrans("$`", "\ue002\ue003")
_KEPT = re.compile("\ue000(\\d+)\ue001")
# Where the shell would end the command or send its output elsewhere.
_SHELL_END = re.compile(r"(&&?|\|\|?|;|\d?>{1,2}.*|&>.*|\d>&\d|<[<&]?.*)")
_LIST = re.compile(
    r"\s*(\[|\{\s*[\"\w]|-\s|(- )?(name|args|command|image|entrypoint|env|environment)\s*:(\s|$)"
    r"|(apiVersion|kind|services|spec|containers|version)\s*:(\s|$))"
)


_DOCKERFILE = re.compile(r"(?m)^[ \t]*(FROM|ENTRYPOINT|CMD|ENV)[ \t]+(.+)$")


def split_command(command: str | Sequence[str]) -> list[str]:
    """One command's words; a text is split at blanks, whatever else a shell would see in it.

    Raises:
        InputError: A quotation is not closed, or the text is too long.
    """
    if not isinstance(command, str):
        words = [word for word in command if not word or word.strip("\\ \t\r\n")]
        if len(words) != 1:
            return words
        command = words[0]  # the whole command in one pair of quotes
    # a hole is one word, whatever blanks it holds
    text = HOLE.sub(lambda match: _BLANK.sub("", match[0]), _prepared(command))
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"the command cannot be read: {str(error).lower()}") from None


def simple_commands(command: str | Sequence[str]) -> list[list[str]]:
    """The commands of a text, or of words that a shell has split, in their order.

    Raises:
        InputError: A quotation is not closed, or the text is too long.
    """
    if not isinstance(command, str):
        words = [word for word in command if not word or word.strip("\\ \t\r\n")]
        if len(words) != 1:
            return _until_ends(words)
        command = words[0]
    holes: list[str] = []

    def kept(match: re.Match[str]) -> str:
        holes.append(match[0])
        return f"\ue000{len(holes) - 1}\ue001"

    text = _QUOTED.sub(_quoted, _prepared(command))
    text = HOLE.sub(kept, text)
    text = _FLAG_BELOW.sub(" ", text)
    tokens = shlex.shlex(text, posix=True, punctuation_chars=";&|<>\n")
    tokens.whitespace, tokens.whitespace_split, tokens.commenters = " \t\r", True, ""
    commands: list[list[str]] = [[]]
    try:
        skip = False
        for token in tokens:
            if token and not token.strip(";&|\n"):
                commands.append([])
                skip = False
            elif token and not token.strip("<>&"):
                skip = True  # what follows names a file
            elif not skip:
                commands[-1].append(_KEPT.sub(lambda match: holes[int(match[1])], token))
            else:
                skip = False
    except ValueError as error:
        raise InputError(f"the command cannot be read: {str(error).lower()}") from None
    return [words for words in commands if words]


def literal(word: str) -> str:
    """A word as it is meant, with the signs that single quotes kept from the shell."""
    return word.replace("\ue002", "$").replace("\ue003", "`")


def _quoted(match: re.Match[str]) -> str:
    text = match[0]
    if text == "\\$":
        return "\ue002"
    return text if text.startswith('"') else text.translate(_AS_IT_IS)


def ends_at_shell(word: str) -> bool:
    """Whether a shell would end the command at this word, or send its output elsewhere."""
    return word.endswith(";") or (
        _SHELL_END.fullmatch(word) is not None and HOLE.fullmatch(word) is None
    )


def looks_like_list(text: str) -> bool:
    """Whether a text is a manifest's, and no shell's."""
    return _LIST.match(text) is not None


def read_dockerfile(text: str) -> dict[str, Any] | None:
    """What the lines of a Dockerfile start, as a Compose file writes it; None: it is none."""
    if re.match(r"\s*(FROM|ENTRYPOINT|CMD)\s", text) is None:
        return None
    keys = {"FROM": "image", "ENTRYPOINT": "entrypoint", "CMD": "command"}
    found: dict[str, Any] = {"command": "", "environment": []}
    for name, value in _DOCKERFILE.findall(_CONTINUED.sub(" ", text[:MOST_CHARACTERS])):
        if name == "ENV":
            found["environment"].append(value)
            continue
        try:
            found[keys[name]] = json.loads(value) if value.startswith("[") else value
        except (ValueError, RecursionError):
            raise InputError(f"the command cannot be read: {name} is not JSON") from None
    return found


def filled(word: str, variables: Mapping[str, str]) -> str:
    """A word with the variables that are known, or have a default, put in."""

    def value(match: re.Match[str]) -> str:
        text = match[0]
        inner = text.strip("${()} \t")
        name, dash, default = inner.partition("-")
        name = name.removesuffix(":")
        if not text.startswith("$") or text.startswith("$(("):
            return text
        if name in variables:
            return variables[name]
        return default if dash and text.startswith("${") and name.isidentifier() else text

    return HOLE.sub(value, word)


def _prepared(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the command is longer than {MOST_CHARACTERS} characters")
    text = _CONTINUED.sub(" ", _PROMPT.sub("", _COMMENT.sub("", text)))
    return _DESCRIPTOR.sub("", text)


def _until_ends(words: Sequence[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    skip = False
    for word in _glued(words):
        if skip:
            skip = False
        elif not ends_at_shell(word):
            commands[-1].append(word)
        elif not _SHELL_END.fullmatch(word):
            commands[-1].append(word.removesuffix(";"))
            commands.append([])
        elif "<" in word or ">" in word:
            skip = word.strip("0123456789&<>") == "" and "&1" not in word and "&2" not in word
        else:
            commands.append([])
    return [words for words in commands if words]


def _glued(words: Sequence[str]) -> list[str]:
    """``{{ .Values.model }}``, which a shell split in three, as one word."""
    found: list[str] = []
    for word in words:
        if found and found[-1].count("{{") > found[-1].count("}}"):
            found[-1] += word
        else:
            found.append(word)
    return found
