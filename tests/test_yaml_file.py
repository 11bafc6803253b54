"""YAML from anyone: what it costs is bounded before anything is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.work import bytes_in, calls_in
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.files import yaml_file
from vllm_kv_planner.files.yaml_file import LARGEST, MOST_NODES, parse_yaml, read_yaml

QUARTER = LARGEST // 4  # of the limits: what is counted grows with them


def merges(count: int, width: int) -> str:
    """Each mapping merges the one before it ``width`` times."""
    lines = ["a0: &a0 {k: 1}"]
    for i in range(1, count):
        lines.append(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}], k{i}: 1}}")
    return "\n".join(lines) + "\n"


LARGE = {
    "list": "[" + "1," * (QUARTER // 2 - 2) + "]",
    "deep list": "[" * QUARTER,
    "deep mapping": "{a: " * (QUARTER // 4),
    "deep blocks": "- " * (QUARTER // 2),
    "keys": "".join(f"k{i}: 1\n" for i in range(22_000)),
    "documents": "---\n" * (QUARTER // 4),
    "aliases": "a: &a x\nb: [" + "*a," * 75_000 + "]",
    "sexagesimal": "a: 1" + ":1" * (QUARTER // 2 - 10),
    "digits": "a: " + "9" * 5000,
    "merge keys": merges(30, 9),
    "merges of merges of one": merges(3000, 1),
    "merges in a row": "a: &a {k: 1}\nb: {<<: [" + "*a," * 75_000 + "]}",
    "a circle": "a: &a {<<: *a}",
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_would_take_long_is_refused_early(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_file, "LARGEST", QUARTER)
    monkeypatch.setattr(yaml_file, "MOST_NODES", MOST_NODES // 4)
    path = tmp_path / "a.yaml"
    path.write_text(LARGE[kind])

    def refused() -> None:
        with pytest.raises(InputError, match=r"--file: .* is not YAML: ") as caught:
            read_yaml(str(path), "--file")
        assert "\n" not in str(caught.value)

    # 200 calls a node for scanning, parsing, composing; 20 a character of one long scalar.
    assert calls_in(refused) < 50 * MOST_NODES + 20 * QUARTER * (kind == "sexagesimal")
    assert bytes_in(refused) < 25_000_000


def test_merge_keys_copy_no_more_than_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest file of merges that passes: pairs copied are bounded by the nodes counted."""
    path = tmp_path / "a.yaml"
    path.write_text(merges(4, 9))
    flatten = yaml.constructor.SafeConstructor.flatten_mapping
    pairs = []

    def counting(self: object, node: object) -> None:
        flatten(self, node)
        pairs.append(len(node.value))  # type: ignore[attr-defined]

    monkeypatch.setattr(yaml.constructor.SafeConstructor, "flatten_mapping", counting)
    assert read_yaml(str(path), "--file") == {
        f"a{i}": {"k": 1, **{f"k{j}": 1 for j in range(1, i + 1)}} for i in range(4)
    }
    assert sum(pairs) < 5 * MOST_NODES


@pytest.mark.parametrize(
    "value",
    [
        "!!int abc",
        "!!float abc",
        "!!bool abc",
        "!!timestamp abc",
        "2001-99-99",
        "!!binary 'é'",
        "!!omap abc",
        "!!pairs [a: 1, b]",
        "!!set [1]",
        "!!seq abc",
        "!!map abc",
        "!!str [a]",
        "!!int ''",
        "!!python/name:os.system x",
        "!mine x",
        '"\\UFFFFFFFF"',
        "\x07",
        "{<<: 3}",
        "? [a]\n: b",
    ],
)
def test_values_that_cannot_be_made(value: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {value}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"--file: .* is not YAML: ") as caught:
        read_yaml(str(path), "--file")
    assert "\n" not in str(caught.value)


def test_files_and_texts_that_are_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: " + "é" * (LARGEST // 2), encoding="utf-8")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_yaml(str(path), "--file")
    with pytest.raises(InputError, match="the command: the list is larger than 1 MiB"):
        parse_yaml("#" * (LARGEST + 1), "the command", "the list")


def test_what_files_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {tp: 2}\nlist: [1, 2.5, x, null, true]\nset: {<<: *b, pp: 3}\n")
    assert read_yaml(str(path), "--file") == {
        "base": {"tp": 2},
        "list": [1, 2.5, "x", None, True],
        "set": {"tp": 2, "pp": 3},
    }
    path.write_text("")
    assert read_yaml(str(path), "--file") is None
