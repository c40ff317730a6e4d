"""Whole training runs on real pictures: repeatable, resumable, and never half-done."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ssn_edge.model.backbone import Backbone
from ssn_edge.model.variant import Variant
from ssn_edge.training.build import build_net, find_device
from ssn_edge.training.checkpoint import (
    CHECKPOINT_NAME,
    STATE_NAME,
    load_checkpoint,
    load_tensors,
    save_tensors,
)
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.log import LOG_NAME
from ssn_edge.training.processes import Processes
from ssn_edge.training.regime import Regime
from ssn_edge.training.request import RunRequest
from ssn_edge.training.run import RunResult, resume, train
from ssn_edge.training.trainer import Progress
from ssn_edge.training.watcher import Watcher
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    ScoreError,
    SsnEdgeError,
    StorageError,
)
from ssn_edge_runtime.pictures import encode_png, read_picture

Ask = Callable[..., RunRequest]


class Killed(BaseException):
    """Stands for a process that ends without a word."""


def stopping_after(steps: int) -> Watcher:
    done = [0]

    def on_step(progress: Progress) -> None:
        done[0] = progress.step

    return Watcher(on_step=on_step, should_stop=lambda: done[0] >= steps)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / CHECKPOINT_NAME)


def assert_same_run(folder: Path, other: Path) -> None:
    found, wanted = weights_of(folder), weights_of(other)
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert torch.equal(value, wanted[name]), name
    first, second = (load_tensors(each / CHECKPOINT_NAME)[1] for each in (folder, other))
    assert first["losses"] == second["losses"]


def refused(kind: type[SsnEdgeError], exit_code: int, folder: Path) -> str:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(kind) as caught:
        resume(folder)
    assert caught.value.exit_code == exit_code
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    return str(caught.value)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Uninterrupted runs that were made already, supervised or not."""
    return {}


@pytest.fixture(params=[True, False], ids=["supervised", "unsupervised"])
def supervised(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def whole_run(
    supervised: bool,
    runs: dict[bool, Path],
    request_for: Ask,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    if supervised not in runs:
        folder = tmp_path_factory.mktemp("runs") / "whole"
        train(request_for(supervised=supervised), folder)
        runs[supervised] = folder
    return runs[supervised]


def test_a_run_leaves_one_checkpoint_that_says_how_it_came_about(
    whole_run: Path, supervised: bool
) -> None:
    assert {file.name for file in whole_run.iterdir()} == {CHECKPOINT_NAME, LOG_NAME}
    header = load_checkpoint(whole_run / CHECKPOINT_NAME).header
    assert header["regime"] == ("full" if supervised else "unsupervised")
    assert header["scoring_rule"] == ("classification" if supervised else "map_max")
    assert header["noise_std"] == 0.5
    assert len(header["losses"]) == 3
    assert all(np.isfinite(header["losses"]))
    assert header["losses"][-1] < header["losses"][0]


def test_features_of_a_run_were_standardised_over_its_normal_pictures(whole_run: Path) -> None:
    net = load_checkpoint(whole_run / CHECKPOINT_NAME).net
    assert net.features.mean.any()
    assert (net.features.std != 1).any()


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # whatever was drawn before must not matter
    result = train(request_for(supervised=supervised), tmp_path / "again")
    assert result.checkpoint == tmp_path / "again" / CHECKPOINT_NAME
    assert_same_run(tmp_path / "again", whole_run)


def test_training_draws_none_of_the_callers_random_numbers(
    request_for: Ask, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(4)
    torch.manual_seed(5)
    train(request_for(epochs=1), tmp_path / "run")
    assert torch.equal(torch.rand(4), wanted)


def test_another_seed_gives_other_weights(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    train(request_for(supervised=supervised, seed=1), tmp_path / "other")
    name = "heads.adaptor.projection.weight"
    assert not torch.equal(weights_of(tmp_path / "other")[name], weights_of(whole_run)[name])


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_an_interrupted_run_goes_on_as_the_run_that_would_have_been(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path, steps: int
) -> None:
    folder = tmp_path / "run"
    stopped = train(request_for(supervised=supervised), folder, stopping_after(steps))
    assert stopped.checkpoint is None
    assert stopped.steps[0] == steps < stopped.steps[1]
    assert {file.name for file in folder.iterdir()} == {STATE_NAME, LOG_NAME}
    result = resume(folder)
    assert result.steps == (stopped.steps[1], stopped.steps[1])
    assert {file.name for file in folder.iterdir()} == {CHECKPOINT_NAME, LOG_NAME}
    assert_same_run(folder, whole_run)


def test_a_run_may_be_interrupted_again_and_again(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result: RunResult = train(request_for(supervised=supervised), folder, stopping_after(0))
    assert result.steps[0] == 0
    while result.checkpoint is None:
        result = resume(folder, stopping_after(result.steps[0] + 4))
    assert_same_run(folder, whole_run)


def test_a_run_killed_between_saves_goes_on_from_an_older_state(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    older = tmp_path / "older"

    def on_step(progress: Progress) -> None:
        if progress.step == 3:  # the state on disk is that after step 2
            shutil.copy(folder / STATE_NAME, older)
        if progress.step == 4:
            raise Killed

    with pytest.raises(Killed):
        train(
            request_for(supervised=supervised), folder, Watcher(on_step=on_step, save_every_s=0.0)
        )
    shutil.copy(older, folder / STATE_NAME)
    assert load_tensors(older)[1]["counters"]["step"] == 2
    resume(folder)
    assert_same_run(folder, whole_run)


def test_a_run_killed_before_its_first_save_starts_again(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    def on_step(progress: Progress) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(request_for(supervised=supervised), tmp_path / "run", Watcher(on_step=on_step))
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole_run)


def test_a_run_killed_while_tidying_up_ends_with_the_same_checkpoint(
    whole_run: Path, supervised: bool, request_for: Ask, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(request_for(supervised=supervised), folder, stopping_after(2))
    shutil.copy(whole_run / CHECKPOINT_NAME, folder)
    resume(folder)
    assert_same_run(folder, whole_run)
    assert {file.name for file in folder.iterdir()} == {CHECKPOINT_NAME, LOG_NAME}


@pytest.fixture
def stopped(request_for: Ask, tmp_path: Path, tiles: Path) -> Path:
    """A run on a copy of the tiles, stopped after two steps."""
    shutil.copytree(tiles, tmp_path / "tiles")
    train(request_for(data=tmp_path / "tiles"), tmp_path / "run", stopping_after(2))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("part", "label", "column"), [("train", 0, 0), ("train", 1, 2), ("calibration", 0, 0)]
)
def test_a_run_whose_pictures_or_masks_changed_is_not_gone_on_with(
    stopped: Path, part: str, label: int, column: int
) -> None:
    listing = load_tensors(stopped / STATE_NAME)[1]["listing"]["parts"][part]
    name = next(row[column] for row in listing if row[1] == label)
    file = stopped.parent / "tiles" / name
    picture = read_picture(file).copy()
    picture[:3, :3] = 255 - picture[:3, :3]
    file.write_bytes(encode_png(picture))
    assert "changed since the run began" in refused(DatasetError, 3, stopped)


def test_a_run_whose_pictures_became_more_is_not_gone_on_with(stopped: Path) -> None:
    good = stopped.parent / "tiles" / "train" / "good"
    shutil.copy(good / "000.png", good / "999.png")
    assert "changed since the run began" in refused(DatasetError, 3, stopped)


def test_a_run_whose_data_are_gone_is_not_gone_on_with(stopped: Path) -> None:
    shutil.rmtree(stopped.parent / "tiles")
    assert "tiles" in refused(DatasetError, 3, stopped)


def test_a_run_whose_backbone_weights_changed_is_not_gone_on_with(
    request_for: Ask, tmp_path: Path, tiny_weights: Path
) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(tiny_weights, own)
    folder = tmp_path / "run"
    train(request_for(backbone_weights=own), folder, stopping_after(2))
    with torch.random.fork_rng():
        torch.manual_seed(99)
        save_file(Backbone("test_resnet").extractor.state_dict(), own)
    assert "not the one that the run began with" in refused(CheckpointError, 3, folder)


def test_a_finished_run_is_not_gone_on_with(request_for: Ask, tmp_path: Path) -> None:
    train(request_for(epochs=1), tmp_path / "run")
    assert "finished" in refused(CheckpointError, 3, tmp_path / "run")


def test_a_folder_without_a_run_is_not_gone_on_with(tmp_path: Path) -> None:
    assert STATE_NAME in refused(CheckpointError, 3, tmp_path)


@pytest.mark.parametrize("steps", [2, 99])
def test_a_new_run_never_writes_over_another(request_for: Ask, tmp_path: Path, steps: int) -> None:
    folder = tmp_path / "run"
    train(request_for(epochs=1), folder, stopping_after(steps))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match="holds a"):
        train(request_for(epochs=1, seed=3), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "a checkpoint", "no counters"])
def test_a_damaged_state_is_refused(
    stopped: Path, request_for: Ask, tmp_path: Path, damage: str
) -> None:
    state = stopped / STATE_NAME
    whole = state.read_bytes()
    if damage == "cut":
        state.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        state.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    elif damage == "emptied":
        state.write_bytes(b"")
    elif damage == "a checkpoint":
        train(request_for(epochs=1), tmp_path / "other")
        shutil.copy(tmp_path / "other" / CHECKPOINT_NAME, state)
    else:
        tensors, header = load_tensors(state)
        del header["counters"]
        save_tensors(state, tensors, header)
    assert str(state) in refused(CheckpointError, 3, stopped)


def test_a_state_that_lacks_a_tensor_is_refused_by_its_name(stopped: Path) -> None:
    tensors, header = load_tensors(stopped / STATE_NAME)
    del tensors["heads/adaptor.projection.bias"]
    save_tensors(stopped / STATE_NAME, tensors, header)
    assert "adaptor.projection.bias" in refused(CheckpointError, 3, stopped)


def test_other_versions_of_the_tools_are_told_when_a_run_goes_on(stopped: Path) -> None:
    tensors, header = load_tensors(stopped / STATE_NAME)
    save_tensors(
        stopped / STATE_NAME, tensors, {**header, "tools": {**header["tools"], "torch": "2.6.0"}}
    )
    said: list[str] = []
    resume(stopped, Watcher(on_message=said.append))
    assert any("2.6.0" in line and "last digits may differ" in line for line in said)


def test_a_full_disk_ends_a_run_without_half_a_file(
    request_for: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def on_step(progress: Progress) -> None:
        if progress.step == 2:
            monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(StorageError, match="No space left"):
        train(request_for(), folder, Watcher(on_step=on_step, save_every_s=0.0))
    monkeypatch.undo()
    assert {file.name for file in folder.iterdir()} == {STATE_NAME, LOG_NAME}
    assert load_tensors(folder / STATE_NAME)[1]["counters"]["step"] == 1
    assert resume(folder).checkpoint is not None


def test_a_folder_that_cannot_be_made_is_told(request_for: Ask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        train(request_for(epochs=1), tmp_path / "file" / "run")


def test_watchers_hear_of_data_cache_and_every_step(request_for: Ask, tmp_path: Path) -> None:
    said: list[str] = []
    seen: list[Progress] = []
    result = train(
        request_for(), tmp_path / "run", Watcher(on_message=said.append, on_step=seen.append)
    )
    log = "\n".join(said)
    assert "cached the backbone's outputs of" in log
    assert "full: " in log
    assert "weights from file tiny.safetensors, on cpu" in log
    assert [now.step for now in seen] == list(range(1, result.steps[1] + 1))
    assert [now.epoch for now in seen] == [
        epoch for epoch in (1, 2, 3) for _ in range(result.steps[1] // 3)
    ]
    assert seen[-1].seconds_left == 0.0
    assert all(now.separation is None or 0 <= now.separation <= 1 for now in seen)


def test_a_balanced_epoch_visits_four_flips_of_each_defective_picture(
    request_for: Ask, tmp_path: Path
) -> None:
    result = train(request_for(), tmp_path / "run", stopping_after(0))
    header = load_tensors(tmp_path / "run" / STATE_NAME)[1]
    defective = sum(row[1] for row in header["listing"]["parts"]["train"])
    assert result.steps[1] == 3 * -(-8 * defective // 6)


def test_the_conference_variant_trains_too(request_for: Ask, tmp_path: Path) -> None:
    train(request_for(epochs=1, variant=Variant.CONFERENCE), tmp_path / "run")
    net = load_checkpoint(tmp_path / "run" / CHECKPOINT_NAME).net
    assert net.architecture.variant is Variant.CONFERENCE


@pytest.mark.parametrize(
    ("choice", "regime", "masks"),
    [
        (LabelChoice(regime=Regime.UNSUPERVISED), "unsupervised", 0),
        (LabelChoice(regime=Regime.WEAK), "weak", 0),
        (LabelChoice(masks=1), "mixed", 1),
        (LabelChoice(), "full", 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_regime_trains_to_the_end_with_the_masks_that_it_shall_use(
    request_for: Ask, tmp_path: Path, choice: LabelChoice, regime: str, masks: int
) -> None:
    train(request_for(labels=choice, epochs=1), tmp_path / "run")
    header = load_checkpoint(tmp_path / "run" / CHECKPOINT_NAME).header
    assert header["regime"] == regime
    parts = header["listing"]["parts"]
    used = [row for row in parts["train"] if row[1]]
    assert sum(row[2] is not None for row in used) == masks
    assert bool(used) is (regime != "unsupervised")
    assert all(row[2] is not None for row in parts["test"] if row[1])


def test_the_scoring_rule_follows_the_regime_unless_it_is_set(
    request_for: Ask, tmp_path: Path
) -> None:
    def rule(name: str, **others: object) -> str:
        train(request_for(epochs=1, **others), tmp_path / name)
        return str(load_checkpoint(tmp_path / name / CHECKPOINT_NAME).header["scoring_rule"])

    assert rule("normals", supervised=False) == "map_max"
    assert rule("labels", supervised=True) == "classification"
    assert rule("set", supervised=True, scoring=ScoringMethod.MAP_MAX) == "map_max"


def test_without_a_calibration_share_all_of_the_training_part_trains(
    request_for: Ask, tmp_path: Path
) -> None:
    request = request_for(labels=LabelChoice(), calibration_share=0.0)
    train(request, tmp_path / "run", stopping_after(0))
    parts = load_tensors(tmp_path / "run" / STATE_NAME)[1]["listing"]["parts"]
    assert (len(parts["train"]), len(parts["calibration"])) == (15, 0)


def test_the_seed_leaves_the_parts_as_they_are(request_for: Ask, tmp_path: Path) -> None:
    def parts(name: str, **others: object) -> object:
        train(request_for(**others), tmp_path / name, stopping_after(0))
        return load_tensors(tmp_path / name / STATE_NAME)[1]["listing"]["parts"]

    assert parts("one", seed=1) == parts("two", seed=2)
    assert parts("three", seed=1, split_seed=3) != parts("one again", seed=1)


def test_a_limit_keeps_that_many_pictures_spread_over_the_part(
    request_for: Ask, tmp_path: Path
) -> None:
    request = request_for(labels=LabelChoice(max_normal=3, max_anomalous=2))
    train(request, tmp_path / "run", stopping_after(0))
    header = load_tensors(tmp_path / "run" / STATE_NAME)[1]
    labels = [row[1] for row in header["listing"]["parts"]["train"]]
    assert (labels.count(0), labels.count(1)) == (3, 2)


def test_a_loss_that_is_no_number_ends_the_run(request_for: Ask, tmp_path: Path) -> None:
    request = request_for()
    wild = dataclasses.replace(request.settings, noise_std=1e30)
    with pytest.raises(ScoreError, match="lower the learning rates or the noise") as caught:
        train(dataclasses.replace(request, settings=wild), tmp_path / "run")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()


def test_weights_that_the_very_last_step_broke_are_never_saved(
    request_for: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.optim.AdamW.step
    steps = [0]

    def break_the_last(self: torch.optim.AdamW, *args: object) -> None:
        real(self, *args)  # type: ignore[arg-type]
        steps[0] += 1
        if steps[0] == total:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.nan)

    total = train(request_for(epochs=1), tmp_path / "probe", stopping_after(0)).steps[1]
    monkeypatch.setattr(torch.optim.AdamW, "step", break_the_last)
    with pytest.raises(ScoreError, match="weights became NaN"):
        train(request_for(epochs=1), tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()


@pytest.mark.parametrize("name", ["gpu", "cpu0", "cuda:x", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:1"):
        find_device(name)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="PyTorch sees"):
        find_device("cuda:64")
    assert find_device("cpu") == torch.device("cpu")


def test_one_gpu_for_several_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match="each needs a GPU of its own; use --device cuda"):
        find_device("cuda:0", Processes(rank=0, count=2))
    assert find_device("cpu", Processes(rank=1, count=2)) == torch.device("cpu")


def test_the_header_of_a_checkpoint_is_json_that_anyone_can_read(whole_run: Path) -> None:
    raw = (whole_run / CHECKPOINT_NAME).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["ssn_edge"])
    assert header["request"]["backbone"] == "test_resnet"
    assert len(header["training_data"]) == len(header["backbone_sha256"]) == 64


def test_initial_weights_follow_from_the_seed_alone(request_for: Ask) -> None:
    torch.manual_seed(1)
    first, _ = build_net(request_for(), torch.device("cpu"))
    torch.manual_seed(2)
    second, _ = build_net(request_for(), torch.device("cpu"))
    other, _ = build_net(request_for(seed=1), torch.device("cpu"))
    weight = first.heads.adaptor.projection.weight
    assert torch.equal(weight, second.heads.adaptor.projection.weight)
    assert not torch.equal(weight, other.heads.adaptor.projection.weight)
