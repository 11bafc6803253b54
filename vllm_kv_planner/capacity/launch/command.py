"""The command to start: its words as they are, the assignments before it, the program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ...engine_args.serve_command import ends_at_shell, split_command
from ...engine_args.value_types import shown
from ...errors import InputError, printable
from ...masking import HIDDEN, masked_words
from ...records import dataclass, field

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_MOST_BYTES = 1 << 20

OTHER_ENVIRONMENT = ("docker", "podman", "nerdctl", "sudo", "ssh", "srun", "kubectl")
"""Programs that hand their own environment variables on to nobody, or not to vLLM."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What will be started.

    Attributes:
        words: The program and its arguments, untouched; they may hold secrets.
        variables: Assignments before it; so may they.
    """

    words: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def shares_environment(self) -> bool:
        """Whether vLLM will see the environment that the command is started in."""
        return os.path.basename(self.words[0]) not in OTHER_ENVIRONMENT

    def environment(self) -> dict[str, str]:
        """This process's variables and the command's own."""
        return {**os.environ, **self.variables}

    def program(self) -> str:
        """The program's file.

        Raises:
            InputError: There is none of that name.
        """
        name = self.words[0]
        path = shutil.which(name, path=self.environment().get("PATH"))
        if path is None:
            where = "no such program" if os.sep in name else "not a program on PATH"
            raise InputError(f"{name[:200]!r}: {where}")
        return path

    def __str__(self) -> str:
        """The command for people and shells: secrets hidden, what would steer a terminal escaped.

        Quoted only where a shell needs it, so that what is hidden or escaped can be seen.
        """
        assigned = [f"{name}={value}" for name, value in self.variables.items()]
        return " ".join(map(_quoted, masked_words([*assigned, *self.words])))


def _quoted(word: str) -> str:
    """The word as a shell would need it; of an assignment the value alone in quotes."""
    word = printable(word)
    assignment = _ASSIGNMENT.fullmatch(word)
    before, value = (f"{assignment[1]}=", assignment[2]) if assignment else ("", word)
    quoted = value if value == HIDDEN else shlex.quote(value)
    plain = shlex.quote(value.replace(HIDDEN, "")) == value.replace(HIDDEN, "")
    return before + (value if plain else quoted)


def read_command(given: str | Sequence[str]) -> Command:
    """The command as a shell would start it, from one text or from its words.

    Raises:
        InputError: There is no command, or it needs a shell (a pipe, a redirection, a ``&``).
    """
    if not isinstance(given, str | list | tuple) or any(type(word) is not str for word in given):
        raise InputError(f"command: {shown(given)} is neither a text nor a list of texts")
    words = [given] if isinstance(given, str) else list(given)
    if len(words) == 1:
        words = split_command(words[0])  # the whole command in one pair of quotes
    try:
        size = sum(len(os.fsencode(word)) for word in words)
    except UnicodeEncodeError:
        raise InputError("the command holds half a surrogate pair: no program takes it") from None
    if any("\0" in word for word in words) or size > _MOST_BYTES:
        raise InputError("the command holds a NUL character, or is longer than 1 MiB")
    variables: dict[str, str] = {}
    while words and (assignment := _ASSIGNMENT.fullmatch(words[0])) is not None:
        variables[assignment[1]] = assignment[2]
        del words[0]
    if not words:
        raise InputError("no command to start: launch -- vllm serve MODEL ...")
    for word in words:
        if ends_at_shell(word):
            raise InputError(
                f"{word[:40]!r} is for a shell, and launch starts none: leave it out, or put it "
                "behind launch's own line"
            )
    return Command(words=tuple(words), variables=variables)


@contextmanager
def environment_of(command: Command) -> Iterator[None]:
    """The command's assignments as this process's own: they may name a cache, GPUs, a token."""
    before = dict(os.environ)
    os.environ.update(command.variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
