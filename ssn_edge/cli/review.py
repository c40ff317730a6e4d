"""`ssn-edge review`: label kept pictures, and make the next training set from them."""

from __future__ import annotations

import getpass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ssn_edge.cli.console import Output, reporting
from ssn_edge.cli.options import JsonOption

if TYPE_CHECKING:
    from ssn_edge.review.export import Export
    from ssn_edge.review.server import ReviewServer
    from ssn_edge.review.summary import Summary

_Choice = TypeVar("_Choice", bound=Enum)


def review(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="Folder that run wrote, or any folder of pictures.")
    ] = Path("decisions"),
    page: Annotated[
        int, typer.Option(help="Port of the page, on this machine alone; 0 takes a free one.")
    ] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in this machine's browser.")
    ] = False,
    who: Annotated[str | None, typer.Option(help="Whose labels; default the login name.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File of labels; default review.jsonl in the folder.")
    ] = None,
    order: Annotated[str, typer.Option(help="useful or time.")] = "useful",
    export: Annotated[
        Path | None,
        typer.Option(help="Write the labelled pictures as a training set, and end."),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(help="Contradicting labels in an export: refuse, leave-out or latest."),
    ] = "refuse",
    summary: Annotated[
        bool, typer.Option("--summary", help="Print how far the review is, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look through kept pictures in a browser, label them, and make a training set.

    Labels are saved at once, with who gave them, when, and for which record. The page needs no
    internet, and answers on this machine alone, to whoever has the address that is printed.

    Example: ssn-edge review decisions/ --who anna; ssn-edge review decisions/ --export data/next
    """
    with reporting(context) as out:
        from ssn_edge.review.agreement import OnConflict
        from ssn_edge.review.export import export_labelled
        from ssn_edge.review.kept_pictures import LABELS_NAME, find_kept
        from ssn_edge.review.labels import check_who, read_labels
        from ssn_edge.review.order import Order
        from ssn_edge.review.server import ReviewServer
        from ssn_edge.review.session import ReviewSession
        from ssn_edge.review.summary import summarise

        shown_as = _choice("--order", order, Order)
        conflict = _choice("--on-conflict", on_conflict, OnConflict)
        kept = find_kept(source)
        file = labels or kept.folder / LABELS_NAME
        if export is not None:
            with out.progress() as progress:
                done = export_labelled(
                    kept,
                    read_labels(file),
                    export,
                    on_conflict=conflict,
                    on_progress=progress.stage("export"),
                )
            found = summarise(kept, read_labels(file))
            document = {"export": done.to_dict(), "summary": found.to_dict()}
            out.result(document, [*export_lines(done), *summary_lines(found)], as_json=as_json)
        elif summary:
            found = summarise(kept, read_labels(file))
            out.result(found.to_dict(), summary_lines(found), as_json=as_json)
        else:
            session = ReviewSession(source, file, check_who(who or _login_name()), shown_as)
            with ReviewServer(session, page) as server:
                _serve(server, out, open_browser=open_browser, as_json=as_json)
            found = summarise(kept, read_labels(file))
            out.say(f"{found.pictures - found.count('unlabelled')} of {found.pictures} pictures "
                    f"have a label, in {file}")  # fmt: skip


def _serve(server: ReviewServer, out: Output, *, open_browser: bool, as_json: bool) -> None:
    """Answer until Ctrl-C."""
    import contextlib

    url = server.access.url
    pictures = len(server.session.kept.pictures)
    out.result(
        {"url": url, "pictures": pictures},
        [f"{pictures} pictures: {url}", "Ctrl-C ends it; every label is saved at once"],
        as_json=as_json,
    )
    with contextlib.ExitStack() as opened:
        if open_browser:
            from ssn_edge.review.browser import open_page

            opened.enter_context(open_page(url))
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def export_lines(done: Export) -> list[str]:
    """An export for a terminal."""
    lines = [
        f"{done.folder}: {done.good} good, {done.defective} defective ({done.with_mask} with a "
        f"rough mask); {done.added} added, {done.changed} changed, {done.removed} removed"
    ]
    left = ", ".join(f"{count} {state}" for state, count in done.left_out.items() if count)
    if left:
        lines.append(f"  left out: {left}")
    return [*lines, f"  next: ssn-edge data check {done.folder}"]


def summary_lines(found: Summary) -> list[str]:
    """A review's state for a terminal."""
    from ssn_edge.review.summary import BIASED, STATES

    lines = [f"{found.pictures} pictures, {found.count('unlabelled')} without a label"]
    for why, row in found.by_why.items():
        counts = ", ".join(f"{row[state]} {state}" for state in STATES if row[state])
        kept = sum(row.values())
        logged = found.logged.get(why)
        of = "" if logged is None else f" of {logged} in the log"
        lines.append(f"  {why}: {kept}{of}: {counts}")
    people = ", ".join(f"{who} {count}" for who, count in found.people.items())
    if people:
        lines.append(f"  labels by {people}")
    lines.append(f"  passed and called defective: {found.missed}")
    lines.append(f"  failed and called good: {found.false_rejects}")
    lines += [f"  {line}" for line in _rate_lines(found)]
    if found.gone:
        lines.append(f"  {found.gone} labelled pictures are no longer kept")
    if found.torn_lines:
        lines.append(f"  {found.torn_lines} lines of the labels were torn and count for nothing")
    return [*lines, f"  {BIASED}"]


def _rate_lines(found: Summary) -> list[str]:
    rate = found.escapes
    if rate is None:
        return ["no rate: no picture was kept at random"]
    left = ""
    if rate.open:
        left = f"; {rate.open} have no label yet and are counted both ways"
    return [
        f"defective among parts that passed, not near the threshold: {rate.defective} of "
        f"{rate.pictures} drawn by lot, {100 * rate.low:.2f} to {100 * rate.high:.2f} % of all "
        f"({100 * rate.confidence:.0f} % exact interval{left})"
    ]


def _login_name() -> str:
    from ssn_edge_runtime.errors import ConfigError

    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError(
            "this user has no login name; say whose labels they are: --who NAME"
        ) from error


def _choice(option: str, text: str, choices: type[_Choice]) -> _Choice:
    from ssn_edge_runtime.errors import ConfigError

    try:
        return choices(text)
    except ValueError:
        known = ", ".join(str(each.value) for each in choices)
        raise ConfigError(f"{option} {text}: one of {known} is wanted") from None
