"""``gpus`` and ``models``: what is known by name, with how sure each entry is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import say
from .planner_flags import command_parser

if TYPE_CHECKING:
    from ..gpu.gpu import GPU

WIDTH = 80


def run_gpus(arguments: Sequence[str]) -> int:
    """Parse, look up, print; returns the exit code."""
    given = command_parser("gpus").parse_args(list(arguments))
    say(_rendered(_records(" ".join(given.word)), given.format))
    return 0


def run_models(arguments: Sequence[str]) -> int:
    """Parse, list; returns the exit code."""
    from ..config import presets
    from ..errors import UnknownNameError

    given = command_parser("models").parse_args(list(arguments))
    words = [word.lower() for word in given.words]
    names = [name for name in presets.known_names() if all(word in name.lower() for word in words)]
    if not names:
        from ..config.presets import nearest_models

        near = nearest_models("-".join(words))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(f"no bundled model has {' and '.join(words)} in its name{hint}")
    for name in names:
        preset = presets.find_preset(name)
        if preset is not None:
            architecture = preset.config["architectures"][0]
            say(f"{name:<56} {architecture:<40} {preset.certainty}")
    return 0


def _records(word: str) -> list[dict[str, Any]]:
    """The devices whose names have the word in them, else the one that it means.

    Raises:
        UnknownNameError: Nobody knows the word.
    """
    from ..gpu.catalogue import all_gpus, find_gpu, mig_profiles, other_names
    from ..gpu.gpu import fold

    folded, plain = fold(word), word.lower()

    def has(gpu: GPU) -> bool:
        names = (gpu.short_name, *other_names(gpu))
        said = " ".join((*names, gpu.kind, gpu.platform)).lower()
        return plain in said or bool(folded and any(folded in fold(name) for name in names))

    gpus = [gpu for gpu in all_gpus() if has(gpu)] or [find_gpu(word)]
    return [
        {
            "name": gpu.short_name,
            "device_name": gpu.name,
            "kind": gpu.kind,
            "platform": gpu.platform,
            "total_memory_bytes": gpu.total_memory_bytes,
            "total_memory_source": gpu.total_memory_source,
            "confirmed": not gpu.total_memory_is_estimated,
            "nvml_total_bytes": gpu.nvml_total_bytes,
            "compute_capability": ".".join(map(str, gpu.compute_capability or ())) or None,
            "num_sms": gpu.num_sms,
            "unified_memory": gpu.unified_memory,
            "coherent_memory": gpu.coherent_memory,
            "machine_gpus": gpu.machine_gpus,
            "mig_profiles": list(mig_profiles(gpu)),
            "other_names": list(other_names(gpu)),
            "notes": list(gpu.notes),
        }
        for gpu in gpus
    ]


def _rendered(records: list[dict[str, Any]], form: str) -> str:
    from ..report.document import Column, Document, Section, Table, table_of
    from ..report.render import to_csv, to_text, wants_colour

    if form == "json":
        import json

        return json.dumps(records, indent=2)
    if form == "csv":
        names = [name for name, value in records[0].items() if not isinstance(value, list)]
        rows = tuple(tuple(map(each.get, names)) for each in records)
        return to_csv(Table(columns=tuple(map(Column, names)), rows=rows))
    if len(records) == 1:
        return "\n".join(_details(records[0]))
    columns = (
        Column("name", "GPU", value=lambda each: each["name"]),
        Column("total", "memory", "gib", lambda each: each["total_memory_bytes"]),
        Column("capability", "cap.", value=lambda each: each["compute_capability"]),
        Column("source", "total by", value=_short_source),
        Column("names", "also called", value=_called),
    )
    document = Document(sections=(Section(body=(table_of(records, columns),)),))
    colour = wants_colour(sys.stdout)
    lines = to_text(document, colour=colour).splitlines()
    return "\n".join([lines[0], *(line[:WIDTH].rstrip(" ,") for line in lines[1:])])


def _short_source(record: dict[str, Any]) -> str:
    return "printed" if record["confirmed"] else record["total_memory_source"].partition(",")[0]


def _called(record: dict[str, Any]) -> str:
    own = record["name"].lower().replace("-", "")
    names = [name for name in record["other_names"][1:] if not own.startswith(name)]
    return ", ".join(names)


def _details(record: dict[str, Any]) -> list[str]:
    import textwrap

    shown = {
        "GPU": f"{record['name']} ({record['kind']})",
        "device name": record["device_name"],
        "memory": f"{record['total_memory_bytes'] / (1 << 30):,.2f} GiB: {_short_source(record)}"
        f" ({record['total_memory_source']})",
        "compute capability": record["compute_capability"] or "-",
        "SMs": str(record["num_sms"] or "-"),
        "MIG profiles": ", ".join(record["mig_profiles"]),
        "also called": ", ".join(record["other_names"][1:]),
        "note": "; ".join(record["notes"]),
    }
    lines = []
    for name, value in shown.items():
        if value:
            lines += textwrap.wrap(
                value, WIDTH, initial_indent=f"{name:<20}", subsequent_indent=" " * 20
            )
    return lines
