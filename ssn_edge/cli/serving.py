"""`ssn-edge run --listen`: frames of other programs to answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssn_edge.cli.console import Output
from ssn_edge.cli.options import project_settings

if TYPE_CHECKING:
    from ssn_edge_runtime.trust import Trust


def serve(
    out: Output,
    listen: str,
    *,
    package: Path | None,
    engine: str | None,
    precision: str | None,
    settings: Path | None,
    recipe: str | None,
    trust: Trust | None,
    refused: Sequence[str],
    stop: threading.Event,
    as_json: bool,
) -> None:
    """Serve a package until `stop` is set, and print what was answered.

    Args:
        out: Where it is said.
        listen: Where to listen.
        package: The package; None for the one in this directory.
        engine: None for the project's.
        precision: None for the project's.
        settings: This device's; None for the project's, if they are there.
        recipe: Which of their recipes.
        trust: Who must have signed package and settings.
        refused: Options that were given and mean nothing here.
        stop: Ends it.
        as_json: Print JSON.
    """
    from ssn_edge.packages import find_in_force
    from ssn_edge.serving import ServeRequest, serve_package
    from ssn_edge_runtime.errors import ConfigError

    if refused:
        raise ConfigError(
            f"{refused[0]} is for a camera, --listen for frames that other programs send; leave "
            "one of them out"
        )
    project = project_settings().run
    judge, in_force = find_in_force(
        package, settings, default=Path(project.settings), on_message=out.say
    )
    request = ServeRequest(
        listen,
        judge,
        engine=engine or project.engine,
        precision=precision or project.precision,
        settings=in_force,
        recipe=recipe,
        trust=trust,
    )
    counts = serve_package(request, stop=stop, on_message=out.say)
    out.result(counts, counts_lines(counts), as_json=as_json)


def counts_lines(counts: Mapping[str, object]) -> list[str]:
    """What a server answered, for a terminal."""
    verdicts, refusals, latencies = (
        counts[name] for name in ("verdicts", "refusals", "latency_ms")
    )
    assert isinstance(verdicts, dict)
    assert isinstance(refusals, dict)
    assert isinstance(latencies, dict)
    lines = ["answered: " + ", ".join(f"{count} {name}" for name, count in verdicts.items())]
    if refusals:
        lines.append(
            "refused: " + ", ".join(f"{count} with {status}" for status, count in refusals.items())
        )
    return lines + [
        f"  {stage:<12} p50 {each['p50']:7.2f}  p99 {each['p99']:7.2f}  "
        f"p99.99 {each['p99_99']:7.2f}  max {each['max']:7.2f} ms"
        for stage, each in latencies.items()
    ]
