"""Secrets of others, hidden in whatever is shown: by the flag or variable that holds them.

The command that is started keeps them; everything else sees ``…`` in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

HIDDEN = "…"
SHORTEST = 4
"""Characters of a value that is looked for wherever it may turn up; a shorter one is no secret."""

COMMANDS_READ: ContextVar[tuple[tuple[str, ...], ...]] = ContextVar("commands", default=())
"""Words of the command lines being read: no message repeats a secret among them."""
MOST_KNOWN = 200
"""Of a command's secrets that are looked for elsewhere; where they stand all are hidden."""

_SECRET = re.compile(
    r"key|token|secret|passw|pwd|passphrase|credential|creds|auth|bearer|cookie|jwt|signature"
    r"|pass(?![a-z])|(?<![a-z])(?:pat|sig)(?![a-z])",
    re.IGNORECASE,
)
_BENIGN = re.compile(
    # counts and kinds of tokens, files that hold a key, words that only look alike
    r"tokeniz\w*|(?:max|min|num|batched|scheduled|prompt|output|input|total|prefill|per|as|image|spec)"
    r"(?:[-_]\w+?)*[-_]tokens?(?![a-z])|tokens?[-_](?:ids?|threshold|parallel|budget|details|count|only"
    r"|as)"
    r"|keyfile|keys?[-_](?:value|size|head|dim)|author(?!iz)|key(?:board|word)"
    r"|allow[-_]credentials",
    re.IGNORECASE,
)
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_SHORTENED = ("--api-key", "--hf-token")
"""vLLM's own, which argparse also knows by their beginnings."""
_WHOLE = "(?:\"[^\"]*\"|'[^']*'|[^\\s\"',;&}\\])]+)"
_ASSIGNED = re.compile(rf"(?<![\w.-])((?:--?)?[A-Za-z_][\w.-]*)=({_WHOLE})")
_JSON = re.compile(r"""(["'])([\w.-]+)\1(\s*:\s*)(["'])(.*?)\4""")
_HEADER = re.compile(
    r"(?<![\w-])((?:x-[\w-]+|(?:proxy-)?authorization|(?:set-)?cookie|api-?key)\s*:\s*)"
    r"((?:bearer|basic|token|digest)\s+)?[^\s\"']+",
    re.IGNORECASE,
)
_URL = re.compile(r"(?<=://)[^\s/?#\"'<>]+@")
_SHAPES = re.compile(
    r"(?i:(?<=\bbearer\s))[^\s\"',;]+|\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}"
    r"|github_pat_\w{16,}|AKIA[0-9A-Z]{12,}|xox[a-z]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w.-]{6,})"
)
_MAYBE = re.compile(r"://|[=:]|hf_|sk-|gh._|github_pat_|AKIA|xox|eyJ|earer", re.IGNORECASE)


@contextmanager
def hiding(words: Sequence[str]) -> Iterator[None]:
    """Meanwhile messages hide the secrets that stand among a command's words."""
    before = COMMANDS_READ.set((*COMMANDS_READ.get(), tuple(words)))
    try:
        yield
    finally:
        COMMANDS_READ.reset(before)


def hide_too(content: object) -> None:
    """From here on messages hide the secrets of a file that the command being read names.

    Args:
        content: What the file holds: mappings, lists and plain values.
    """
    before = COMMANDS_READ.get()
    if not before:
        return
    words = []
    for text, hidden in _texts(content):
        words += ["--api-key", text] if hidden else [text]
    COMMANDS_READ.set((*before, tuple(words)))


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a flag or variable of this name holds a secret."""
    if name.startswith("--") and any(_begins(name, flag) for flag in _SHORTENED):
        return True
    return _SECRET.search(_BENIGN.sub("", name.lstrip("-"))) is not None


def _begins(name: str, flag: str) -> bool:
    return flag.startswith(name.replace("_", "-")) and len(name) >= len("--hf-t")


def masked_text(text: str) -> str:
    """Free text, what is plainly a secret in it hidden, and those of the commands being read."""
    for words in COMMANDS_READ.get():
        text = _hidden(_known(words), text)
    return without_secrets(text)


def _hidden(values: tuple[str, ...], text: str) -> str:
    """``text`` without these, in upper or lower case too: some values are shown in one."""
    return _any_of(values).sub(HIDDEN, text) if values else text


@lru_cache(maxsize=16)
def _any_of(values: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, values)), re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Free text, what is plainly a secret by itself hidden."""
    if _MAYBE.search(text) is None:
        return text
    text = _URL.sub(f"{HIDDEN}@", text)
    text = _HEADER.sub(lambda found: f"{found[1]}{found[2] or ''}{HIDDEN}", text)
    text = _JSON.sub(_json, text)
    text = _ASSIGNED.sub(_assigned, text)
    return _SHAPES.sub(HIDDEN, text)


def _json(found: re.Match[str]) -> str:
    quote, name, colon, inner, _ = found.groups()
    if not is_secret(name):
        return found[0]
    return f"{quote}{name}{quote}{colon}{inner}{HIDDEN}{inner}"


def _assigned(found: re.Match[str]) -> str:
    return f"{found[1]}={HIDDEN}" if is_secret(found[1]) else found[0]


def masked_words(words: Sequence[str]) -> list[str]:
    """A command's words with the secrets in them hidden, wherever in it these turn up."""
    known = _known(tuple(words))
    return [_hidden(known, masked) for masked, _ in _looked_at(words)]


@lru_cache(maxsize=16)
def _known(words: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets of a command's words, the longest first."""
    found = {value for _, values in _looked_at(words) for value in values}
    long = (each for each in found if len(each) >= SHORTEST)
    return tuple(sorted(long, key=lambda each: (-len(each), each))[:MOST_KNOWN])


def _looked_at(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each word as it may be shown, and the secrets in it."""
    is_value = False
    for word in words:
        name, equals, value = word.partition("=")
        if _FLAG.fullmatch(name) and not (is_value and equals):
            attached = name.startswith("-e") and not name.startswith("--") and len(name) > 2
            is_hidden = is_secret(name[2:] if attached else name)
            # --api-key takes several
            is_value = is_hidden and (not equals or _begins(name, "--api-key"))
            if is_hidden and equals:
                yield f"{name}={HIDDEN}", [value]
            elif equals:
                ((masked, found),) = _looked_at([value])
                yield f"{name}={masked}", found
            else:
                yield word, []
        elif is_value and not _is_program(word):
            yield (HIDDEN if word else word), [word]
        elif is_secret(name) and _NAME.fullmatch(name) and equals and not _COMMAND.search(value):
            yield f"{name}={HIDDEN}", [value]
        else:
            is_value = False
            yield _inside(word)


_SHELL_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s;|&"'])+""")
_LONGEST_JSON = 1 << 16
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_COMMAND = re.compile(r"\s(?:--|-e|\S*\b(?:vllm|python[\d.]*)\s)")


def _is_program(word: str) -> bool:
    """Where a command begins behind a flag that may have taken one value."""
    return re.fullmatch(r"(?:.*/)?(?:vllm|python[\d.]*|serve)", word) is not None


def _inside(word: str) -> tuple[str, list[str]]:
    """A word that is a command, JSON, a header or an address of its own."""
    masked, found = word, [match[0] for match in _SHAPES.finditer(word)]
    found += [match[0].rstrip("@") for match in _URL.finditer(word)]
    found += [match[5] for match in _JSON.finditer(word) if is_secret(match[2])]
    nested = list(_in_json(word))
    found += nested
    found += [match[2].strip("\"'") for match in _ASSIGNED.finditer(word) if is_secret(match[1])]
    found += [match[0][len(match[1]) :].split()[-1] for match in _HEADER.finditer(word)]
    inner = list(_SHELL_WORD.finditer(word)) if _COMMAND.search(word) else []
    if len(inner) > 1:
        masked, at = "", 0
        for part, (shown, values) in zip(inner, _looked_at([i[0] for i in inner]), strict=True):
            masked += word[at : part.start()] + (shown if values else part[0])
            found += [value.strip("\"'") for value in values]
            at = part.end()
        masked += word[at:]
    for value in nested:
        for ascii_only in (True, False):
            masked = masked.replace(json.dumps(value, ensure_ascii=ascii_only)[1:-1], HIDDEN)
    return without_secrets(masked), found


def _in_json(word: str) -> Iterator[str]:
    """Texts below a key that names a secret, however deep, of a word that is JSON."""
    if word[:1] not in ("{", "[") or len(word) > _LONGEST_JSON:
        return
    try:
        found = json.loads(word)
    except (ValueError, RecursionError):
        return
    yield from (value for value, hidden in _texts(found) if hidden)


def _texts(content: object) -> Iterator[tuple[str, bool]]:
    """Texts and numbers in what a file or a word holds, and whether a key names them a secret."""
    left: list[tuple[object, bool]] = [(content, False)]
    while left:
        value, hidden = left.pop()
        if isinstance(value, dict):
            left += [(each, hidden or is_secret(str(name))) for name, each in value.items()]
        elif isinstance(value, (list, tuple, set)):
            left += [(each, hidden) for each in value]
        elif value is not None and not isinstance(value, bool) and value != "":
            yield str(value), hidden
