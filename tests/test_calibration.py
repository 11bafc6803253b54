"""``calibrate``: what real starts teach, kept in a file that later plans use and name."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.memory_engines import setup_of
from tests.start_logs import LLAMA, V019, V029, V066
from vllm_kv_planner.calibration.start_record import StartRecord
from vllm_kv_planner.calibration.store import load, merged, save
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.explain.learn import learn, without_table
from vllm_kv_planner.explain.predict import Given
from vllm_kv_planner.gpu.catalogue import custom_gpu, find_gpu
from vllm_kv_planner.logs.parse import clean_lines, parse_lines
from vllm_kv_planner.memory.budget import memory_budget
from vllm_kv_planner.memory.overheads import GraphRatio, known_overheads
from vllm_kv_planner.records import replace

GIB, MIB = 1 << 30, 1 << 20
PLAN = ["plan", LLAMA, "--gpu", "H100", "--max-model-len", "8192", "--format", "json"]
SLICED = (
    V019.replace("/79.19", "/39.59")
    .replace("75.23", "37.61")
    .replace("78.68", "39.08")
    .replace("58.1 GiB", "20.48 GiB")
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def record_of(text: str, gpu: str = "H100", where: str = "a.log") -> StartRecord:
    log = parse_lines(clean_lines(text), where=where)
    return learn(log, Given(gpu=find_gpu(gpu)), today="2026-11-21")


def output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(arguments) in (0, 1)
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_what_a_start_teaches() -> None:
    found = record_of(V019)
    assert (found.device, found.vllm_version, found.model) == ("H100-SXM-80GB", "0.19.0", LLAMA)
    assert found.weights_bytes == round(14.99 * GIB)
    assert found.outside_bytes == round(0.25 * GIB)
    assert found.total_bytes == round(79.19 * GIB)
    assert found.taken_at_start_bytes == round(79.19 * GIB) - round(78.68 * GIB)
    assert found.graph_estimate_bytes == round(0.75 * GIB)


def test_an_info_log_teaches_by_subtraction() -> None:
    lines = [line for line in V019.splitlines() if "DEBUG" not in line]
    found = record_of("\n".join(line for line in lines if "for weight" not in line))
    assert found.outside_bytes is not None
    assert abs(found.outside_bytes - 0.25 * GIB) <= found.outside_spread_bytes


def test_consumed_memory_is_less_weights_and_buffers() -> None:
    found = record_of(V029)
    # 32.9 consumed less 30.6 of weights, less what the runner keeps
    assert found.outside_bytes is not None and 0 < found.outside_bytes < 2.3 * GIB
    assert found.tensor_parallel_size == 2


def test_memory_of_others_is_no_record() -> None:
    assert record_of(V019.replace("78.68", "60.00")).taken_at_start_bytes is None
    assert record_of(SLICED).device == "H100-SXM-80GB@39.6GiB"


def test_records_change_the_budget_and_are_named(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    record = replace(
        record_of(V019),
        outside_bytes=900 * MIB,
        graph_estimate_bytes=400 * MIB,
        vllm_version="0.33.0",
    )
    save(path, (record,))
    calibration = load(path)
    setup = setup_of()
    plain = memory_budget(setup, 15 * GIB)
    taught = memory_budget(setup, 15 * GIB, overheads=calibration.overheads("0.33"))
    assert taught.non_torch_bytes == 900 * MIB
    assert taught.cuda_graph_bytes == pytest.approx(
        plain.cuda_graph_bytes * 400 * MIB / (record.graph_predicted_bytes or 1), rel=1e-6
    )
    assert "a.log" in taught.provenance["non_torch_bytes"]
    assert "a.log" in taught.provenance["cuda_graph_bytes"]
    assert taught.uncertainty_bytes < plain.uncertainty_bytes
    weights = calibration.weights(setup, "0.33")
    assert weights is not None and weights.size_bytes == round(14.99 * GIB)
    assert calibration.weights(setup_of(tensor_parallel_size=2), "0.33") is None
    assert calibration.weights(setup, "0.32") is None


def test_versions_and_devices_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    save(path, (replace(record_of(V019), outside_bytes=900 * MIB),))
    calibration = load(path)
    carried = memory_budget(setup_of(), 15 * GIB, overheads=calibration.overheads("0.33"))
    # carried over from 0.19: half as much again may be wrong
    assert carried.non_torch_bytes == 900 * MIB
    assert carried.ranks[0].outside.uncertainty_bytes >= 450 * MIB
    older = memory_budget(
        setup_of(), 15 * GIB, vllm_version="0.15", overheads=calibration.overheads("0.15")
    )
    assert older.non_torch_bytes != 900 * MIB
    other = memory_budget(setup_of(gpu="L4"), 15 * GIB, overheads=calibration.overheads("0.33"))
    assert other.non_torch_bytes != 900 * MIB


def test_several_starts_give_median_and_spread(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    first = replace(record_of(V019), vllm_version="0.33.0")
    sizes = (300, 400, 800)
    save(
        path,
        tuple(replace(first, outside_bytes=size * MIB, source=f"{size}.log") for size in sizes),
    )
    outside = (
        memory_budget(setup_of(), 15 * GIB, overheads=load(path).overheads("0.33")).ranks[0].outside
    )
    assert (outside.size_bytes, outside.uncertainty_bytes) == (400 * MIB, 400 * MIB)


@pytest.mark.parametrize(
    ("more", "starts", "used"), [(90, 1, False), (110, 1, True), (90, 4, True)]
)
def test_a_start_counts_where_it_says_more_than_chance(
    tmp_path: Path, more: int, starts: int, used: bool
) -> None:
    """Equal starts differ by 100 MiB; several that agree say more."""
    path = str(tmp_path / "c.json")
    bundled = memory_budget(setup_of(), 15 * GIB).non_torch_bytes
    seen = replace(record_of(V019), vllm_version="0.33.0", outside_bytes=bundled + more * MIB)
    save(path, tuple(replace(seen, source=f"{number}.log") for number in range(starts)))
    found = memory_budget(setup_of(), 15 * GIB, overheads=load(path).overheads("0.33"))
    assert found.non_torch_bytes == bundled + (more * MIB if used else 0)


def test_a_kept_table_is_the_models_not_the_devices() -> None:
    """What a cold start of 0.28 kept is planned for each model by itself."""
    rank = memory_budget(
        setup_of("Qwen/Qwen3-14B-AWQ", gpu="RTX 5090"), 9 * GIB, vllm_version="0.28"
    ).ranks[0]
    table = rank.outside.cold_bytes
    assert table > GIB
    cold, warm = 250 * MIB + table, 250 * MIB
    assert without_table(rank, cold) == without_table(rank, warm) == 250 * MIB


def test_a_log_read_again_replaces_its_record() -> None:
    one = record_of(V019)
    other = record_of(V019, where="b.log")
    again = replace(one, outside_bytes=5)
    assert merged((one, other), (again,)) == (other, again)


def test_the_total_of_this_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    save(path, (replace(record_of(V019), total_bytes=79 * GIB),))
    gpu = find_gpu("H100")
    assert load(path).device(gpu).total_memory_bytes == 79 * GIB
    save(path, (record_of(V019),))
    assert load(path).device(gpu) == gpu
    save(path, (replace(record_of(V019), total_bytes=40 * GIB),))
    assert load(path).device(gpu) == gpu


def test_plans_use_the_usual_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = output(PLAN, capsys)
    log = tmp_path / "first start.log"
    log.write_text(V019, encoding="utf-8")
    learned = output(["calibrate", str(log), "--gpu", "H100", "--format", "json"], capsys)
    assert Path(learned["file"]) == tmp_path / "config" / "vllm-kv-planner" / "calibration.json"
    after = output(PLAN, capsys)
    # 0.25 GiB outside PyTorch is what the bundled figure says: only the activation peak is news
    assert after["memory"]["non_torch_bytes"] == before["memory"]["non_torch_bytes"]
    assert load(learned["file"]).records[0].outside_bytes == round(0.25 * GIB)
    assert output([*PLAN, "--no-calibration"], capsys) == before
    # a text for people, and the start it came from as predicted
    assert main(["calibrate", str(log), "--gpu", "H100"]) == 0
    assert "outside PyTorch         0.2500 GiB" in capsys.readouterr().out
    assert len(load(learned["file"]).records) == 1


def test_nothing_is_written_where_one_log_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, kept = tmp_path / "a.log", tmp_path / "b.log", tmp_path / "c.json"
    good.write_text(V019, encoding="utf-8")
    bad.write_text(V066.replace(LLAMA, "nobody/nothing"), encoding="utf-8")
    where = ["--calibration", str(kept), "--gpu", "H100"]
    assert main(["calibrate", str(good), str(bad), *where]) == 2
    assert "b.log" in capsys.readouterr().err
    assert not kept.exists()


def test_files_nobody_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    log = tmp_path / "a.log"
    log.write_text(V019, encoding="utf-8")
    for text in (
        "[]",
        '{"schema_version": 2, "lessons": []}',
        '{"schema_version": 1, "lessons": {}}',
        "[" * 10000,
        "",
        "not JSON",
    ):
        path.write_text(text)
        with pytest.raises(PlannerError):
            load(str(path))
        assert main(["calibrate", str(log), "--gpu", "H100", "--calibration", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert path.read_text() == text


WRONG: tuple[Any, ...] = (
    {"extra": 1},
    {"weights_bytes": "1"},
    {"weights_bytes": 1 << 60},
    {"weights_bytes": -1},
    {"weights_bytes": 80 << 30},
    {"activation_bytes": -(5 << 30)},
    {"activation_bytes": 70 << 30},
    {"graph_estimate_bytes": -1},
    {"graph_estimate_bytes": 90 << 30},
    {"outside_bytes": -(2 << 30)},
    {"outside_spread_bytes": -1},
    {"outside_spread_bytes": None},
    {"tensor_parallel_size": 0},
    {"tensor_parallel_size": None},
    {"vllm_version": "new"},
    {"source": "a\nb"},
    {"source": "\x1b[31m"},
    {"activation_key": "a\tb"},
    {"device": True},
)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_bad_entry_is_left_out_and_told_and_calibrate_repairs(
    tmp_path: Path, wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path, log = tmp_path / "c.json", tmp_path / "b.log"
    save(str(path), (record_of(V019),))
    (good,) = json.loads(path.read_text())["lessons"]
    rows = [{**good, "source": "bad.log", **wrong}, good]
    path.write_text(json.dumps({"schema_version": 1, "lessons": rows}))
    calibration = load(str(path))
    assert [each.to_dict() for each in calibration.records] == [good]
    (note,) = calibration.notes
    assert "1 of its 2 records cannot be used (record 0: " in note
    plan = output([*PLAN, "--calibration", str(path)], capsys)
    assert plan["notes"].count(note) == 1
    assert plan["memory"]["weights_bytes"] < 20 * GIB
    log.write_text(V019, encoding="utf-8")
    words = ["calibrate", str(log), "--gpu", "H100", "--calibration", str(path)]
    assert output([*words, "--format", "json"], capsys)["notes"] == [note]
    repaired = load(str(path))
    assert [each.source for each in repaired.records] == ["a.log", "b.log"]
    assert repaired.notes == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([("took 14.99 GiB", "took -14.99 GiB")], "weights of -14.99"),
        ([("is 14.99 GiB for", "is -14.99 GiB for")], "weights of -14.99"),
        ([("took 14.99 GiB", "took 0.01 GiB")], "weights of 0.0100 GiB"),
        ([("took 14.99 GiB", "took 140.01 GiB")], "on a GPU of"),
        ([("took 14.99 GiB", "took 40.01 GiB")], "cannot be those of"),
        ([("1.89 GiB", "-1.89 GiB"), ("1.89GiB", "-1.89GiB")], "activation of -1.89"),
        ([("1.89 GiB", "90.1 GiB")], "activation of 90.10 GiB on a GPU"),
        ([("1.89 GiB", "20.1 GiB")], "do not add up"),
        ([("memory: 0.75", "memory: -0.75")], "CUDA graphs of -0.75"),
        ([("memory: 0.75", "memory: 99.75")], "CUDA graphs of 99.75 GiB on a GPU"),
        ([("58.1 GiB", "20.1 GiB")], "do not add up"),
        ([("58.1 GiB", "158.1 GiB")], "on a GPU of"),
        ([("75.23", "35.23")], "is not 0.95 of"),
        ([("78.68/", "178.68/")], "free memory"),
        ([("/79.19", "/-79.19")], "total of -79.19"),
        ([("/79.19", "/799999999.19")], "another device"),
        ([("took 14.99 GiB", "took 999999999999.9 GiB")], "on a GPU of"),
    ],
)
def test_impossible_figures_are_refused(
    change: list[tuple[str, str]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = V019
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    log, kept = tmp_path / "a.log", tmp_path / "c.json"
    log.write_text(text, encoding="utf-8")
    assert main(["calibrate", str(log), "--gpu", "H100", "--calibration", str(kept)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err, err
    assert not kept.exists()


def test_a_log_of_another_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, kept = tmp_path / "a.log", tmp_path / "c.json"
    log.write_text(V019, encoding="utf-8")
    assert main(["calibrate", str(log), "--gpu", "L4", "--calibration", str(kept)]) == 2
    err = capsys.readouterr().err
    assert "79.19 GiB" in err and "--gpu L4" in err and "another device" in err
    assert not kept.exists()


@pytest.mark.parametrize(
    ("named", "gpu", "fits"),
    [
        ("device_name=NVIDIA_A100-SXM4-80GB,dtype=fp8", "H100", False),
        ("NVIDIA H100 PCIe | 0 |", "H100", False),
        ("device_name=NVIDIA_H100_80GB_HBM3.json", "H100", True),
        ("device_name=NVIDIA_H100", "H100", True),
        ("NVIDIA Z9000 Ti is new", "H100", True),  # nobody knows it
    ],
)
def test_a_log_that_names_another_gpu_of_the_same_size(
    named: str, gpu: str, fits: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, store = tmp_path / "a.log", tmp_path / "records.json"
    log.write_text(f"{V019}\n(EngineCore pid=55) INFO config: {named}\n")
    code = main(["calibrate", str(log), "--gpu", gpu, "--calibration", str(store)])
    assert (code, store.exists()) == ((0, True) if fits else (2, False))
    assert fits or "--gpu names H100-SXM-80GB: it ran on another device" in capsys.readouterr().err
    assert main(["explain", str(log), "--gpu", gpu]) == 0
    assert fits != ("it ran on another device" in capsys.readouterr().out)


@pytest.mark.parametrize("name", ["a\tb.log", "a\u00a0b.log", "\x1b[31m.log", "x" * 240 + ".log"])
def test_names_that_would_spoil_the_store(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "m\u00a0del\t"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(find_config(LLAMA).config)))
    log, kept = tmp_path / name, str(tmp_path / "c.json")
    log.write_text(V019.replace(LLAMA, str(folder)), encoding="utf-8")
    words = ["--gpu", "H100", "--calibration", kept, "--format", "json"]
    output(["calibrate", str(log), "--model", str(folder), *words], capsys)
    assert load(kept).notes == () and len(load(kept).records) == 1
    flags = ["--max-model-len", "8192", "--vllm-version", "0.19", *words]
    plan = output(["plan", str(folder), *flags], capsys)
    assert plan["memory"]["provenance"]["weights_bytes"].startswith("calibrated")


def test_long_overrides_do_not_spoil_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, kept = tmp_path / "a.log", str(tmp_path / "c.json")
    long = {f"unknown_{i}": "x" * 90 for i in range(150)}
    log.write_text(
        V019.replace("'max_model_len'", f"'hf_overrides': {long!r}, 'max_model_len'"),
        encoding="utf-8",
    )
    words = ["--gpu", "H100", "--calibration", kept]
    output(["calibrate", str(log), *words, "--format", "json"], capsys)
    (record,) = load(kept).records
    assert load(kept).notes == () and len(record.weights_key) <= 1000


def test_the_store_is_bounded_and_can_always_be_read(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    long = replace(record_of(V019), weights_key="k" * 5000, activation_key="\u00e9" * 5000)
    many = tuple(replace(long, source=f"{i}" + "s" * 4000) for i in range(600))
    save(path, many)
    kept = load(path)
    assert kept.notes == () and kept.records[-1] == many[-1]
    assert 100 <= len(kept.records) <= 500
    assert Path(path).stat().st_size <= 10_000_000
    with pytest.raises(InputError):
        save(path, (replace(long, weights_bytes=-1),))
    assert load(path) == kept


def started(log: Path, kept: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "calibrate", str(log), "--gpu", "H100", "--calibration", str(kept)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


PROGRAM = [sys.executable, "-m", "vllm_kv_planner"]


def test_twenty_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "c.json"
    logs = [tmp_path / f"{number}.log" for number in range(20)]
    for log in logs:
        log.write_text(V019, encoding="utf-8")
    running = [started(log, kept) for log in logs]
    said = [each.communicate()[1] for each in running]
    assert [each.returncode for each in running] == [0] * 20, said
    assert sorted(each.source for each in load(str(kept)).records) == sorted(
        log.name for log in logs
    )


def test_killed_writers_damage_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "c.json"
    random = Random(4)
    learned = set()
    for number in range(16):
        log = tmp_path / f"{number}.log"
        log.write_text(V019, encoding="utf-8")
        process = started(log, kept)
        time.sleep(random.uniform(0.0, 0.9))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            learned.add(log.name)
        if kept.exists():
            found = load(str(kept))
            assert found.notes == () and learned <= {each.source for each in found.records}
    last = tmp_path / "last.log"  # no lock outlives who held it
    last.write_text(V019, encoding="utf-8")
    process = started(last, kept)
    process.communicate()
    assert process.returncode == 0
    assert learned | {"last.log"} <= {each.source for each in load(str(kept)).records}


def test_what_is_read_is_not_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "a.log"
    log.write_text(V019, encoding="utf-8")
    assert main(["calibrate", str(log), "--gpu", "H100", "--calibration", str(log)]) == 2
    assert "also read" in capsys.readouterr().err
    assert log.read_text(encoding="utf-8") == V019


def test_a_file_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    save(str(path), (record_of(V019),))
    link = tmp_path / "link.json"
    link.symlink_to(path)
    save(str(link), ())
    assert link.is_symlink() and load(str(path)).records == ()
    with pytest.raises(InputError, match="cannot be written"):
        save(str(path / "below.json"), ())
    assert [each.name for each in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize(
    ("flags", "fits", "largest"),
    [
        (["--free-memory", "78GiB"], True, None),
        (["--free-memory", "40GiB"], False, 0.5),
        (["--other-processes", "20GiB"], False, 0.74),
        (["--other-processes", "20GiB", "--gpu-memory-utilization", "0.6"], True, None),
    ],
)
def test_a_shared_gpu(
    flags: list[str], fits: bool, largest: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = output([*PLAN, *flags], capsys)
    assert plan["fits"] is fits
    if largest is None:
        assert plan["changes"] == []
        return
    assert "free memory at start" in plan["limits"][0]
    (change,) = plan["changes"]
    assert change["flag"] == "gpu_memory_utilization" and 0 < change["value"] <= largest
    # planned again with it: it fits
    assert output([*PLAN, *flags, "--gpu-memory-utilization", str(change["value"])], capsys)["fits"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--free-memory", "many"],
        ["--other-processes", "-1"],
        ["--free-memory", "1GiB", "--other-processes", "1GiB"],
        ["--calibration", "x.json", "--no-calibration"],
    ],
)
def test_wrong_flags(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and flags[0] in err


def test_a_total_that_the_user_gave_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "c.json")
    save(path, (replace(record_of(V019), total_bytes=79 * GIB),))
    plan = output([*PLAN, "--calibration", path], capsys)
    assert plan["gpu"]["total_memory_bytes"] == 79 * GIB
    plan = output([*PLAN, "--calibration", path, "--gpu-memory", "80GiB"], capsys)
    assert plan["gpu"]["total_memory_bytes"] == 80 * GIB


def test_the_activation_of_the_same_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    flags: dict[str, Any] = {"enable_prefix_caching": False, "gpu_memory_utilization": 0.95}
    save(path, (replace(record_of(V019), activation_bytes=3 * GIB),))
    known = load(path).overheads("0.19")
    seen = memory_budget(setup_of(**flags), 15 * GIB, vllm_version="0.19.0", overheads=known)
    assert seen.activation_peak_bytes == 3 * GIB
    assert "a.log" in seen.provenance["activation_peak_bytes"]
    for other in ({"max_num_seqs": 8}, {"enforce_eager": True}, {"tensor_parallel_size": 2}):
        setup = setup_of(**{**flags, **other})
        budget = memory_budget(setup, 15 * GIB, vllm_version="0.19.0", overheads=known)
        assert budget.activation_peak_bytes < 3 * GIB


def test_a_slice_learns_for_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    save(path, (replace(record_of(SLICED), outside_bytes=900 * MIB),))
    known = load(path).overheads("0.19")
    whole = memory_budget(setup_of(), 15 * GIB, vllm_version="0.19.0", overheads=known)
    assert whole.non_torch_bytes != 900 * MIB
    gpu = custom_gpu(round(39.59 * GIB), like=find_gpu("H100"))
    setup = replace(setup_of(), gpu=gpu)
    part = memory_budget(setup, 15 * GIB, vllm_version="0.19.0", overheads=known)
    assert part.non_torch_bytes == 900 * MIB


def test_a_ratio_of_graphs_serves_the_same_model_with_another_backend() -> None:
    """RTX PRO 4500, Qwen3-8B-FP8: 0.55 for 0.69 GiB with Triton, 0.81 for 0.95 with FlashInfer."""

    def ratio(backend: str, model: str, value: float) -> GraphRatio:
        return GraphRatio(device="A", backend=backend, model=model, ratio=value, source="a log")

    costs = replace(
        known_overheads().graphs, ratios=(ratio("TRITON", "m", 0.8), ratio("FLASH", "n", 2.0))
    )
    found = {
        (backend, model): costs.ratio("A", backend, model)
        for backend in ("TRITON", "FLASH", "FLASHINFER")
        for model in ("m", "n", "other")
    }
    values = {key: None if each is None else each.ratio for key, each in found.items()}
    assert values["TRITON", "m"] == values["TRITON", "n"] == values["TRITON", "other"] == 0.8
    assert values["FLASHINFER", "m"] == 0.8 and values["FLASHINFER", "n"] == 2.0
    assert values["FLASHINFER", "other"] is None and costs.ratio("B", "TRITON", "m") is None
