"""`ssn-edge reproduce`: the published experiments, run again."""

from __future__ import annotations

import signal
import threading
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ssn_edge.cli.console import EXIT_INTERRUPTED, Output, reporting
from ssn_edge.cli.options import JsonOption, parse_size

if TYPE_CHECKING:
    from ssn_edge.reproduction import Reproduction, ReproductionRequest

Choice = TypeVar("Choice", bound=Enum)


def reproduce(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="mvtec, visa, ksdd2 or sensum.")],
    root: Annotated[Path, typer.Option(help="The data set's folder, as it was published.")],
    regime: Annotated[
        str | None, typer.Option(help="unsupervised, weak, mixed or full; default the fullest.")
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(help="Training masks: ksdd2 0, 16, 53, 126, 246; sensum 0, 20, ... 100 (%)."),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Only this category or product; may be repeated.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many (0, 1, ...), or which: 3,7,11.")] = "5",
    variant: Annotated[str, typer.Option(help="journal or conference.")] = "journal",
    output: Annotated[
        Path | None, typer.Option(help="Folder of all runs; default runs/reproduce-DATASET-...")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Fewer than the published 300.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Another timm name than wide_resnet50_2.tv_in1k.")
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="File of pretrained weights (.safetensors, .pth).")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="Another network input: 256, or HEIGHTxWIDTH.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Other than the published 32.")] = None,
    learning_rate_scale: Annotated[
        float | None, typer.Option(help="Factor on the published rates.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run a published experiment again, and compare.

    Every category, product or fold with every seed. Ctrl-C keeps what is done; the same command
    goes on. Each run keeps its checkpoint (some 140 MB with the published backbone).

    Example: ssn-edge reproduce ksdd2 --root data/KolektorSDD2 --regime mixed --masks 53
    """
    with reporting(context) as out:
        from ssn_edge.model.variant import Variant
        from ssn_edge.reproduction import (
            PublishedDataset,
            ReproductionRequest,
            choose_masks,
            default_output,
        )
        from ssn_edge.training.regime import Regime

        chosen = _choice(PublishedDataset, dataset, "DATASET")
        wanted = None if regime is None else _choice(Regime, regime, "--regime")
        options = {
            "epochs": epochs,
            "backbone": backbone,
            "backbone_weights": backbone_weights,
            "input_size_hw": None if input_size is None else parse_size(input_size),
            "batch_size": batch_size,
            "learning_rate_scale": learning_rate_scale,
        }
        request = ReproductionRequest(
            dataset=chosen,
            root=root,
            masks=choose_masks(chosen, wanted, masks),
            variant=_choice(Variant, variant, "--variant"),
            groups=tuple(category or ()),
            seeds=_seeds(seeds),
            device=device,
            **{name: value for name, value in options.items() if value is not None},  # type: ignore[arg-type]
        )
        result = _run(out, request, output or default_output(request))
        _finish(out, result, as_json=as_json)


def _choice(kinds: type[Choice], text: str, option: str) -> Choice:
    from ssn_edge_runtime.errors import ConfigError

    for kind in kinds:
        if kind.value == text:
            return kind
    names = ", ".join(str(kind.value) for kind in kinds)
    raise ConfigError(f"{option} {text}: one of {names} is wanted")


def _seeds(text: str) -> tuple[int, ...]:
    """``5`` as 0 to 4, ``3,7`` or ``42,`` as they stand."""
    from ssn_edge_runtime.errors import ConfigError

    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isdecimal()]
    if len(numbers) < len([word for word in words if word]) or not numbers:
        raise ConfigError(
            f"--seeds {text}: a number of seeds, or seeds such as 3,7,11 (42, for one) are wanted"
        )
    return tuple(range(numbers[0])) if len(words) == 1 else tuple(numbers)


def _run(out: Output, request: ReproductionRequest, output: Path) -> Reproduction:
    """Run with progress; the first Ctrl-C stops after the step, a second one at once."""
    from ssn_edge.reproduction import Observer
    from ssn_edge.reproduction import reproduce as run_all

    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out.say("stopping soon; Ctrl-C again stops at once ...")

    before = signal.signal(signal.SIGINT, stop)
    try:
        with out.progress() as progress:
            return run_all(request, output, Observer(out.say, progress, stopping.is_set))
    finally:
        signal.signal(signal.SIGINT, before)


def _finish(out: Output, result: Reproduction, *, as_json: bool) -> None:
    from ssn_edge.reproduction.runner import NUMBERS_NAME, TABLE_NAME
    from ssn_edge.reproduction.table import table_lines

    files = {name: str(result.output / name) for name in (TABLE_NAME, NUMBERS_NAME)}
    out.result(
        {
            "output": str(result.output),
            "finished_runs": len(result.results),
            "was_stopped": result.was_stopped,
            **result.comparison.to_dict(),
        },
        [*table_lines(result.comparison), f"written: {', '.join(files.values())}"],
        as_json=as_json,
    )
    if result.was_stopped:
        out.say("stopped; the same command goes on")
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.failures:
        out.say(f"{len(result.failures)} runs failed; the same command tries them again")
        raise typer.Exit(result.exit_code)
