"""A build of minutes that shows how far it is and ends at once when it is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from ssn_edge_runtime.errors import EngineError

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with the phase at hand and how many of how many steps are done; may raise to stop."""

STEPS = 1000
SECONDS_BETWEEN_CALLS = 0.1

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


@dataclass(slots=True)
class BuildProgress:
    """Phases within phases, as the builder tells of them, added up to one number.

    Written by the builder's threads and read by the caller's.
    """

    _phases: dict[str, _Phase] = field(default_factory=dict)
    _furthest: int = 0
    _is_cancelled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, done: int) -> bool:
        """A step of a phase, counted from 0, is over. False asks the builder to stop."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = done + 1
            return not self._is_cancelled

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            self._phases.pop(name, None)

    def cancel(self) -> None:
        """Let the next step be the last."""
        with self._lock:
            self._is_cancelled = True

    def now(self) -> tuple[str, int]:
        """The innermost phase and how many of `STEPS` are done; the number never falls."""
        with self._lock:
            name, share, width = "", 0.0, 1.0
            child = self._child_of(None)
            while child is not None:
                name, phase = child
                share += width * min(phase.done, phase.steps) / phase.steps
                width /= phase.steps
                child = self._child_of(name)
            self._furthest = max(self._furthest, min(int(share * STEPS), STEPS))
            return name, self._furthest

    def _child_of(self, parent: str | None) -> tuple[str, _Phase] | None:
        """The latest open phase within another."""
        return next(
            (each for each in reversed(self._phases.items()) if each[1].parent == parent), None
        )


def progress_monitor(module: Any, progress: BuildProgress) -> Any:
    """The module's `IProgressMonitor` that writes to a `BuildProgress`.

    Its methods are called by C++ code, in threads of the builder, and must not raise.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # a type of the library's
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    monitor = Monitor()
    # A thread of the library may still call it after a build that was stopped. Builds are rare.
    _MONITORS.append(monitor)
    return monitor


_MONITORS: list[Any] = []
"""All that were made: none is freed while the library might know it."""


def run_cancellable(
    build: Callable[[], _Result], progress: BuildProgress, on_progress: OnProgress
) -> _Result:
    """Run a build in a thread of its own, and show its progress in the caller's.

    So Ctrl-C reaches Python at once, though the builder holds its thread for minutes, and nothing
    is ever raised through the library's code. Whatever `on_progress` raises stops the build, too.

    Raises:
        EngineError: The build gave an error.
        KeyboardInterrupt: After the builder has stopped.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(build())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="engine-build", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            on_progress(*progress.now(), STEPS)
            thread.join(SECONDS_BETWEEN_CALLS)
        if not errors:
            on_progress("done", STEPS, STEPS)
    except BaseException:
        progress.cancel()
        thread.join()
        raise
    if errors:
        raise errors[0]
    if not results:
        raise EngineError("the build ended without a result; run it again")
    return results[0]
