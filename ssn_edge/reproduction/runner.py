"""All runs of a published experiment, one after another, and the table that they make."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.model.backbone import Backbone
from ssn_edge.model.weights import load_backbone_weights
from ssn_edge.reproduction.comparison import Comparison, compare
from ssn_edge.reproduction.one_run import Observer, Stopped, finish_run
from ssn_edge.reproduction.request import PlannedRun, ReproductionRequest, planned_runs
from ssn_edge.reproduction.result import RunFigures
from ssn_edge.reproduction.table import markdown
from ssn_edge.training.build import find_device
from ssn_edge.training.processes import are_many
from ssn_edge_runtime.errors import ConfigError, DatasetError, SsnEdgeError
from ssn_edge_runtime.files import write_whole

logger = logging.getLogger(__name__)

SETTINGS_NAME = "reproduction.json"
"""What the runs in a folder were asked for: none of others may be added."""
TABLE_NAME = "table.md"
NUMBERS_NAME = "table.json"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be finished.

    Args:
        run: Which.
        message: Why.
        exit_code: What the command line ends with.
    """

    run: PlannedRun
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How far a reproduction has come.

    Args:
        output: Its folder.
        results: Finished runs.
        failures: Runs that failed; the same call tries them again.
        was_stopped: Whether it was asked to stop before the end.
        comparison: The table.
    """

    output: Path
    results: tuple[RunFigures, ...]
    failures: tuple[Failure, ...]
    was_stopped: bool
    comparison: Comparison

    @property
    def exit_code(self) -> int:
        """0, or the first failure's."""
        return self.failures[0].exit_code if self.failures else 0


def reproduce(
    request: ReproductionRequest, output: Path, observer: Observer | None = None
) -> Reproduction:
    """Train and evaluate every part with every seed, and compare with the published numbers.

    Finished runs are skipped and an interrupted one goes on, so the same call goes on where the
    last one ended. A run that fails is noted and the next one begins. The table is written anew
    after each run, as `table.md` and `table.json`.

    Raises:
        ConfigError: The folder holds runs of other settings, or other things; or torchrun started
            several processes.
        DatasetError: The root holds none of the parts.
        CheckpointError: No backbone weights, or a result file that was changed.
    """
    observer = observer or Observer()
    if are_many():
        raise ConfigError(
            "reproduce trains each net in one process; start it without torchrun. For several "
            "GPUs, start it once for each, with --category and --device cuda:1, in one --output"
        )
    _check_root(request)
    find_device(request.device)
    _claim(output, request)
    # Better now than in each run: the weights may need the internet or a file.
    load_backbone_weights(Backbone(request.backbone), request.backbone_weights)
    results: list[RunFigures] = []
    failures: list[Failure] = []
    was_stopped = False
    runs = list(planned_runs(request, output))
    for number, run in enumerate(runs, start=1):
        observer.on_message(f"run {number} of {len(runs)}: {run.name}")
        outcome = _attempt(run, observer)
        if outcome is None:
            was_stopped = True
            break
        if isinstance(outcome, Failure):
            observer.on_message(f"failed: {run.name}: {outcome.message}")
            failures.append(outcome)
        else:
            results.append(outcome)
        _write_table(output, compare(request, results, _told(failures)))
    comparison = compare(request, results, _told(failures))
    _write_table(output, comparison)
    return Reproduction(output, tuple(results), tuple(failures), was_stopped, comparison)


def _attempt(run: PlannedRun, observer: Observer) -> RunFigures | Failure | None:
    """A run's numbers, why it failed, or None if asked to stop."""
    try:
        return None if observer.should_stop() else finish_run(run, observer)
    except Stopped:
        return None
    except SsnEdgeError as error:
        return Failure(run, str(error), error.exit_code)
    except Exception as error:  # one part must not end the others
        logger.debug("%s failed", run.name, exc_info=True)
        return Failure(run, f"unexpected {type(error).__name__}: {error}", 1)


def _check_root(request: ReproductionRequest) -> None:
    folders = [request.root / part.folder for part in request.parts]
    if not request.root.is_dir():
        raise DatasetError(
            f"{request.root}: is not a folder; wanted that of {request.protocol.title}"
        )
    if not any(folder.is_dir() for folder in folders):
        raise DatasetError(
            f"{request.root}: holds none of the {request.protocol.kind} of "
            f"{request.protocol.title}; wanted {folders[0]} and so on"
        )


def _claim(output: Path, request: ReproductionRequest) -> None:
    """Take a folder for these settings alone."""
    file = output / SETTINGS_NAME
    wanted = _settings(request)
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read ({error}); name another folder") from error
        for name, value in wanted.items():
            if not isinstance(found, dict) or found.get(name) != value:
                before = found.get(name) if isinstance(found, dict) else None
                raise ConfigError(
                    f"{output} holds runs with {name} {before}, now it is {value}; name another "
                    "folder, or ask for the same"
                )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} holds other things; name a new folder")
    write_whole(file, (json.dumps(wanted, indent=2) + "\n").encode())


def _settings(request: ReproductionRequest) -> dict[str, object]:
    """What all runs of a folder share; seeds, parts and the device may differ from call to call."""
    weights, size = request.backbone_weights, request.input_size_hw
    return {
        "dataset": request.dataset.value,
        "root": str(request.root.resolve()),
        "masks": request.masks,
        "variant": request.variant.value,
        "epochs": request.epochs,
        "backbone": request.backbone,
        "backbone_weights": None if weights is None else str(weights.resolve()),
        "input_size_hw": None if size is None else list(size),
        "batch_size": request.batch_size,
        "learning_rate_scale": request.learning_rate_scale,
    }


def _told(failures: Sequence[Failure]) -> list[str]:
    """One line for all seeds of a part that failed alike."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for failure in failures:
        seeds.setdefault((failure.run.part.name, failure.message), []).append(failure.run.seed)
    return [
        f"{part}, seed {', '.join(map(str, each))}: {message}"
        for (part, message), each in seeds.items()
    ]


def _write_table(output: Path, comparison: Comparison) -> None:
    write_whole(output / TABLE_NAME, markdown(comparison).encode())
    numbers = json.dumps(comparison.to_dict(), indent=2, allow_nan=False) + "\n"
    write_whole(output / NUMBERS_NAME, numbers.encode())
