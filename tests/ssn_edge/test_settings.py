"""The project file: written, read back, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge.settings import (
    DataSettings,
    RunSettings,
    Settings,
    TrainSettings,
    read_settings,
    settings_text,
    write_settings,
)
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sinks import KeepPolicy

FULL = Settings(
    data=DataSettings(
        path='C:\\parts\\"new" lot\n\x7f \u00e4\u65e5',
        columns={"label": "defect class", "group": 'tile "group"'},
        mask_above=0,
    ),
    train=TrainSettings(
        backbone="wide_resnet50_2.tv_in1k", input_size=[640, 232], roi=[1, 2, 300, 400],
        noise_std=1e-5, segmentation_width=8, classification_width=4, seed=7, device="cuda:1",
    ),
    run=RunSettings(device="0", keep="all"),
)  # fmt: skip


@pytest.mark.parametrize("settings", [Settings(), FULL], ids=["defaults", "odd"])
def test_a_file_reads_back_to_the_settings_it_was_written_from(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "ssn-edge.toml"
    write_settings(settings, file)
    assert read_settings(file) == settings


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "ssn-edge.toml") == Settings()


def test_each_key_of_the_file_is_explained_in_the_line_before_it() -> None:
    lines = settings_text(Settings()).splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] != "#"]
    assert len(keys) > 15
    for number in keys:
        assert lines[number - 1].startswith("# "), lines[number]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "ssn-edge.toml"
    file.write_text("# mine\n")
    with pytest.raises(ConfigError, match="is there already; edit it, or remove it first"):
        write_settings(Settings(), file)
    assert file.read_text() == "# mine\n"


def test_keys_that_are_left_out_keep_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "ssn-edge.toml"
    file.write_text("[train]\nepochs = 7\nnoise_std = 1\n")
    train = read_settings(file).train
    assert (train.epochs, train.noise_std, train.batch_size) == (7, 1.0, 32)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[run]\nkep = 'all'\n", r"\[run\] kep is unknown; did you mean 'keep'\?"),
        ("[export]\nthreshold = 1\n", r"\[export\] threshold is unknown; did you mean"),
        ("[rum]\n", r"\[rum\] is unknown; did you mean 'run'\?"),
        ("epochs = 3\n", r"\[epochs\] is unknown"),
        ("data = 3\n", r"data must be a section: \[data\]"),
        ("[train]\nepochs = true\n", r"\[train\] epochs = True is of the wrong kind"),
        ("[train]\nepochs = 1.5\n", r"epochs = 1.5 is of the wrong kind; one like 300 fits"),
        ("[train]\ninput_size = [1, 'a']\n", r"input_size = \[1, 'a'\] is of the wrong kind"),
        ("[data.columns]\nlabel = 3\n", r"\[data\] columns = .* is of the wrong kind"),
        ("[train]\nseed = -1\n", r"\[train\] seed = -1: 0 or more is wanted"),
        ("[train]\ndevice = 'tpu'\n", r"\[train\] device = 'tpu': auto, cpu or cuda is wanted"),
        ("[export]\nmax_false_reject = 0\n", r"\[export\] max_false_reject = 0.0: a share"),
        ("[export]\nmax_false_reject = nan\n", r"\[export\] max_false_reject = nan: a share"),
        ("[run]\nkeep = 'some'\n", r"\[run\] keep = 'some': all, rejects or none is wanted"),
        ("[run\n", "is not TOML"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_key(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "ssn-edge.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as refused:
        read_settings(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ssn-edge.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_settings(file)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize("keep", [each.value for each in KeepPolicy])
def test_each_policy_of_the_line_can_be_set(keep: str) -> None:
    assert RunSettings(keep=keep).keep == keep
