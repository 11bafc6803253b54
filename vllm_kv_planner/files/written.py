"""Files that are written: whole or not at all, never over another file that is named.

Used by everything that writes; a sweep appends rows, and opens its file in ``capacity/sweep``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from ..errors import InputError, printable

OF_MODELS = (".json", ".safetensors", ".bin", ".gguf", ".model", ".txt", ".jinja", ".py")
"""Ends of the names of files that a model's folder is read for."""


def shown_path(path: str) -> str:
    """A file's name for a message."""
    return printable(path if len(path) <= 200 else path[:200] + "…") or "''"


def path_of(value: object, name: str) -> str:
    """A file's name, given as text or as a ``Path``.

    Raises:
        InputError: It is neither.
    """
    if isinstance(value, (str, os.PathLike)):
        return os.fsdecode(value)
    from .json_file import shown

    raise InputError(f"{name}: {shown(value)} is no file name")


def cannot_write(path: str, error: OSError) -> InputError:
    """The refusal that names the file."""
    return InputError(f"{shown_path(path)}: cannot be written ({error.strerror or error})")


def check_writable(path: str) -> None:
    """Refuse a file that cannot be written before anything runs.

    Raises:
        InputError: It is a folder, a pipe or a device, or its folder cannot be written to.
    """
    shown = shown_path(path)
    try:
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        if not path or os.path.basename(path) in ("", ".", ".."):
            raise InputError(f"{shown!r} is no file to write to")
        if os.path.lexists(real) and not stat.S_ISREG(os.stat(real).st_mode):
            raise InputError(f"{shown} is not a regular file: no file to write to")
    except InputError:
        raise
    except ValueError:  # a NUL byte in the name, or half a surrogate pair
        raise InputError(f"{shown}: not a usable file name") from None
    except OSError as error:
        raise cannot_write(path, error) from None
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{shown}: its folder is not there, or cannot be written to")


@contextmanager
def whole_file(path: str, *, binary: bool = False) -> Iterator[IO[Any]]:
    """A file to write into that takes the place of ``path`` once all is on the disk.

    It is made beside ``path`` under a name that nobody else has; whatever goes wrong, ``path`` is
    as it was. Text is UTF-8, its line ends as written.

    Raises:
        InputError: It cannot be written; names ``path``.
    """
    check_writable(path)
    real = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(real), f".{os.urandom(8).hex()}.part")
    try:
        descriptor = os.open(beside, _NEW, 0o666)
        try:
            with (
                open(descriptor, "wb")
                if binary
                else open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")
            ) as file:
                with suppress(FileNotFoundError):
                    os.chmod(beside, stat.S_IMODE(os.stat(real).st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, real)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
    except OSError as error:
        raise cannot_write(path, error) from None


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def check_apart(outputs: Mapping[str, str | None], inputs: Iterable[Any]) -> None:
    """Refuse files to write that are each other, or one that is read.

    Links, relative names and names that differ in case alone do not tell two files apart.

    Args:
        outputs: What is written, by the flag that names it; None where it is not asked for.
        inputs: Whatever may name a file or folder to read; texts inside lists and dictionaries
            count, and what names none is passed over.

    Raises:
        InputError: Names the two.
    """
    known: list[tuple[str, str]] = []
    for flag, path in outputs.items():
        if path is None:
            continue
        for other, earlier in known:
            if _same(path, earlier):
                raise InputError(f"{flag} {shown_path(path)}: the same file as {other}'s")
        known.append((flag, path))
    for name in dict.fromkeys(texts_in(inputs)):
        for flag, path in known:
            if _reads(name, path):
                raise InputError(
                    f"{flag} {shown_path(path)}: also read ({shown_path(name)}); write elsewhere"
                )


def texts_in(value: Any, depth: int = 8) -> Iterator[str]:
    """Every text in lists, tuples and dictionaries, to a depth."""
    if isinstance(value, str):
        yield value
        yield from re.split("[=,@]", value)
    elif isinstance(value, os.PathLike):
        yield os.fsdecode(value)
    elif depth and isinstance(value, Mapping):
        yield from texts_in(list(value.values()), depth - 1)
    elif depth and isinstance(value, Iterable) and not isinstance(value, bytes):
        for each in value:
            yield from texts_in(each, depth - 1)


def _same(one: str, other: str) -> bool:
    with suppress(OSError, ValueError):
        if os.path.exists(one) and os.path.exists(other):
            return os.path.samefile(one, other)
    return _folded(one) == _folded(other)


def _folded(path: str) -> str:
    """The name as file systems may fold it that ignore case and ways to write an accent."""
    from unicodedata import normalize

    with suppress(OSError, ValueError):
        path = os.path.realpath(path)
    return normalize("NFC", os.path.normcase(path)).casefold()


def _reads(name: str, path: str) -> bool:
    """Whether reading ``name`` reads the file at ``path``: it, or what lies in that folder."""
    with suppress(OSError, ValueError):
        if name and os.path.exists(name) and os.path.exists(path):
            folder = os.path.dirname(os.path.realpath(path))
            return os.path.samefile(name, path) or (
                path.lower().endswith(OF_MODELS)
                and os.path.isdir(name)
                and os.path.samefile(name, folder)
            )
    return False


@contextmanager
def locked(path: str, *, seconds: float = 60.0) -> Iterator[None]:
    """Nobody else who asks for the same lock runs meanwhile, in any process of this machine.

    The lock is on ``PATH.lock``, which stays; it ends with the process, however that ends.

    Raises:
        InputError: Somebody holds it for longer than ``seconds``, or the file cannot be made.
    """
    import time

    name = f"{os.path.realpath(path)}.lock"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise cannot_write(name, error) from None
    try:
        end = time.monotonic() + seconds
        while not try_lock(descriptor):
            if time.monotonic() > end:
                raise InputError(f"{shown_path(path)}: another process is writing to it")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False where somebody else has.

    True, without a lock, where the system or the file system has none.
    """
    try:
        import fcntl
    except ImportError:
        return _try_lock_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _try_lock_on_windows(descriptor: int) -> bool:
    """As Windows locks: one byte, far behind what a file holds, so that all of it can be read."""
    try:
        from importlib import import_module

        msvcrt: Any = import_module("msvcrt")
    except ImportError:
        return True
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, 0x7FFFFFF0, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        os.lseek(descriptor, at, os.SEEK_SET)
    return True
