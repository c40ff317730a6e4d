"""The command line: each verb reads its options, calls one function of the library, and prints.

Nothing heavy is imported here: `ssn-edge --help` answers before PyTorch would have loaded.
"""

from __future__ import annotations

from typing import Annotated

import typer

import ssn_edge
from ssn_edge.cli import (
    audit,
    backup,
    benchmark,
    build,
    calibrate,
    data,
    demo,
    doctor,
    evaluate,
    export,
    import_,
    info,
    init,
    package,
    page,
    replay,
    reproduce,
    review,
    run,
    schema,
    service,
    settings,
    sign,
    train,
    verify,
)
from ssn_edge.cli.console import Output
from ssn_edge.cli.headings import HeadedCommand

app = typer.Typer(
    name="ssn-edge",
    help="Surface inspection from labels to line: train, evaluate, export one package, run it.",
    epilog="First time here? ssn-edge demo shows the whole chain in minutes, on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for verb in (
    demo.demo,
    doctor.doctor,
    init.init,
    train.train,
    evaluate.evaluate,
    calibrate.calibrate,
    export.export,
    build.build,
    benchmark.benchmark,
    verify.verify,
    info.info,
    sign.sign,
    backup.backup,
    backup.restore,
    audit.audit,
    replay.replay,
    review.review,
    reproduce.reproduce,
    schema.schema,
):
    app.command()(verb)
app.command(cls=HeadedCommand)(run.run)
app.add_typer(data.app, name="data")
app.add_typer(settings.app, name="settings")
app.add_typer(package.app, name="package")
app.add_typer(service.app, name="service")
app.add_typer(page.app, name="page")
app.command("import")(import_.import_)  # a Python function cannot have that name


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssn-edge {ssn_edge.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors and warnings only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="More detail.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    context.obj = Output(debug=debug, quiet=quiet, verbose=verbose)


def main() -> None:
    """Entry point of the `ssn-edge` command."""
    app()
