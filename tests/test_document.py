"""One document in every format, from one put in by hand."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import vllm_kv_planner
from vllm_kv_planner.planning.document import Plans
from vllm_kv_planner.records import dataclass
from vllm_kv_planner.report import Answer
from vllm_kv_planner.report.document import (
    Chart,
    Code,
    Column,
    Document,
    Figures,
    Lines,
    Section,
    Table,
    flat_table,
    lines_of,
    noted,
    table_of,
)
from vllm_kv_planner.report.render import to_csv, to_html, to_markdown, to_text

STEERS = "a\x1b[31m|<b>"
COLUMNS = (
    Column("gpu", "GPU", value=lambda each: each["gpu"]),
    Column("free_bytes", "free", "gib", lambda each: each["free"]),
)
TABLE = table_of([{"gpu": STEERS, "free": 3 << 29}, {"gpu": "L4", "free": None}], COLUMNS)
EVERYTHING = Document(
    title="All of it",
    sections=(
        Section("Sizes", (TABLE,)),
        Section("Engine", (Figures((("seqs", "256", "at once, at most"), ("  none", "-", ""))),)),
        Section("fits", (Lines(tuple(noted(("one",)))),), "green"),
        Section("nearest: L4", (Code(("vllm serve gpt2",)),), ""),
        Section(body=(Chart(("100 % │▁█",)),)),
        lines_of(()),
        lines_of(["  indented"]),
    ),
)


def test_text() -> None:
    assert to_text(EVERYTHING, unicode=True).splitlines() == [
        "Sizes",
        "GPU                free",
        "a\\x1b[31m|<b>  1.50 GiB",
        "L4                    -",
        "",
        "Engine",
        "  seqs    256  at once, at most",
        "    none  -",
        "",
        "fits",
        "note: one",
        "",
        "nearest: L4",
        "vllm serve gpt2",
        "",
        "100 % │▁█",
        "",
        "  indented",
    ]


def test_colours_and_a_chart_in_ascii() -> None:
    text = to_text(EVERYTHING, colour=True)
    assert "\x1b[32mfits\x1b[0m\n" in text
    assert "\x1b[2mat once, at most\x1b[0m" in text
    assert "\nnearest: L4\n" in text
    assert "100 % |.#" in text


def test_markdown() -> None:
    assert to_markdown(EVERYTHING).split("\n\n") == [
        "# All of it",
        "## Sizes",
        "| GPU | free |\n| --- | ---: |\n| a\\x1b[31m\\|<b> | 1.50 GiB |\n| L4 | - |",
        "| Engine | value | meaning |\n| --- | ---: | --- |\n"
        "| seqs | 256 | at once, at most |\n| none | - |  |",
        "**fits**",
        "- note: one",
        "nearest: L4",
        "```sh\nvllm serve gpt2\n```",
        "- indented",
    ]


def test_html() -> None:
    page = to_html(EVERYTHING)
    assert "<tr><th>GPU</th><th>free</th></tr>" in page
    assert "<td>a\\x1b[31m|&lt;b&gt;</td><td>1.50 GiB</td>" in page
    assert "<p><b>fits</b></p><ul><li>note: one</li></ul>" in page
    assert "<p>nearest: L4</p><pre>vllm serve gpt2</pre>" in page


def test_csv_keeps_raw_values() -> None:
    assert to_csv(TABLE) == "gpu,free_bytes\na\\x1b[31m|<b>,1610612736\nL4,"
    nested: list[dict[str, Any]] = [{"a": {"b": 1, "c": [2]}, "d": None}, {"a": {"b": 3}, "d": "x"}]
    assert to_csv(flat_table(nested)) == "a.b,a.c,d\n1,[2],\n3,,x"


@dataclass(frozen=True)
class Sized(Answer):
    """An answer with more figures than people are shown."""

    table_shown: Table = TABLE

    def table(self) -> Table:
        """All of it."""
        return table_of([{"gpu": "L4", "free": 7}], COLUMNS)

    def document(self) -> Document:
        """Some of it."""
        return Document(sections=(Section("Sized", (self.table_shown,)),))


def test_an_answer_in_a_notebook_keeps_every_figure() -> None:
    assert str(Sized()).startswith("Sized\nGPU")
    page = Sized()._repr_html_()
    assert page.startswith("<p><b>Sized</b></p><table>")
    assert "<details><summary>every figure</summary>" in page and "0.000 GiB" in page


def test_several_plans_are_one_answer() -> None:
    plan = vllm_kv_planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
    both = Plans((plan, plan))
    assert str(both) == f"{Plans((plan,))}\n\n{Plans((plan,))}"
    assert len(both.table().rows) == 2
    assert both.to_json().startswith("[") and Plans((plan,)).to_json().startswith("{")


def test_what_shows_answers_knows_none_of_them() -> None:
    """Results import ``report``; were it to import one of them, both would go in a circle."""
    folder = Path(vllm_kv_planner.__file__).parent / "report"
    found = {
        node.module
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 2
    }
    assert found == {"errors", "records", "units"}
