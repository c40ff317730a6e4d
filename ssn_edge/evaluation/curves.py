"""ROC, precision-recall and FROC curve of a report, as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from ssn_edge.evaluation.axes import Axis, line_path, number_text, ticks
from ssn_edge_calibrate.metrics import Points

WIDTH, HEIGHT = 300, 300
_X = Axis(0, 1, 44, WIDTH - 14)
_Y = Axis(0, 1, HEIGHT - 46, 12)


def roc_svg(points: Points, operating_point: tuple[float, float] | None) -> Markup:
    """Draw the ROC curve, straight between its points, with chance as a thin diagonal.

    Args:
        points: (false-positive rate, true-positive rate), as `roc_points` gives them.
        operating_point: Where the image threshold stands, or None to draw none.
    """
    chance = f'<path class="chance" d="{line_path([(0, 0), (1, 1)], _X, _Y)}"/>'
    return _curve_svg(
        "ROC curve", ("good parts rejected", "defects found"), points, operating_point, chance
    )


def precision_recall_svg(points: Points, operating_point: tuple[float, float] | None) -> Markup:
    """Draw the precision-recall curve in steps, as the average precision sums it.

    Args:
        points: (recall, precision), as `precision_recall_points` gives them.
        operating_point: Where the image threshold stands, or None to draw none.
    """
    steps: list[tuple[float, float]] = [(0.0, points[0][1])] if points else []
    for recall, precision in points:
        steps += [(steps[-1][0], precision), (recall, precision)]
    return _curve_svg("Precision-recall curve", ("recall", "precision"), steps, operating_point, "")


def froc_svg(points: Points, operating_point: tuple[float, float] | None) -> Markup:
    """Draw the FROC curve, straight between its points.

    Args:
        points: (false regions a picture, share of defect regions found), as `froc_points` gives.
        operating_point: Where the pixel threshold stands, or None to draw none.
    """
    reached = [across for across, _ in points]
    if operating_point is not None:
        reached.append(operating_point[0])
    most = max(reached, default=0.0)
    across = Axis(0, most if most > 0 else 1.0, _X.start, _X.end)
    if points and points[-1][1] == 1:  # none is left to find: it stays so
        points = (*points, (across.high, 1.0))
    return _curve_svg(
        "FROC curve",
        ("false regions a picture", "regions found"),
        points,
        operating_point,
        "",
        across,
    )


def _curve_svg(
    name: str,
    axis_names: tuple[str, str],
    points: Iterable[tuple[float, float]],
    operating_point: tuple[float, float] | None,
    below: str,
    across: Axis = _X,
) -> Markup:
    """A curve with its axes; `across` may reach beyond 1."""
    left, right, bottom, top = _X.start, _X.end, _Y.start, _Y.end
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">']
    quarters = (0, 0.25, 0.5, 0.75, 1)
    for value in quarters if across is _X else ticks(across.low, across.high, 4):
        x, text = across.place(value), number_text(value)
        parts.append(
            f'<path class="grid" d="M{x} {bottom:g}V{top:g}"/>'
            f'<text class="tick" text-anchor="middle" x="{x}" y="{bottom + 16:g}">{text}</text>'
        )
    for value in quarters:
        y, text = _Y.place(value), number_text(value)
        parts.append(
            f'<path class="grid" d="M{left:g} {y}H{right:g}"/>'
            f'<text class="tick" text-anchor="end" x="{left - 6:g}" y="{y + 4:g}">{text}</text>'
        )
    middle = (bottom + top) / 2
    parts.append(
        f'<text class="label" text-anchor="middle" x="{(left + right) / 2:g}" '
        f'y="{HEIGHT - 10}">{axis_names[0]}</text>'
        f'<text class="label" text-anchor="middle" transform="rotate(-90 11 {middle:g})" '
        f'x="11" y="{middle:g}">{axis_names[1]}</text>'
        f'{below}<path class="curve" d="{line_path(points, across, _Y)}"/>'
    )
    if operating_point is not None:
        x, y = across.place(operating_point[0]), _Y.place(operating_point[1])
        parts.append(
            f'<circle class="operating" cx="{x}" cy="{y}" r="5">'
            "<title>at the threshold</title></circle>"
        )
    return Markup("".join([*parts, "</svg>"]))  # numbers and our own words only
