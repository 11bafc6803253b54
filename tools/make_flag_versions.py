"""Fill ``engine_args/flag_versions.json``: which vLLM has which flag of ``vllm serve``.

    python tools/make_flag_versions.py WHEEL_OR_FOLDER...

Each is a wheel of vLLM (or of its CPU build, whose parser is the same), or a folder named after the
version with the unpacked ``vllm`` in it. Nothing is imported: flags are the texts that
``EngineArgs.add_cli_args`` and ``make_arg_parser`` hand to ``add_argument``, and the fields of
``FrontendArgs``. Of 0.33 that is what its parser has (``tests/test_flag_tables_vllm.py``).
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "vllm_kv_planner/engine_args/flag_versions.json"
PARSERS = (
    "vllm/engine/arg_utils.py",
    "vllm/entrypoints/common/cli_args.py",
    "vllm/entrypoints/launchers/cli_args.py",
    "vllm/entrypoints/openai/cli_args.py",
    "vllm/entrypoints/cli/serve.py",
)
"""Where they stand, or stood."""
NOT_OURS = ("--config", "-O", "--disable-log-requests")
"""Read before the parser, or what turns another flag off today."""


def flags_in(sources: Iterable[str]) -> list[str]:
    """Every flag that these sources declare, in their order."""
    found: dict[str, None] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                words = [each.value for each in node.args if isinstance(each, ast.Constant)]
                found.update((word, None) for word in words if str(word).startswith("-"))
            elif isinstance(node, ast.ClassDef) and node.name in (
                "FrontendArgs",
                "BaseFrontendArgs",
            ):
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        found["--" + each.target.id.replace("_", "-")] = None
    return [name for name in found if name not in NOT_OURS]


def sources_of(path: Path) -> tuple[str, list[str]]:
    """The version of a wheel or folder, and its parsers' sources."""
    if path.is_dir():
        files = [path / name for name in PARSERS]
        return path.name, [each.read_text() for each in files if each.is_file()]
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist()) & set(PARSERS)
        texts = [wheel.read(name).decode() for name in PARSERS if name in names]
    return path.name.split("-")[1].partition(".post")[0], texts


def number(version: str) -> tuple[int, ...]:
    """A version as numbers, to compare."""
    return tuple(map(int, re.findall(r"\d+", version)))


def main() -> int:
    """Write the table."""
    has = {version: flags_in(texts) for version, texts in map(sources_of, map(Path, sys.argv[1:]))}
    versions = sorted(has, key=number)
    table: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for version in versions for name in has[version]):
        having = [version for version in versions if name in has[version]]
        first, last = having[0], having[-1]
        if (first, last) != (versions[0], versions[-1]):
            table[name] = [first, last]
    about = (
        "Flags of vllm serve that not every version read has, as tools/make_flag_versions.py found "
        "them: the first version that has it and the last. The first version of all has what came "
        "before it, too."
    )
    head = json.dumps({"about": about, "versions": versions}, indent=1)[:-2]
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    TABLE.write_text(f'{head},\n "flags": {{\n{rows}\n }}\n}}\n')
    print(f"{len(versions)} versions, {len(table)} flags")
    return 0


if __name__ == "__main__":
    sys.exit(main())
