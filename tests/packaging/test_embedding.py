"""The runtime inside somebody else's controller, as product.md shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ssn_edge_runtime
from ssn_edge_runtime import Inspector, PackageError, read_picture
from ssn_edge_runtime.server import InspectionServer, parse_listen
from tests.end_to_end.chain import Project
from tests.runtime.server.clients import Client, ask, inspect


def test_the_embedding_example_accepts_what_evaluate_passed(project: Project) -> None:
    accepted = []

    inspector = Inspector.open(str(project.package))
    for part_id in project.verdicts:
        frame = read_picture(project.line / part_id)
        decision = inspector.inspect(frame)
        if decision.verdict == "pass":
            accepted.append(part_id)
    inspector.close()

    assert accepted == [
        name for name, each in project.verdicts.items() if each["verdict"] == "pass"
    ]


def test_the_example_controller_accepts_what_evaluate_passed(project: Project) -> None:
    example = Path(__file__).parents[2] / "runtime" / "examples" / "controller.py"
    answer = subprocess.run(
        [sys.executable, example, project.package, project.line, "60000"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert answer.stdout.split() == [
        name for name, each in sorted(project.verdicts.items()) if each["verdict"] == "pass"
    ]


def test_the_local_server_decides_as_evaluate_did_on_pictures_and_on_raw_pixels(
    project: Project, tmp_path: Path
) -> None:
    listen = parse_listen(f"unix:{tmp_path}/s.sock")
    with Inspector.open(project.package) as inspector, InspectionServer(inspector, listen):
        client = Client(listen)
        for name, each in project.verdicts.items():
            wanted = (each["verdict"], each["raw_score"])
            picture = ask(
                client, "POST", "/v1/inspect", (project.line / name).read_bytes(),
                {"Content-Type": "image/png"},
            )  # fmt: skip
            assert (picture.body["verdict"], picture.body["raw_score"]) == wanted
            raw = inspect(client, read_picture(project.line / name))
            assert (raw.body["verdict"], raw.body["raw_score"]) == wanted
        client.close()


def test_every_public_name_is_there() -> None:
    for name in ssn_edge_runtime.__all__:
        assert getattr(ssn_edge_runtime, name) is not None


def test_threads_that_share_an_inspector_get_the_verdicts_of_their_own_frames(
    project: Project,
) -> None:
    frames = {name: read_picture(project.line / name) for name in project.verdicts}
    wrong: list[str] = []

    def inspect_all(inspector: Inspector) -> None:
        for _ in range(3):
            for name, frame in frames.items():
                if inspector.inspect(frame).raw_score != project.verdicts[name]["raw_score"]:
                    wrong.append(name)

    with Inspector.open(project.package) as inspector:
        threads = [threading.Thread(target=inspect_all, args=(inspector,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_decision_is_not_changed_by_the_next_one_nor_the_frame_by_any(project: Project) -> None:
    first, second = (read_picture(project.line / name) for name in list(project.verdicts)[:2])
    before = first.copy()
    with Inspector.open(project.package) as inspector:
        decision = inspector.inspect(first)
        assert decision.mask is not None
        assert decision.anomaly_map is not None
        mask, anomaly_map = decision.mask.copy(), decision.anomaly_map.copy()
        inspector.inspect(second)
    assert np.array_equal(decision.mask, mask)
    assert np.array_equal(decision.anomaly_map, anomaly_map)
    assert np.array_equal(first, before)


def test_the_whole_self_test_passes(project: Project) -> None:
    with Inspector.open(project.package, self_test=False) as inspector:
        assert inspector.self_test() == project.outcomes["export"].json()["golden_pictures"]


def test_a_package_that_was_changed_is_not_opened(project: Project, tmp_path: Path) -> None:
    copy = tmp_path / "part.ssn"
    shutil.copy(project.package, copy)
    with copy.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PackageError):
        Inspector.open(copy)
