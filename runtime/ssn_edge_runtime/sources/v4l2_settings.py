"""A V4L2 camera's settings: written, read back, refused with what the camera offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources.options import Auto, SourceOptions
from ssn_edge_runtime.sources.v4l2_device import (
    AUTOGAIN,
    EXPOSURE_ABSOLUTE,
    EXPOSURE_AUTO,
    GAIN,
    PictureFormat,
    V4l2Device,
)
from ssn_edge_runtime.sources.v4l2_pixels import READABLE

EXPOSURE_UNIT_US = 100
_MANUAL = 1
_AUTOMATIC = (3, 0)
"""Aperture priority, then fully automatic: cameras with a fixed aperture know the first only."""


@dataclass(frozen=True, slots=True)
class V4l2Settings:
    """What a camera is set to.

    Args:
        pixel_format: Size and format.
        fps: Frames a second; None where the driver does not tell.
        controls: Pairs of control number and value, in the order in which they must be written:
            an automatic is switched off before its value is set.
    """

    pixel_format: PictureFormat
    fps: float | None
    controls: tuple[tuple[int, int], ...]


def apply_settings(device: V4l2Device, options: SourceOptions, name: str) -> V4l2Settings:
    """Set a camera up, and read back what it is set to.

    Args:
        device: The camera.
        options: What is asked for; what is not asked for stays as it is.
        name: The camera's, for messages.

    Raises:
        ConfigError: The camera does not take a setting, or gives a format that is not read here.
        OSError: The driver fails.
    """
    pixel_format = _set_format(device, options, name)
    if options.fps is not None:
        _attempt(name, f"fps={options.fps:g}", lambda: device.set_fps(options.fps or 0.0))
        found = device.fps()
        if found is None or abs(found - options.fps) > 0.01 * options.fps:
            raise ConfigError(
                f"{name}: fps={options.fps:g} is not taken; the camera runs at "
                f"{'an unknown rate' if found is None else f'{found:g}'} with "
                f"{pixel_format.fourcc} {pixel_format.width}x{pixel_format.height}"
            )
    if options.exposure is not None:
        _set_exposure(device, options.exposure, name)
    if options.gain is not None:
        _set_gain(device, options.gain, name)
    return read_settings(device)


def read_settings(device: V4l2Device) -> V4l2Settings:
    """What a camera is set to now."""
    controls = []
    for automatic, value in ((EXPOSURE_AUTO, EXPOSURE_ABSOLUTE), (AUTOGAIN, GAIN)):
        is_automatic = False
        if device.control(automatic) is not None:
            state = device.value(automatic)
            controls.append((automatic, state))
            is_automatic = state != _MANUAL if automatic == EXPOSURE_AUTO else state != 0
        # What an automatic chose is not a setting: another day it would choose otherwise.
        if not is_automatic and device.control(value) is not None:
            controls.append((value, device.value(value)))
    return V4l2Settings(device.format(), device.fps(), tuple(controls))


def restore_settings(device: V4l2Device, settings: V4l2Settings, name: str) -> None:
    """Set a camera that came back to what it was set to before.

    Raises:
        SourceError: It does not take it any more.
        OSError: The driver fails.
    """
    wanted = settings.pixel_format
    device.set_format(wanted.width, wanted.height, wanted.fourcc)
    if settings.fps is not None:
        device.set_fps(settings.fps)
    for identity, value in settings.controls:
        device.set_value(identity, value)
    found = read_settings(device)
    if found != settings:
        raise SourceError(
            f"{name}: is not what it was before it was lost: {_text(found)} now, "
            f"{_text(settings)} before"
        )


def _set_format(device: V4l2Device, options: SourceOptions, name: str) -> PictureFormat:
    current = device.format()
    offered = device.formats()
    readable = [each for each in offered if each in READABLE]
    fourcc = options.format or current.fourcc
    if options.format is None and fourcc not in READABLE and readable:
        fourcc = readable[0]
    if fourcc not in READABLE:
        raise ConfigError(
            f"{name}: gives {fourcc}, which is not read here; of {', '.join(READABLE)} it offers "
            f"{', '.join(readable) or 'none'}"
        )
    width, height = options.width or current.width, options.height or current.height
    wanted = (width, height, fourcc)
    if wanted != (current.width, current.height, current.fourcc):
        text = f"format={fourcc} at {width}x{height}"
        _attempt(name, text, lambda: device.set_format(*wanted))
        current = device.format()
        if (current.width, current.height, current.fourcc) != wanted:
            if fourcc not in offered:
                offer = "the formats " + ", ".join(offered)
            else:
                offer = f"with {fourcc} the sizes " + ", ".join(device.sizes(fourcc)[:40])
            raise ConfigError(
                f"{name}: {text} is not taken, it gives {current.fourcc} "
                f"{current.width}x{current.height}; it offers {offer}"
            )
    return current


def _set_exposure(device: V4l2Device, exposure: float | Auto, name: str) -> None:
    if exposure == "auto":
        _set_automatic(device, EXPOSURE_AUTO, _AUTOMATIC, f"{name}: exposure=auto")
        return
    assert not isinstance(exposure, str)
    control = device.control(EXPOSURE_ABSOLUTE)
    if control is None:
        raise ConfigError(
            f"{name}: exposure={exposure:g}: this camera has no exposure time in microseconds"
        )
    if device.control(EXPOSURE_AUTO) is not None:
        device.set_value(EXPOSURE_AUTO, _MANUAL)
    units = round(exposure / EXPOSURE_UNIT_US)
    low, high = control.minimum * EXPOSURE_UNIT_US, control.maximum * EXPOSURE_UNIT_US
    _set_number(
        device,
        EXPOSURE_ABSOLUTE,
        units,
        f"{name}: exposure={exposure:g}",
        f"{low} to {high} microseconds in steps of {control.step * EXPOSURE_UNIT_US}",
    )


def _set_gain(device: V4l2Device, gain: float | Auto, name: str) -> None:
    if gain == "auto":
        _set_automatic(device, AUTOGAIN, (1,), f"{name}: gain=auto")
        return
    assert not isinstance(gain, str)
    control = device.control(GAIN)
    if control is None:
        raise ConfigError(f"{name}: gain={gain:g}: this camera has no gain")
    offer = f"{control.minimum} to {control.maximum} in steps of {control.step}"
    if gain != int(gain):
        raise ConfigError(f"{name}: gain={gain:g}: a whole number is wanted, {offer}")
    if device.control(AUTOGAIN) is not None:
        device.set_value(AUTOGAIN, 0)
    _set_number(device, GAIN, int(gain), f"{name}: gain={gain:g}", offer)


def _set_number(device: V4l2Device, identity: int, value: int, what: str, offer: str) -> None:
    try:
        device.set_value(identity, value)
        found = device.value(identity)
    except OSError as error:
        raise ConfigError(f"{what} is not taken ({error.strerror}); it offers {offer}") from error
    if found != value:
        raise ConfigError(f"{what} is not taken, the camera has {found} instead; it offers {offer}")


def _set_automatic(device: V4l2Device, identity: int, states: tuple[int, ...], what: str) -> None:
    if device.control(identity) is not None:
        for state in states:
            try:
                device.set_value(identity, state)
            except OSError:
                continue
            if device.value(identity) == state:
                return
    raise ConfigError(f"{what} is not taken; this camera has no such automatic")


def _attempt(name: str, what: str, change: Callable[[], None]) -> None:
    try:
        change()
    except OSError as error:
        raise ConfigError(f"{name}: {what} is not taken ({error.strerror})") from error


def _text(settings: V4l2Settings) -> str:
    each = settings.pixel_format
    rate = "" if settings.fps is None else f" at {settings.fps:g} fps"
    controls = ", ".join(f"{number:#x}={value}" for number, value in settings.controls)
    return f"{each.fourcc} {each.width}x{each.height}{rate} ({controls or 'no controls'})"
