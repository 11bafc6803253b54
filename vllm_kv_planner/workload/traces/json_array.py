"""One large JSON array read item by item: ShareGPT's file is one array of 600 MB."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from ...errors import InputError
from .lines import MOST_BYTES_OF_LINE, TraceInput

CHUNK = 1 << 16
_BETWEEN = re.compile(r"[ \t\r\n]*")


class _Text:
    """The decoded text that is not yet consumed, and the line it begins on."""

    def __init__(self, file: TraceInput) -> None:
        self.file = file
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def more(self, size: int = CHUNK) -> None:
        """Read on, and forget what is consumed."""
        self.line += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :], 0
        raw = self.file.read(size)
        self.ended = not raw
        try:
            self.text += self._decoder.decode(raw, self.ended)
        except UnicodeDecodeError:
            raise self.refusal("not UTF-8 text") from None

    def skip(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            match = _BETWEEN.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def here(self) -> int:
        """The line of the next character."""
        return self.line + self.text.count("\n", 0, self.at)

    def refusal(self, message: str) -> InputError:
        """What is wrong, and on which line."""
        return InputError(f"{self.file.where}, line {self.here():,}: {message}")


def array_items(file: TraceInput) -> Iterator[tuple[int, Any]]:
    """The items of the array, each with the line it begins on.

    Raises:
        InputError: It is no JSON, it ends early, or an item is too large.
    """
    text = _Text(file)
    if text.skip() != "[":
        raise text.refusal("no JSON array")
    text.at += 1
    if text.skip() == "]":
        return
    while True:
        text.skip()
        number = text.here()
        yield number, _item(text)
        separator = text.skip()
        if separator == "]":
            return
        if separator != ",":
            raise text.refusal("the JSON array ends early" if text.ended else "no comma nor ]")
        text.at += 1


def _item(text: _Text) -> Any:
    """The value that begins here, reading on until it is whole."""
    decoder = json.JSONDecoder()
    wanted = CHUNK
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
        except RecursionError:
            raise text.refusal("nested too deep") from None
        except json.JSONDecodeError as error:
            if text.ended and len(text.text) - text.at <= MOST_BYTES_OF_LINE:
                raise text.refusal(f"not valid JSON ({error.msg})") from None
        except ValueError:  # Python refuses integers of more than 4300 digits
            raise text.refusal("a number of thousands of digits") from None
        else:
            # a number at the very end may go on in the next chunk
            if end < len(text.text) or text.ended:
                text.at = end
                return value
        if len(text.text) - text.at > MOST_BYTES_OF_LINE:
            raise text.refusal("not valid JSON, or one item of more than 4 MiB")
        # twice as much at every try, so that a long item is not parsed too often
        goal = len(text.text) - text.at + wanted
        while len(text.text) - text.at < goal and not text.ended:
            text.more(CHUNK)
        wanted *= 2
