"""What a run is asked for, before anything is opened."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ssn_edge.line_request import LineRequest
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.encoder import EncoderRules
from ssn_edge_runtime.settings import ALARM_EVERY_PARTS, DeviceSettings, LineSettings
from ssn_edge_runtime.settings_json import settings_to_json

MS = 1_000_000


def request(**more: object) -> LineRequest:
    return LineRequest("test:", Path("part.ssn"), Path("out"), **more)  # type: ignore[arg-type]


def test_the_ejector_s_delay_is_a_time_or_a_number_of_counts() -> None:
    rules = request(ejector_delay_ms=300, ejector_window_ms=20).line_options().rules
    assert (rules.ejector_delay_ns, rules.ejector_window_ns) == (300 * MS, 20 * MS)
    rules = (
        request(ejector_delay_counts=5000, ejector_window_counts=60, encoder_silent_ms=40)
        .line_options()
        .rules
    )
    assert rules.encoder == EncoderRules(5000, 60, 40 * MS)
    assert request().line_options().rules.encoder is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ejector_window_ms": 20.0}, "--ejector-window-ms needs"),
        ({"ejector_delay_counts": 5000}, "go together"),
        ({"ejector_window_counts": 50}, "go together"),
        ({"ejector_delay_counts": 5000, "ejector_window_counts": 0}, "window of 0 counts"),
        (
            {"ejector_delay_counts": 5, "ejector_window_counts": 9, "ejector_delay_ms": 5.0},
            "not both",
        ),
        ({"listen": "0.0.0.0:80"}, "other machines could reach"),
        *(
            ({name: number, **beside}, f"a time of {number} ms")
            for number in (math.nan, math.inf)
            for name, beside in (
                ("deadline_ms", {}),
                ("min_interval_ms", {}),
                ("exposure_delay_ms", {"exposure_window_ms": 1.0}),
                ("exposure_window_ms", {}),
                ("ejector_delay_ms", {}),
                ("ejector_window_ms", {"ejector_delay_ms": 1.0}),
                ("encoder_silent_ms", {"ejector_delay_counts": 1, "ejector_window_counts": 9}),
            )
        ),
        ({"trigger": "rate:1e-320"}, "a rate of"),
        ({"trigger": "rate:nan"}, "a rate of"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request(**wrong)


def test_drift_alarms_are_as_rare_as_the_settings_say_unless_the_command_line_does(
    tmp_path: Path,
) -> None:
    def every(alarm_drift: int | None, settings: Path | None) -> object:
        monitor = request(alarm_drift=alarm_drift, settings=settings).drift_monitor()
        return None if monitor is None else monitor.to_dict()["false_alarm_every_parts"]

    assert every(None, None) == ALARM_EVERY_PARTS
    for stated in (50_000, None):
        line = LineSettings(alarm_drift=stated)
        path = tmp_path / f"{stated}.json"
        path.write_bytes(settings_to_json(DeviceSettings("ab" * 32, line=line)))
        assert every(None, path) == stated
        assert every(2000, path) == 2000
        assert every(0, path) is None
    with pytest.raises(ConfigError, match="1000 or more are wanted"):
        every(7, None)


def test_with_a_server_the_control_socket_is_there_whatever_triggers() -> None:
    assert request().control_path is None
    assert request(listen="127.0.0.1:0").control_path == Path("out/control.sock")


@pytest.mark.parametrize(
    "ejector",
    [{"ejector_delay_ms": 300.0}, {"ejector_delay_counts": 50, "ejector_window_counts": 9}],
)
def test_a_verdict_that_a_plc_reads_at_once_does_not_go_with_a_pass_that_may_still_be_withheld(
    ejector: dict[str, float],
) -> None:
    plc = {"modbus": "127.0.0.1:5020", "trigger": "software"}
    with pytest.raises(ConfigError, match="knows the way to its ejector itself"):
        request(**plc, **ejector)
    assert request(**plc, **ejector, gpio="gpiochip0:7").gpio is not None
    assert request(**plc).modbus is not None


def test_stdin_is_no_trigger_of_a_plc() -> None:
    with pytest.raises(ConfigError, match="add --trigger software"):
        request(modbus="127.0.0.1:5020", trigger="stdin")
