"""An answer, the document that it builds, and the renderers of a document.

Every other folder may import this one, and it imports none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records import as_plain
from .document import Document, Section, Table

SCHEMA_VERSION = 1
"""Of ``to_dict()``: its keys are stable from here on."""


class Answer:
    """Base of the result objects; a subclass is a frozen record with a table and a document."""

    def table(self) -> Table:
        """The answer as one table, every figure in it; CSV, HTML and pandas are made from it."""
        raise NotImplementedError

    def document(self) -> Document:
        """What people read; text, Markdown and HTML are made from it."""
        return Document(sections=(Section(body=(self.table(),)),))

    def documents(self) -> Sequence[Document]:
        """One for each thing that the answer is about."""
        return (self.document(),)

    def csv_table(self) -> Table:
        """What CSV holds."""
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists, ``schema_version`` first."""
        plain = as_plain(self)
        assert isinstance(plain, dict)
        return {"schema_version": SCHEMA_VERSION, **plain}

    def to_json(self) -> str:
        """``to_dict()`` as JSON, indented, without a final newline."""
        import json

        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_pandas(self) -> Any:
        """The table as a ``pandas.DataFrame``.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            from ..errors import InputError

            raise InputError("to_pandas() needs pandas: pip install pandas") from None
        table = self.table()
        return pandas.DataFrame(list(table.rows), columns=[each.name for each in table.columns])

    def _repr_html_(self) -> str:
        from .render import to_html

        parts = [to_html(each) for each in self.documents()]
        everything = to_html(Answer.document(self))
        if parts != [everything]:
            parts.append(f"<details><summary>every figure</summary>{everything}</details>")
        return "".join(parts)

    def __str__(self) -> str:
        from .render import to_text

        return "\n\n".join(map(to_text, self.documents()))
