"""`ssn-edge settings`: what was fitted or chosen on this device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssn_edge.cli.console import Output, reporting
from ssn_edge.cli.options import (
    EngineOption,
    JsonOption,
    PackageOption,
    PrecisionOption,
    RequireSignatureOption,
    TrustOption,
    parse_decimals,
    parse_polygon,
    parse_share,
    parse_words,
    project_settings,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.zone_settings import ZoneChange
    from ssn_edge_runtime.settings import DeviceSettings
    from ssn_edge_runtime.settings_store import SettingsStore

app = typer.Typer(no_args_is_help=True, help="Thresholds, regions, recipes, limits of this device.")

SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="The file; without it settings.json, here.")
]


@app.command()
def show(
    context: typer.Context, settings: SettingsOption = None, as_json: JsonOption = False
) -> None:
    """Show the settings in force.

    Example: ssn-edge settings show
    """
    with reporting(context) as out:
        from ssn_edge_runtime.errors import ConfigError

        store = _store(settings)
        current = store.current()
        if current is None:
            raise ConfigError(
                f"there are no settings {store.path}; make them: ssn-edge settings set"
            )
        _print(out, [current], as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    package: PackageOption = None,
    settings: SettingsOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    recipe: Annotated[str | None, typer.Option(help="Change this recipe only.")] = None,
    image_threshold: Annotated[
        float | None, typer.Option(help="A logit; a score at it fails.")
    ] = None,
    pixel_threshold: Annotated[
        float | None, typer.Option(help="A logit; a map value at it is a defect.")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Camera pixels that fail a part; 0 for none.")
    ] = None,
    review: Annotated[
        str | None, typer.Option(help="LOW,HIGH: logits for a person to review; none for none.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Grey PNG (0 is not judged) or JSON of polygons; none for none."),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(help="Thresholds, area and region are of this part of the frame only."),
    ] = None,
    zone_polygon: Annotated[
        list[str] | None,
        typer.Option(help="Where the zone lies: X,Y,X,Y,X,Y in camera pixels; several in turn."),
    ] = None,
    remove_zone: Annotated[str | None, typer.Option(help="Name of a zone that is to go.")] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(help="Trigger to verdict; 0 for none.")
    ] = None,
    alarm_after: Annotated[int | None, typer.Option(help="Rejects in a row; 0 for never.")] = None,
    halt_after: Annotated[int | None, typer.Option(help="Rejects in a row; 0 for never.")] = None,
    alarm_reject_rate: Annotated[
        str | None, typer.Option(help="Share of rejects, as 5%; 0 for never.")
    ] = None,
    halt_reject_rate: Annotated[
        str | None, typer.Option(help="Share of rejects, as 20%; 0 for never.")
    ] = None,
    alarm_drift: Annotated[
        int | None,
        typer.Option(help="One false drift alarm in so many parts at most; 0 for no alarm."),
    ] = None,
    max_temperature: Annotated[
        float | None, typer.Option(help="Degrees C; 0 for what the device calls critical.")
    ] = None,
    shifts: Annotated[str | None, typer.Option(help="Local times, as 06:00,14:00,22:00.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Of the shifts, as Europe/Berlin.")] = None,
    note: Annotated[str, typer.Option(help="Why, for people.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Begin anew, for another package.")] = False,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save the next version of the settings; a line that runs takes it between two parts.

    Thresholds are bound to the engine that runs here: without any option, those that are there are
    taken over for an engine that was built again.

    Example: ssn-edge settings set --image-threshold 2.1 --package part.ssn

    Example: ssn-edge settings set --zone weld --zone-polygon 10,10,90,10,90,60 --image-threshold 1
    """
    with reporting(context) as out:
        from ssn_edge.device_settings import SettingsChange, change_settings
        from ssn_edge.project import find_package

        project = project_settings().run
        line: dict[str, Any] = {
            "deadline_ms": _off(deadline_ms),
            "alarm_after": _off(alarm_after),
            "halt_after": _off(halt_after),
            "alarm_reject_rate": _share(alarm_reject_rate, "--alarm-reject-rate"),
            "halt_reject_rate": _share(halt_reject_rate, "--halt-reject-rate"),
            "alarm_drift": _off(alarm_drift),
            "max_temperature_c": _off(max_temperature),
            "shifts": None if shifts is None else parse_words(shifts, "--shifts"),
            "time_zone": time_zone,
        }
        named = _zone_change(
            zone,
            zone_polygon or [],
            remove_zone,
            region=region,
            image_threshold=image_threshold,
            pixel_threshold=pixel_threshold,
            min_area_px=min_area,
            review=review,
        )
        if zone is not None:  # then they are the zone's
            image_threshold = pixel_threshold = min_area = region = None
        store = _store(settings)
        before = store.current()
        after = change_settings(
            store,
            SettingsChange(
                package=find_package(package),
                engine=engine or project.engine,
                precision=precision or project.precision,
                recipe=recipe,
                image_threshold=image_threshold,
                pixel_threshold=pixel_threshold,
                min_area_px=min_area,
                review=None if review is None else _review_zone(review),
                region=None if region is None else Path("" if region == "none" else region),
                line={key: _value(each) for key, each in line.items() if each is not None},
                note=note,
                is_new=new,
                zone=named,
                trust=whom_to_trust(trust, is_required=require_signature),
            ),
        )
        if before == after:
            out.say("nothing changed, no version was saved")
        _print(out, [after], as_json=as_json)


@app.command()
def history(
    context: typer.Context, settings: SettingsOption = None, as_json: JsonOption = False
) -> None:
    """List the versions that are kept, oldest first.

    Example: ssn-edge settings history
    """
    with reporting(context) as out:
        _print(out, list(_store(settings).history()), as_json=as_json, as_list=True)


@app.command()
def rollback(
    context: typer.Context,
    to: Annotated[int | None, typer.Option(help="Version; without it the one before.")] = None,
    settings: SettingsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the decisions: what was taken is noted there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring an older version back, as it was; a line that requires signatures takes it, too.

    Example: ssn-edge settings rollback --to 3
    """
    with reporting(context) as out:
        from ssn_edge.trust import note_settings_rollback, state_path

        project = project_settings()
        state = state_path(project.trust, output or Path(project.run.output))
        # Noted first: the line sees the file as soon as it is there.
        back = _store(settings).roll_back(
            to, before=lambda older: note_settings_rollback(state, older)
        )
        _print(out, [back], as_json=as_json)


_NEVER = object()
"""Stands for null, which None cannot: it leaves a value as it is."""


def _off(number: float | None) -> object | None:
    return _NEVER if number == 0 else number


def _share(text: str | None, option: str) -> object | None:
    if text is None:
        return None
    return _NEVER if text.rstrip("%") == "0" else parse_share(text, option)


def _value(each: object) -> object:
    return None if each is _NEVER else each


def _review_zone(text: str) -> tuple[float, ...]:
    return () if text == "none" else parse_decimals(text, "--review")


def _zone_change(
    zone: str | None,
    polygons: list[str],
    removed: str | None,
    *,
    region: str | None,
    image_threshold: float | None,
    pixel_threshold: float | None,
    min_area_px: float | None,
    review: str | None,
) -> ZoneChange | None:
    """What the options say of one zone; None for nothing."""
    from ssn_edge.zone_settings import ZoneChange
    from ssn_edge_runtime.errors import ConfigError

    if removed is not None and (zone is not None or polygons):
        raise ConfigError("--remove-zone removes a zone, --zone changes one; give one of them")
    if removed is not None:
        return ZoneChange(removed, is_removed=True)
    if zone is None:
        if polygons:
            raise ConfigError("--zone-polygon is where a zone lies; name it with --zone NAME")
        return None
    if review is not None:
        raise ConfigError("--review is for all of the frame; set it in a command without --zone")
    return ZoneChange(
        zone,
        region=None if region is None else Path("" if region == "none" else region),
        polygons=tuple(parse_polygon(text, "--zone-polygon") for text in polygons),
        image_threshold=image_threshold,
        pixel_threshold=pixel_threshold,
        min_area_px=min_area_px,
    )


def _store(named: Path | None) -> SettingsStore:
    from ssn_edge_runtime.settings_store import SettingsStore

    return SettingsStore(named or Path(project_settings().run.settings))


def _print(
    out: Output, versions: list[DeviceSettings], *, as_json: bool, as_list: bool = False
) -> None:
    import json

    from ssn_edge.device_settings import settings_lines
    from ssn_edge_runtime.settings_json import settings_to_json

    documents = [json.loads(settings_to_json(each)) for each in versions]
    lines = [line for each in versions for line in settings_lines(each)]
    document = {"versions": documents} if as_list else documents[0]
    out.result(document, lines or ["no version is kept"], as_json=as_json)
