"""The gate's page: what each exported model makes of held-out pictures, beside the trained net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssn_edge.evaluation.axes import MINUS
from ssn_edge.evaluation.overlays import (
    PREDICTED_RGB,
    TRUTH_RGB,
    HeatScale,
    data_uri,
    fit_heat_scale,
    heat_colours,
    heat_panel,
    outline_panel,
    picture_panel,
)
from ssn_edge.evaluation.page import read_resource, render_page
from ssn_edge_export import GateReport
from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_worst import View, WorstPicture
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.files import write_whole

_HERE = "ssn_edge.evaluation"


@dataclass(frozen=True, slots=True)
class _Panel:
    """One judge's map of a picture, as the page shows it."""

    title: str
    verdict: str
    distance: float | None
    uri: str | None
    turned: bool
    largest: float | None  # difference of the map from the net's
    why: str


def write_gate_page(report: GateReport, path: Path) -> Path:
    """Write the page; it appears whole or not at all.

    Args:
        report: What the gate measured, whether it refused or not.
        path: The file; its folder is made.

    Returns:
        `path`.

    Raises:
        StorageError: It cannot be written.
    """
    write_whole(path, render_gate_page(report).encode())
    return path


def render_gate_page(report: GateReport) -> str:
    """The page as HTML text."""
    maps = [
        view.anomaly_map
        for picture in report.worst
        for view in picture.views[:1]
        if view.anomaly_map is not None
    ]
    scale = fit_heat_scale(maps, report.pixel_threshold)
    return render_page(
        read_resource(_HERE, "gate.html.jinja"),
        style=read_resource(_HERE, "gate.css"),
        filters={"logit": _logit, "small": _small},
        context={
            "report": report,
            "findings": {
                column.column.title: (
                    column.findings(report.limits) if column.column.is_packed else ()
                )
                for column in report.columns
            },
            "metrics": _metric_names(report.columns),
            "change": _change,
            "flips": sorted(
                ((each.column.title, flip) for each in report.columns for flip in each.flips),
                key=lambda pair: (-abs(pair[1].net_distance), pair[1].picture, pair[0]),
            ),
            "scale": scale,
            "threshold_share": (scale.pixel_threshold - scale.low) / (scale.high - scale.low),
            "heat_colours": heat_colours(9),
            "pictures": [_shown(picture, scale) for picture in report.worst],
        },
    )


def _metric_names(columns: tuple[ColumnReport, ...]) -> list[str]:
    return list(dict.fromkeys(metric.name for each in columns for metric in each.metrics))


def _shown(picture: WorstPicture, scale: HeatScale) -> dict[str, object]:
    panel = picture_panel(picture.pixels)
    truth = picture.truth is not None and bool(picture.truth.any())
    plain = panel if picture.truth is None else outline_panel(panel, picture.truth, TRUTH_RGB)
    return {
        "name": picture.name,
        "label": "defective" if picture.label else "good part",
        "reasons": picture.reasons,
        "uri": data_uri(plain),
        "has_truth": truth,
        "panels": [_panel(view, picture.views[0], panel, scale) for view in picture.views],
    }


def _panel(view: View, of_net: View, panel: ByteImage, scale: HeatScale) -> _Panel:
    uri, largest = None, None
    if view.anomaly_map is not None and view.mask is not None:
        heat = heat_panel(panel, view.anomaly_map, scale)
        uri = data_uri(outline_panel(heat, view.mask, PREDICTED_RGB))
        if view is not of_net and of_net.anomaly_map is not None:
            largest = float(np.abs(view.anomaly_map - of_net.anomaly_map).max())
    return _Panel(
        title=view.title,
        verdict=view.verdict,
        distance=view.distance,
        uri=uri,
        turned=view.verdict != of_net.verdict,
        largest=largest,
        why=view.why,
    )


def _logit(value: float) -> str:
    """A signed logit: two digits behind the point, or two that count."""
    text = f"{value:+.2f}" if abs(value) >= 0.1 or not value else f"{value:+.2g}"
    return text.replace("-", MINUS)


def _small(value: float) -> str:
    """A difference, with two digits that count."""
    return f"{value:.2g}" if value >= 1e-3 or not value else f"{value:.0e}"


def _change(column: ColumnReport, name: str) -> str:
    """A metric's change in points, with its interval."""
    metric = next((each for each in column.metrics if each.name == name), None)
    if metric is None:
        return "not defined"
    text = f"{metric.change_points:+.2f}"
    if metric.interval is not None:
        low, high = (100 * each for each in metric.interval)
        text += f" ({low:+.2f} to {high:+.2f})"
    return text.replace("-", MINUS)
