"""`ssn-edge import`: a foreign checkpoint becomes a run that evaluate, export and run take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ssn_edge.data.samples import make_samples
from ssn_edge.data.surfaces import Surface
from ssn_edge.training.checkpoint import load_checkpoint
from ssn_edge.training.regime import Regime, default_scoring
from ssn_edge_runtime import Inspector, read_picture
from ssn_edge_runtime.preprocess import Interpolation, preprocess
from tests.end_to_end.chain import Outcome, listing, ssn_edge
from tests.ssn_edge.imports.foreign_nets import BACKBONE, ForeignNet, make_net, normalised, rgb


class Workplace:
    """Data and both foreign files; runs and packages are added, nothing else is changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authors = make_net(adapts=True, anomalib=False, seed=1)
        self.anomalib = make_net(adapts=False, anomalib=True, seed=2)
        torch.save(self.authors.authors_state(), root / "weights.pt")
        torch.save(self.anomalib.anomalib_checkpoint(), root / "model.ckpt")
        self.authors.backbone_file(root / "backbone.safetensors")
        make_samples(
            root / "tiles",
            surface=Surface.BRUSHED,
            normal_train=12,
            defective_train=0,
            normal_test=3,
            defective_test=3,
            size_hw=(80, 112),
        )

    def call(self, command: str) -> Outcome:
        return ssn_edge(*command.split(), cwd=self.root)


AUTHORS = (
    "weights.pt --data tiles --variant conference --regime full --input-size 64x96 "
    f"--backbone {BACKBONE} --backbone-weights backbone.safetensors"
)
ANOMALIB = "model.ckpt --data tiles --input-size 64x96"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("imports"))


@pytest.fixture(scope="module", params=["authors", "anomalib"])
def finished(
    request: pytest.FixtureRequest, workplace: Workplace
) -> tuple[Workplace, str, ForeignNet, dict[str, Outcome]]:
    """Imported, evaluated and exported, each with --json."""
    name = request.param
    run = f"runs/{name}"
    outcomes = {}
    for verb, command in {
        "import": f"import {AUTHORS if name == 'authors' else ANOMALIB} --output {run}",
        "evaluate": f"evaluate --checkpoint {run}",
        "export": f"export --checkpoint {run} --output {name}.ssn --max-false-reject 50%",
    }.items():
        outcomes[verb] = workplace.call(f"{command} --json")
        assert outcomes[verb].code == 0, outcomes[verb].err
    return workplace, name, getattr(workplace, name), outcomes


Finished = tuple[Workplace, str, ForeignNet, dict[str, Outcome]]


def test_the_package_scores_as_the_origins_code_does(finished: Finished) -> None:
    """Over the whole way: their weights, our checkpoint, the graph in ONNX Runtime."""
    workplace, name, net, outcomes = finished
    columns = outcomes["export"].json()["precisions"]["fp32"]["columns"]
    assert columns
    assert all(each["flips"] == [] for each in columns)
    with Inspector.open(workplace.root / f"{name}.ssn") as inspector:
        geometry = inspector.geometry
        assert geometry.interpolation is (
            Interpolation.LINEAR if name == "authors" else Interpolation.LINEAR_ANTIALIASED
        )
        for path in sorted((workplace.root / "tiles" / "test").glob("*/*.png")):
            frame = read_picture(path)
            anomaly_map, score = net(normalised(rgb(preprocess(frame, geometry))))
            decision = inspector.inspect(frame)
            highest = anomaly_map.max() if name == "authors" else torch.logit(anomaly_map.max())
            for found, wanted in (
                (decision.classification_logit, score),
                (decision.map_max_logit, highest),
            ):
                assert found == pytest.approx(float(wanted), rel=1e-4, abs=1e-4)


def test_what_is_imported_is_told_and_kept(finished: Finished) -> None:
    workplace, name, _, outcomes = finished
    told = outcomes["import"].json()
    regime = "full" if name == "authors" else "unsupervised"
    wanted = {
        "checkpoint": f"runs/{name}/checkpoint.safetensors",
        "origin": name,
        "variant": "conference" if name == "authors" else "journal",
        "regime": regime,
        "scoring_rule": default_scoring(Regime(regime)).value,
        "backbone": BACKBONE,
        "align_corners": name == "authors",
        "interpolation": "linear" if name == "authors" else "linear_antialias",
        "map_output": "logits" if name == "authors" else "sigmoid",
    }
    assert told.items() >= wanted.items()
    path = workplace.root / told["checkpoint"]
    loaded = load_checkpoint(path)
    assert loaded.net.architecture.map_output.value == told["map_output"]
    assert loaded.header["imported_from"] == {
        "origin": name,
        "file": "weights.pt" if name == "authors" else "model.ckpt",
        "sha256": told["file_sha256"],
    }
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["ssn_edge"])
    assert header["regime"] == regime
    assert header["request"]["interpolation"] == told["interpolation"]
    assert "settings" not in header["request"]  # whose schedule it was is not known


def test_a_person_is_warned_that_training_may_have_seen_the_calibration_part(
    finished: Finished,
) -> None:
    _, _, _, outcomes = finished
    assert "ssn-edge cannot know which pictures that training saw" in outcomes["import"].err


def test_the_report_is_written(finished: Finished) -> None:
    workplace, _, _, outcomes = finished
    assert (workplace.root / outcomes["evaluate"].json()["report"]).is_file()


def test_the_projects_data_set_is_the_default(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "ssn-edge.toml").write_text(
        f"[data]\npath = {json.dumps(str(workplace.root / 'tiles'))}\n"
    )
    outcome = ssn_edge(
        "import", workplace.root / "model.ckpt", "--input-size", "64", "--roi", "8,0,64,64",
        "--scoring", "classification", "--map-output", "logits", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = outcome.json()
    assert (told["scoring_rule"], told["map_output"]) == ("classification", "logits")
    assert re.fullmatch(r"runs/\d{8}-\d{6}-model/checkpoint\.safetensors", told["checkpoint"])
    header = load_checkpoint(tmp_path / told["checkpoint"]).header
    assert header["request"]["roi_xywh"] == [8, 0, 64, 64]


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hacked",)


MISTAKES: dict[str, tuple[str, int, list[str]]] = {
    "no variant": (
        "weights.pt --data tiles",
        2,
        ["weights.pt", "--variant journal or conference", "--regime"],
    ),
    "an unknown variant": ("weights.pt --data tiles --variant new", 2, ["'new'", "journal"]),
    "an unknown origin": ("weights.pt --data tiles --origin mine", 2, ["'mine'", "anomalib"]),
    "an unknown map output": ("model.ckpt --data tiles --map-output x", 2, ["logits, sigmoid"]),
    "another variant than the file's": (
        "model.ckpt --data tiles --variant conference",
        2,
        ["model.ckpt says journal"],
    ),
    "no data": ("model.ckpt", 2, ["--data DATA", "ssn-edge.toml"]),
    "data that are not there": (f"{ANOMALIB} --data nowhere", 3, ["nowhere", "does not exist"]),
    "a file that is not there": ("lost.pt --data tiles", 3, ["lost.pt does not exist"]),
    "text": ("notes.pt --data tiles", 3, ["notes.pt cannot be read"]),
    "another model": ("other.pt --data tiles", 3, ["'memory_bank'", "SuperSimpleNet"]),
    "a pickle that runs code": (
        "attack.pt --data tiles",
        3,
        [f"{os.mkdir.__module__}.mkdir", "state_dict"],
    ),
    "a size no net takes": ("model.ckpt --data tiles --input-size 8", 2, ["8 x 8"]),
    "a region beyond the picture": (
        f"{ANOMALIB} --roi 90,0,64,64",
        3,
        ["tiles/train/", "90,0,64,64", "112 x 80"],
    ),
    "a run in the way": (f"{ANOMALIB} --output there", 2, ["there holds a run", "--output"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_code_and_leaves_nothing(
    workplace: Workplace, mistake: str
) -> None:
    root = workplace.root
    (root / "notes.pt").write_text("no weights")
    torch.save({"memory_bank": torch.zeros(2)}, root / "other.pt")
    torch.save({"state_dict": Attack()}, root / "attack.pt")
    (root / "there").mkdir(exist_ok=True)
    (root / "there" / "unfinished.safetensors").touch()
    command, code, words = MISTAKES[mistake]
    before = listing(root)
    outcome = workplace.call(f"import {command}")
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    errors = outcome.err.splitlines()
    assert errors[-1].startswith("error: ")
    assert "unexpected" not in errors[-1]
    for word in words:
        assert word in errors[-1]
    assert listing(root) == before


def test_the_verb_helps_with_an_example() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "import", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Example: ssn-edge import weights.pt" in answer.stdout
