"""Other settings while the line runs: no part waits, and each is held to what judged it."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import numpy as np
import pytest
import simulated_line
from running_line import while_running

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import CAPTURE_MODULE, FreePolicy, TriggerKind, package_command
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import Journal, audit_log

STRICT, LENIENT = -9000.0, 9000.0


class Versions:
    """Two versions of settings, each in a file that stays; both know a lenient recipe."""

    def __init__(self, folder: Path, package: Path) -> None:
        with Inspector.open(package, engine="onnxruntime-cpu") as inspector:
            self._of = (inspector.engine_name, inspector.engine_sha256)
            package_id = inspector.package_id
        store = SettingsStore(folder / "settings.json")
        self.files: dict[str, Path] = {}
        self.thresholds: dict[tuple[str, str | None], float] = {}
        for number, image in enumerate((STRICT, LENIENT), start=1):
            recipe = Recipe({"fp32": self._fitted(LENIENT - 1)})
            settings = DeviceSettings(
                package_id, {"fp32": self._fitted(image)}, recipes={"lenient": recipe}
            )
            store.save(lambda _, settings=settings: settings)  # type: ignore[misc]
            current = store.current()
            assert current is not None
            path = folder / f"settings-{number}.json"
            self.files[current.settings_id] = path
            self.thresholds[current.settings_id, None] = image
            self.thresholds[current.settings_id, "lenient"] = LENIENT - 1

    def _fitted(self, image: float) -> Fitted:
        return Fitted(Thresholds(image, 2.0), *self._of)


@pytest.fixture
def versions(tmp_path: Path, package_path: Path) -> Versions:
    folder = tmp_path / "settings"
    folder.mkdir()
    return Versions(folder, package_path)


@pytest.fixture
def line(
    tmp_path: Path, package_path: Path, part: Callable[..., ByteImage], versions: Versions
) -> Iterator[Callable[..., Authority]]:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(9):
        np.save(frames / f"{number}.npy", part(number, defect=number % 3 == 0))
    camera = WorkerCommand(
        "looping_camera:make", {"folder": str(frames), "period_ms": 10}, CAPTURE_MODULE
    )
    with Journal(tmp_path / "out") as journal:

        def make(
            parts: int | None = None, trigger: TriggerKind = TriggerKind.FREE, **more: Any
        ) -> Authority:
            options = simulated_line.options(
                trigger=trigger, policy=FreePolicy.EVERY, max_parts=parts
            )
            command = package_command(
                str(package_path),
                engine="onnxruntime-cpu",
                threads=1,
                settings=str(next(iter(versions.files.values()))),
            )
            return Authority({"loop": camera}, command, journal, options, **more)

        yield make


def ask(authority: Authority, settings: Path | None, recipe: str | None = None) -> str | None:
    """What came of a change, asked for in another thread than the line's."""
    future: Future[str | None] = Future()
    path = None if settings is None else str(settings)
    authority.use_settings(path, recipe, on_done=future.set_result)
    return future.result(30)


def test_under_load_each_record_is_of_the_settings_that_it_names(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    told: list[tuple[str, str | None]] = []
    authority = line(on_settings=lambda path, recipe: told.append((path, recipe)))
    random = Random(4)
    refusals: list[str | None] = []

    def work() -> None:
        for number in range(60):
            settings = random.choice([*versions.files.values(), None])
            refusals.append(ask(authority, settings, random.choice([None, "lenient"])))
            if number % 15 == 7:
                (worker,) = [each for each in authority.status().workers if each.name == "engine"]
                assert worker.pid is not None
                os.kill(worker.pid, random.choice([signal.SIGKILL, signal.SIGSTOP]))
            threading.Event().wait(random.uniform(0.0, 0.1))

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    verdicts = [each for each in lines if each["kind"] == "verdict"]
    assert [each["sequence"] for each in verdicts] == list(range(1, len(verdicts) + 1))
    judged = [each for each in verdicts if each["raw_score"] is not None]
    for record in judged:
        image = versions.thresholds[record["settings_id"], record["recipe"]]  # type: ignore[index]
        assert record["threshold"] == image
        expected = "fail" if record["raw_score"] >= image else "pass"  # type: ignore[operator]
        assert record["verdict"] == expected
    # All four were judged with, and a change that an engine took with it to its end was told.
    assert {(each["settings_id"], each["recipe"]) for each in judged} == set(versions.thresholds)
    assert refusals.count(None) > 40
    assert len(told) == refusals.count(None)
    assert audit_log(tmp_path / "out").is_whole


def test_each_part_is_judged_by_the_recipe_that_its_trigger_names(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    authority = line(trigger=TriggerKind.SOFTWARE)
    random = Random(5)
    asked: dict[int, str | None] = {}
    answers: dict[int, Answer] = {}

    def work() -> None:
        for number in range(1, 201):
            asked[number] = random.choice([None, "lenient"])
            authority.trigger(
                number,
                recipe=asked[number],
                on_answer=lambda answer, number=number: answers.update({number: answer}),  # type: ignore[misc]
            )
            if number % 40 == 20:  # other settings, and an engine that is killed, in the midst
                assert ask(authority, random.choice([*versions.files.values()])) is None
            if number == 100:
                (worker,) = [each for each in authority.status().workers if each.name == "engine"]
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)
            threading.Event().wait(random.uniform(0.0, 0.04))
        with pytest.raises(ConfigError, match="no recipe 'brass' in force; lenient can be named"):
            authority.trigger(201, recipe="brass")

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    verdicts = {each["trigger_id"]: each for each in lines if each["kind"] == "verdict"}
    parts = {number for number, answer in answers.items() if answer.sequence is not None}
    assert set(answers) == set(asked)
    assert set(verdicts) == parts  # a bounce, or a line that does not execute, makes none
    judged = [each for each in verdicts.values() if each["raw_score"] is not None]
    for record in verdicts.values():
        assert record["recipe"] == asked[record["trigger_id"]]  # type: ignore[index]
    for record in judged:
        image = versions.thresholds[record["settings_id"], record["recipe"]]  # type: ignore[index]
        assert record["threshold"] == image
        expected = "fail" if record["raw_score"] >= image else "pass"  # type: ignore[operator]
        assert record["verdict"] == expected
    assert {each["recipe"] for each in judged} == {None, "lenient"}
    assert len(judged) > 50
    assert audit_log(tmp_path / "out").is_whole


def test_a_part_in_flight_keeps_its_recipe_when_the_line_is_told_of_another(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    """The word for the next product comes at once behind the trigger of this one."""
    authority = line(trigger=TriggerKind.SOFTWARE)
    expected: dict[int, str | None] = {}

    def work() -> None:
        recipe: str | None = None
        for number in range(1, 61):
            expected[number] = recipe
            authority.trigger(number)
            recipe = None if recipe else "lenient"
            authority.use_settings(None, recipe, on_done=lambda refusal: None)
            threading.Event().wait(0.05)

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    verdicts = {each["trigger_id"]: each for each in lines if each["kind"] == "verdict"}
    assert len(verdicts) > 30  # a busy machine may be told of a few while it does not execute
    for number, record in verdicts.items():
        assert record["recipe"] == expected[number]  # type: ignore[index]
        if record["raw_score"] is not None:
            held = versions.thresholds[record["settings_id"], expected[number]]  # type: ignore[index]
            assert record["threshold"] == held
    judged = [each for each in verdicts.values() if each["raw_score"] is not None]
    assert {each["recipe"] for each in judged} == {None, "lenient"}


class Interleaved(deque[Any]):
    """Another thread gives a word just when the line has seen that there is none."""

    give: Callable[[], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.is_given = threading.Event()

    def __len__(self) -> int:
        count = super().__len__()
        give = self.give
        if give is not None and not count:
            self.give = None
            self.is_given.clear()
            threading.Thread(target=give).start()
            self.is_given.wait(0.3)  # it may have to wait until the line has done what follows
        return count


def test_a_word_that_comes_while_the_line_looks_for_one_is_not_forgotten(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    authority = line(trigger=TriggerKind.SOFTWARE)
    authority._changes = words = Interleaved()
    given = 0

    def work() -> None:
        nonlocal given
        told = threading.Event()

        def give() -> None:
            nonlocal given
            given += 1
            recipe = "lenient" if given % 2 else None
            authority.use_settings(None, recipe, on_done=lambda refusal: None)
            words.is_given.set()
            until_s = monotonic() + 0.05
            while authority._ledger.recipe == (recipe or "") and monotonic() < until_s:
                pass  # at the very moment at which it would be forgotten
            authority.trigger(given)
            told.set()

        for _ in range(10):
            told.clear()
            words.give = give
            assert told.wait(10)
            threading.Event().wait(0.2)

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    recipes = {each["trigger_id"]: each["recipe"] for each in lines if each["kind"] == "verdict"}
    assert recipes == {number: "lenient" if number % 2 else None for number in range(1, given + 1)}


def test_a_record_stands_behind_the_event_that_names_its_settings(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    authority = line()
    first, second = versions.files

    def work() -> None:
        assert ask(authority, versions.files[second]) is None
        threading.Event().wait(0.3)

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    (changed,) = [number for number, each in enumerate(lines) if each.get("event") == "settings"]
    assert lines[changed]["detail"] == {
        "settings_id": second,
        "recipe": None,
        "previous_settings_id": first,
        "previous_recipe": None,
    }
    of_second = [
        number for number, each in enumerate(lines)
        if each["kind"] == "verdict" and each["settings_id"] == second
    ]  # fmt: skip
    assert of_second
    assert of_second[0] > changed


@pytest.mark.parametrize(
    ("name", "recipe", "said"),
    [("missing.json", None, "missing.json"), (None, "unheard", "unheard")],
)
def test_what_is_refused_leaves_the_old_settings_in_force_and_is_an_event(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
    name: str | None,
    recipe: str | None,
    said: str,
) -> None:
    authority = line()

    def work() -> None:
        refusal = ask(authority, None if name is None else tmp_path / name, recipe)
        assert refusal is not None
        assert said in refusal
        threading.Event().wait(0.3)

    while_running(authority, work)
    lines = simulated_line.read_lines(tmp_path / "out")
    (event,) = [each for each in lines if each.get("event") == "settings"]
    assert said in event["detail"]["refused"]  # type: ignore[index]
    verdicts = [each for each in lines if each["kind"] == "verdict"]
    assert {each["settings_id"] for each in verdicts} == {next(iter(versions.files))}


def test_after_the_end_a_change_is_refused_at_once(
    nothing_is_left: None, line: Callable[..., Authority]
) -> None:
    authority = line(parts=1)
    authority.run()
    assert ask(authority, None, "lenient") == "the line ended"


def test_what_comes_after_two_changes_at_once_is_judged_by_the_second(
    tmp_path: Path,
    nothing_is_left: None,
    versions: Versions,
    line: Callable[..., Authority],
) -> None:
    authority = line()
    first, second = versions.files
    asked: list[str | None] = []
    reads, writes = os.pipe()

    def ask_both() -> None:
        os.read(reads, 1)
        authority.use_settings(str(versions.files[second]), on_done=asked.append)
        authority.use_settings(str(versions.files[first]), on_done=asked.append)

    authority.watch(reads, ask_both)  # in the line's own turn: no part goes between the two

    def work() -> None:
        for _ in range(20):
            (engine,) = [each for each in authority.status().workers if each.name == "engine"]
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGSTOP)  # so that parts wait behind the changes
            os.write(writes, b"x")
            threading.Event().wait(0.05)
            os.kill(engine.pid, signal.SIGCONT)
            threading.Event().wait(0.05)

    while_running(authority, work)
    os.close(reads)
    os.close(writes)
    lines = simulated_line.read_lines(tmp_path / "out")
    judged = [line for line in lines if line["kind"] == "verdict" and line["raw_score"] is not None]
    assert asked == [None] * 40
    assert judged
    assert {record["settings_id"] for record in judged} == {first}
