"""`ssn-edge train`: pictures to a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import EXIT_INTERRUPTED, Output, reporting
from ssn_edge.cli.options import (
    JsonOption,
    parse_columns,
    parse_roi,
    parse_size,
    project_settings,
)

if TYPE_CHECKING:
    from ssn_edge.settings import Settings
    from ssn_edge.training.run import RunResult
    from ssn_edge.training.watcher import Watcher


def train(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="Data set: a folder (MVTec, Kolektor, ...) or a CSV file.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run: its folder.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="timm name; auto chooses by the device.")
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="File of pretrained weights (.safetensors, .pth).")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="Network input: 256, or HEIGHTxWIDTH such as 640x232.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help="Region of interest X,Y,WIDTH,HEIGHT in camera pixels.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="journal or conference.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step.")] = None,
    learning_rate_scale: Annotated[
        float | None, typer.Option(help="Factor on the published rates; 4 for a short run.")
    ] = None,
    interpolation: Annotated[
        str | None,
        typer.Option(help="linear_exact, linear (the authors') or linear_antialias (anomalib's)."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Arithmetic of the heads: fp32, bf16 or fp16.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="How steps are computed: auto, split or reference.")
    ] = None,
    noise_std: Annotated[
        float | None, typer.Option(help="Deviation of the synthetic noise.")
    ] = None,
    segmentation_width: Annotated[
        int | None, typer.Option(help="Hidden channels of the segmentation head.")
    ] = None,
    classification_width: Annotated[
        int | None, typer.Option(help="Hidden channels of the classification head.")
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option(help="unsupervised, weak, mixed or full, to use fewer labels; else found."),
    ] = None,
    masks: Annotated[
        int | None, typer.Option(help="Use the masks of so many defective pictures only.")
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(help="Image score: map_max, classification or combined; else by regime."),
    ] = None,
    max_normal: Annotated[
        int | None, typer.Option(help="Use at most so many normal training pictures.")
    ] = None,
    max_anomalous: Annotated[
        int | None, typer.Option(help="Likewise anomalous ones; 0 trains unsupervised.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="CSV column by another name, such as label=defect.")
    ] = None,
    mask_above: Annotated[
        int | None, typer.Option(help="Mask values above this are defects (else found out).")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Published fold of SensumSODF: 0, 1 or 2.")
    ] = None,
    mask_split: Annotated[
        int | None,
        typer.Option(help="Published choice of masks: so many of KolektorSDD2, % of SensumSODF."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order and noise.")] = None,
    split_seed: Annotated[
        int | None, typer.Option(help="Which pictures train, calibrate and test.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder; default runs/TIME-NAME.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events for TensorBoard, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on a folder of pictures or a CSV list.

    The supervision regime follows from the labels. Ctrl-C saves and says how to go on.
    Without an ssn-edge.toml, the options are noted in one. On several GPUs of one machine:
    torchrun --nproc-per-node 4 -m ssn_edge train data/tiles

    Example: ssn-edge train data/tiles --epochs 100
    """
    with reporting(context) as out:
        from ssn_edge.project import new_run_folder
        from ssn_edge.training.request import request_from_settings
        from ssn_edge.training.run import resume as resume_run
        from ssn_edge.training.run import train as train_run
        from ssn_edge_runtime.errors import ConfigError

        if resume is not None:
            if data is not None:
                raise ConfigError("--resume takes data and settings from the run; leave DATA out")
            _check_resumable(resume)
            with _watching(out, resume, tensorboard=tensorboard) as watcher:
                result = resume_run(resume, watcher)
        else:
            settings = _settings(
                {
                    "backbone": backbone,
                    "backbone_weights": None if backbone_weights is None else str(backbone_weights),
                    "input_size": None if input_size is None else list(parse_size(input_size)),
                    "roi": None if roi is None else list(parse_roi(roi)),
                    "variant": variant,
                    "epochs": epochs,
                    "learning_rate_scale": learning_rate_scale,
                    "interpolation": interpolation,
                    "batch_size": batch_size,
                    "precision": precision,
                    "step": step,
                    "noise_std": noise_std,
                    "segmentation_width": segmentation_width,
                    "classification_width": classification_width,
                    "regime": regime,
                    "scoring": scoring,
                    "seed": seed,
                    "split_seed": split_seed,
                    "device": device,
                },
                {
                    "path": None if data is None else str(data),
                    "columns": None if column is None else parse_columns(column),
                    "mask_above": mask_above,
                    "fold": fold,
                    "mask_split": mask_split,
                },
            )
            request = request_from_settings(
                settings.data,
                settings.train,
                masks=masks,
                max_normal=max_normal,
                max_anomalous=max_anomalous,
            )
            folder = output or new_run_folder(request.data.stem)
            with _watching(
                out, folder, lambda: _note(out, settings), tensorboard=tensorboard
            ) as watcher:
                result = train_run(request, folder, watcher)
        _finish(out, result, as_json=as_json)


def _check_resumable(folder: Path) -> None:
    from ssn_edge.project import CHECKPOINT_NAME, UNFINISHED_NAME
    from ssn_edge_runtime.errors import CheckpointError

    if not any((folder / name).is_file() for name in (CHECKPOINT_NAME, UNFINISHED_NAME)):
        raise CheckpointError(
            f"{folder} holds no unfinished run ({UNFINISHED_NAME}); name the folder that train "
            "told, such as runs/20260131-101500-tiles"
        )


def _settings(train: dict[str, object], data: dict[str, object]) -> Settings:
    """The project's settings with the options over them."""
    import dataclasses

    from ssn_edge_runtime.errors import ConfigError

    settings = project_settings()
    train_settings = dataclasses.replace(settings.train, **_given(train))  # type: ignore[arg-type]
    data_settings = dataclasses.replace(settings.data, **_given(data))  # type: ignore[arg-type]
    if not data_settings.path:
        raise ConfigError("no data set was named: ssn-edge train DATA, or path in ssn-edge.toml")
    return dataclasses.replace(settings, data=data_settings, train=train_settings)


def _given(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _note(out: Output, settings: Settings) -> None:
    """Write the project file if there is none; training goes on if that is not possible."""
    from ssn_edge.settings import SETTINGS_NAME, write_settings
    from ssn_edge_runtime.errors import SsnEdgeError

    if not out.speaks or Path(SETTINGS_NAME).exists():
        return
    try:
        write_settings(settings)
        out.say(f"noted these settings in {SETTINGS_NAME}: later calls use them, options win")
    except SsnEdgeError as error:
        out.say(f"these settings were not noted: {error}")


@contextmanager
def _watching(
    out: Output,
    folder: Path,
    on_start: Callable[[], None] = lambda: None,
    *,
    tensorboard: bool = False,
) -> Iterator[Watcher]:
    """Progress while training; the first Ctrl-C stops after the step, a second one at once.

    Args:
        out: Where people read.
        folder: Of the run.
        on_start: Called once, when the data were found usable and the first step is done.
        tensorboard: Whether events for TensorBoard are wanted.
    """
    from ssn_edge.project import UNFINISHED_NAME
    from ssn_edge.training.trainer import Progress
    from ssn_edge.training.watcher import Watcher

    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out.say("stopping after this step ...")

    with out.progress() as progress:
        show_cache = progress.stage("features")

        def on_cache(done: int, count: int) -> None:
            if stopping.is_set():
                raise KeyboardInterrupt  # nothing is trained yet, so there is nothing to save
            show_cache(done, count)

        def on_step(now: Progress) -> None:
            if now.step == 1:
                on_start()
            separation = "" if now.separation is None else f"  separation {now.separation:.3f}"
            progress("train", now.step, now.steps, f"loss {now.loss:.3f}{separation}")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield Watcher(
                on_message=out.say,
                on_cache=on_cache,
                on_step=on_step,
                should_stop=stopping.is_set,
                tensorboard=tensorboard,
            )
        except KeyboardInterrupt:
            if (folder / UNFINISHED_NAME).is_file():
                out.say(f"what was saved before is there. Go on: ssn-edge train --resume {folder}")
            raise
        finally:
            signal.signal(signal.SIGINT, before)


def _finish(out: Output, result: RunResult, *, as_json: bool) -> None:
    if result.checkpoint is None:
        out.say(
            f"stopped after {result.steps[0]} of {result.steps[1]} steps and saved. "
            f"Go on: ssn-edge train --resume {result.folder}"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    out.result(
        {
            "checkpoint": str(result.checkpoint),
            "regime": result.regime.value,
            "steps": result.steps[1],
            "final_loss": result.final_loss,
            "seconds": result.seconds,
        },
        [
            f"trained {result.steps[1]} steps in {result.seconds:.0f} s "
            f"(last epoch's mean loss {result.final_loss:.4f}): {result.checkpoint}",
            "next: ssn-edge evaluate, then ssn-edge export",
        ],
        as_json=as_json,
    )
