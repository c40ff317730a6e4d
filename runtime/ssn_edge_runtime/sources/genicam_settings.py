"""A GenICam camera's settings: written, read back, refused with what the camera offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sources.options import SourceOptions, TriggerMode

FORMATS = ("Mono8", "BGR8", "RGB8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8")
"""Pixel formats that are read; 10, 12 and 16 bit are refused, not cut down in silence."""
_OLD_NAMES = {"RGB8Packed": "RGB8", "BGR8Packed": "BGR8"}


@dataclass(frozen=True, slots=True)
class _Number:
    """How Aravis reads and writes one of the numbers that have an automatic."""

    key: str
    is_available: Callable[[], bool]
    has_auto: Callable[[], bool]
    get_auto: Callable[[], Any]
    set_auto: Callable[[Any], None]
    get: Callable[[], float]
    set: Callable[[float], None]
    bounds: Callable[[], tuple[float, float]]


def modern_name(pixel_format: str) -> str:
    """A pixel format as the present standard calls it."""
    return _OLD_NAMES.get(pixel_format, pixel_format)


def apply_settings(aravis: Any, camera: Any, options: SourceOptions, name: str) -> None:
    """Set a camera up, and read back what it is set to; what is not asked for stays as it is.

    Raises:
        ConfigError: The camera does not take a setting, or gives a format that is not read here.
        GLib.Error: It does not answer.
    """
    if options.format is not None:
        offered = ", ".join(camera.dup_available_pixel_formats_as_strings())
        _write(
            name,
            f"format={options.format}",
            lambda: camera.set_pixel_format_from_string(options.format),
            lambda: camera.get_pixel_format_as_string() == options.format,
            offered,
        )
    _apply_size(camera, options, name)
    for number in _numbers(camera):
        wanted = options.exposure if number.key == "exposure" else options.gain
        if wanted is not None:
            _apply_number(number, wanted, aravis.Auto, name)
    if options.fps is not None:
        fps = options.fps
        low, high = camera.get_frame_rate_bounds()
        _write(
            name,
            f"fps={fps:g}",
            lambda: camera.set_frame_rate(fps),
            lambda: _is_near(fps, camera.get_frame_rate()),
            f"{low:g} to {high:g}",
            is_within=low <= fps <= high,
        )
    _apply_trigger(camera, options, name)
    found = camera.get_pixel_format_as_string()
    if modern_name(found) not in FORMATS:
        offered = ", ".join(
            each
            for each in camera.dup_available_pixel_formats_as_strings()
            if modern_name(each) in FORMATS
        )
        raise ConfigError(
            f"{name}: gives {found}, which is not read here; set format= to one of "
            f"{offered or 'none that this camera has'}"
        )


def note_settings(aravis: Any, camera: Any, options: SourceOptions) -> SourceOptions:
    """What a camera is set to now, so that it can be set to it again; all else as asked for."""
    _x, _y, width, height = camera.get_region()
    noted = replace(options, width=width, height=height, format=camera.get_pixel_format_as_string())
    for number in _numbers(camera):
        if number.is_available():
            is_auto = number.has_auto() and number.get_auto() != aravis.Auto.OFF
            value: Any = "auto" if is_auto else float(number.get())
            noted = (
                replace(noted, exposure=value)
                if number.key == "exposure"
                else replace(noted, gain=value)
            )
    if options.trigger is TriggerMode.OFF and camera.is_frame_rate_available():
        noted = replace(noted, fps=float(camera.get_frame_rate()))
    return noted


def _apply_size(camera: Any, options: SourceOptions, name: str) -> None:
    x, y, width, height = camera.get_region()
    wanted = (options.width or width, options.height or height)
    if wanted == (width, height):
        return
    bounds = (camera.get_width_bounds(), camera.get_height_bounds())
    _write(
        name,
        f"size {wanted[0]} x {wanted[1]}",
        lambda: camera.set_region(x, y, *wanted),
        lambda: tuple(camera.get_region())[2:] == wanted,
        " x ".join(f"({low} to {high})" for low, high in bounds),
        is_within=all(
            low <= side <= high for side, (low, high) in zip(wanted, bounds, strict=True)
        ),
    )


def _apply_number(number: _Number, wanted: Any, auto: Any, name: str) -> None:
    if not number.is_available():
        raise ConfigError(f"{name}: {number.key}={wanted}: this camera has no {number.key}")
    if wanted == "auto":
        _write(
            name,
            f"{number.key}=auto",
            lambda: number.set_auto(auto.CONTINUOUS),
            lambda: number.get_auto() == auto.CONTINUOUS,
            "no such automatic",
            is_within=number.has_auto(),
        )
        return
    if number.has_auto() and number.get_auto() != auto.OFF:
        number.set_auto(auto.OFF)
    low, high = number.bounds()
    _write(
        name,
        f"{number.key}={wanted:g}",
        lambda: number.set(wanted),
        lambda: _is_near(wanted, number.get()),
        f"{low:g} to {high:g}",
        is_within=low <= wanted <= high,
    )


def _apply_trigger(camera: Any, options: SourceOptions, name: str) -> None:
    if options.trigger is TriggerMode.OFF:
        if camera.is_feature_available("TriggerMode"):
            camera.clear_triggers()
        return
    source = "Software" if options.trigger is TriggerMode.SOFTWARE else options.line or "Line1"
    _write(
        name,
        f"trigger from {source}",
        lambda: camera.set_trigger(source),
        lambda: camera.get_trigger_source() == source,
        ", ".join(camera.dup_available_enumerations_as_strings("TriggerSource")),
    )


def _write(
    name: str,
    what: str,
    write: Callable[[], object],
    is_so: Callable[[], bool],
    offer: str,
    *,
    is_within: bool = True,
) -> None:
    # Aravis writes whatever it is told, and not every camera refuses it: bounds are ours to keep.
    why = "out of bounds"
    if is_within:
        try:
            write()
            why = "the camera has another one"
            if is_so():
                return
        except Exception as error:  # noqa: BLE001 - GLib.Error, whose class is known only with gi
            why = glib_text(error)
    raise ConfigError(f"{name}: {what} is not taken ({why}); the camera offers {offer}")


def _is_near(wanted: float, found: float) -> bool:
    # Cameras round to steps of their own; half a percent is none of a wrong setting's doing.
    return abs(wanted - found) <= max(5e-3 * abs(wanted), 1e-6)


def _numbers(camera: Any) -> tuple[_Number, _Number]:
    return (
        _Number(
            "exposure",
            camera.is_exposure_time_available,
            camera.is_exposure_auto_available,
            camera.get_exposure_time_auto,
            camera.set_exposure_time_auto,
            camera.get_exposure_time,
            camera.set_exposure_time,
            camera.get_exposure_time_bounds,
        ),
        _Number(
            "gain",
            camera.is_gain_available,
            camera.is_gain_auto_available,
            camera.get_gain_auto,
            camera.set_gain_auto,
            camera.get_gain,
            camera.set_gain,
            camera.get_gain_bounds,
        ),
    )


def glib_text(error: object) -> str:
    """What a GLib error says, without its numbers."""
    return str(getattr(error, "message", error)).strip()
