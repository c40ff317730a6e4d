"""`ssn-edge benchmark`: how fast packages are on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import EXIT_INTERRUPTED, reporting
from ssn_edge.cli.options import (
    AllowOlderOption,
    JsonOption,
    RequireSignatureOption,
    TrustOption,
    parse_numbers,
    parse_words,
    whom_to_trust,
)


def benchmark(
    context: typer.Context,
    packages: Annotated[
        list[Path] | None,
        typer.Argument(help="Packages, taken in turn; without one that in this directory."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engines, such as openvino,onnxruntime-cpu.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Precisions, such as fp32,int8; all for each in the package.")
    ] = "auto",
    batch_sizes: Annotated[str, typer.Option(help="Frames at once, the engine alone.")] = "1,4,16",
    streams: Annotated[str, typer.Option(help="Inspections at once, each in a thread.")] = "1,2",
    frames: Annotated[int | None, typer.Option(help="Frames of each measurement.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Or seconds of each measurement, about; default 5.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of pictures; default the golden ones.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of a CPU engine; 0 lets it choose.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Write a page with drawings, such as benchmark.html.")
    ] = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: AllowOlderOption = False,
    as_json: JsonOption = False,
) -> None:
    """Latency, throughput and memory of packages on this device.

    Stage by stage from picture to verdict; warm-up is left out. Several packages, precisions and
    engines are measured in turn, so that a machine that drifts hurts all alike. What cannot be
    measured is shown as "-".

    Example: ssn-edge benchmark part.ssn --precision all --plot benchmark.html
    """
    with reporting(context) as out:
        from ssn_edge.benchmark.request import BenchmarkRequest
        from ssn_edge.benchmark.run import run_benchmark
        from ssn_edge.benchmark.table import table_lines
        from ssn_edge.project import find_package

        request = BenchmarkRequest(
            packages=tuple(map(find_package, packages)) if packages else (find_package(None),),
            engines=parse_words(engine, "--engine"),
            precisions=parse_words(precision, "--precision"),
            batch_sizes=parse_numbers(batch_sizes, "--batch-sizes"),
            streams=parse_numbers(streams, "--streams"),
            frames=frames,
            seconds=seconds,
            data=data,
            threads=threads,
            trust=whom_to_trust(trust, is_required=require_signature, allows_older=allow_older),
        )
        with out.progress() as progress:
            result = run_benchmark(request, on_progress=progress)
        out.result(result.to_dict(), table_lines(result), as_json=as_json)
        if plot is not None:
            from ssn_edge.benchmark.page import write_page

            write_page(plot, result)
            out.say(f"page: {plot}")
        if result.interrupted:
            out.say("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED)
