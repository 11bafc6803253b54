"""What every answer can do: be a dictionary, a table, a picture in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..planning.types import as_plain

if TYPE_CHECKING:
    from ..report.table import Table

SCHEMA_VERSION = 1
"""Of ``to_dict()``: its keys are stable from here on."""


class Answer:
    """Base of the result objects; a subclass is a frozen record that says how its table looks."""

    def table(self) -> Table:
        """The answer as one table; text, CSV, Markdown, HTML and pandas are made from it."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists, ``schema_version`` first."""
        plain = as_plain(self)
        assert isinstance(plain, dict)
        return {"schema_version": SCHEMA_VERSION, **plain}

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
        from ..report.table import to_html

        return to_html(self.table())

    def __str__(self) -> str:
        from ..report.table import to_text

        return to_text(self.table())
