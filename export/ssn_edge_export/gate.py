"""The gate: nothing goes into a package that decides otherwise than the trained net.

On held-out pictures the net in torch, computed without the export's graph around it, is held
against the exported models of all precisions in all engines of this machine. Beyond the limits
a precision is refused. What was measured goes into the certificates and onto a page for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ssn_edge_export.engines_here import CPU, engines_here, open_here
from ssn_edge_export.gate_columns import EXACT_PRECISIONS, Column, ColumnReport, compare
from ssn_edge_export.gate_held_out import ImageScores, score_held_out
from ssn_edge_export.gate_judged import Judged, judge_pictures
from ssn_edge_export.gate_limits import GateLimits
from ssn_edge_export.gate_pictures import GatePicture, Part
from ssn_edge_export.gate_tolerance import Seen, seen_between
from ssn_edge_export.gate_worst import View, WorstPicture, view_of, worst_pictures
from ssn_edge_export.scoring import Progress, ScoredPicture
from ssn_edge_export.verify import Judge
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.preprocess import Geometry

EMULATED = f"{CPU}, halves rounded"
"""Half precision as it really is: see `half_precision_emulation`."""
NET = "trained net in torch"
SEARCH_SHARE = 0.5
"""Of the flip margin's cap, for a search."""


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A model of one precision that asks to go into the package.

    Args:
        precision: Its name in the manifest.
        graph: Which graph it is, such as ``deploy-1``.
        model: The ONNX file's bytes.
        faithful: What gives its scores on a CPU: the file itself, or one that rounds to half
            precision where the file is in halves and a CPU would compute in FP32.
        thresholds: Fitted on the scores that `faithful` gives.
        is_packed: False for a graph that is only compared.
    """

    precision: str
    graph: str
    model: bytes
    faithful: bytes
    thresholds: Thresholds
    is_packed: bool = True

    @property
    def is_emulated(self) -> bool:
        """Whether a CPU computes the file otherwise than the device that it is for."""
        return self.faithful != self.model


@dataclass(frozen=True, slots=True)
class Certified:
    """What the gate found about one contender.

    Args:
        columns: A report for each engine, that of the deciding one first.
        skipped: Engines that cannot load the model, with the reason; they decide nothing.
        findings: What is beyond the limits, with the column's title before it.
        seen: How far the engines are from the deciding one.
    """

    columns: tuple[ColumnReport, ...]
    skipped: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One model in one engine: what a column is measured on."""

    column: Column
    engine: str
    model: bytes
    thresholds: Thresholds


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """All columns of one contender."""

    contender: Contender
    runs: tuple[tuple[_Run, ColumnReport], ...]
    certified: Certified


class Gate:
    """Holds contenders against the net, on the same pictures.

    Args:
        net: The trained net; what is right.
        pictures: To compare on, at least one.
        thresholds: The net's own, those of the FP32 file.
        rule: The package's scoring rule.
        geometry: The package's.
        limits: Beyond which a contender is refused.
        spread: Deviation of held-out normal pictures' scores.
        held_out: All held-out pictures with FP32's scores. The image metrics of other precisions
            are over these: `pictures` are chosen for flips, near the threshold, where every metric
            falls further than over all.
        on_progress: Called with a stage's name, the steps done and their number.
    """

    def __init__(
        self,
        net: Judge,
        pictures: Sequence[GatePicture],
        *,
        thresholds: Thresholds,
        rule: ScoringRule,
        geometry: Geometry,
        limits: GateLimits,
        spread: float,
        held_out: Sequence[ScoredPicture],
        on_progress: Progress,
    ) -> None:
        self._held_out = tuple(held_out)
        self.pictures = tuple(pictures)
        self.limits = limits
        self.spread = spread
        self._rule = rule
        self._geometry = geometry
        self._progress = on_progress
        self._of_net = self._judged(NET, net, thresholds, self.pictures)
        self._measured: list[tuple[_Run, ColumnReport]] = []
        self._accepted: _Measured | None = None

    @property
    def reports(self) -> tuple[ColumnReport, ...]:
        """Of all columns so far, refused ones too, in the order they were measured."""
        return tuple(report for _, report in self._measured)

    def certify(self, contender: Contender) -> Certified:
        """Compare a contender in every engine of this machine.

        Raises:
            ExportError: The net itself gives no verdict on a picture.
            EngineError: ONNX Runtime cannot load the model.
        """
        measured = self._accepted
        if measured is None or measured.contender.model != contender.model:
            measured = self._measure(contender)
        self._measured += measured.runs
        return measured.certified

    def _measure(self, contender: Contender) -> _Measured:
        reports: list[tuple[_Run, ColumnReport]] = []
        skipped: list[tuple[str, str]] = []
        findings: list[str] = []
        deciding: Judged | None = None
        seen = Seen()
        for run in _runs(contender):
            over_all: list[ImageScores] = []
            judged = self._run(run, self.pictures, skipped, over_all)
            if judged is None:
                continue
            report = self._compared(run.column, self._of_net, judged, self.pictures, self.limits)
            for scores in over_all:
                report = scores.in_report(report)
            reports.append((run, report))
            if contender.is_packed:
                title = run.column.title
                findings += [f"{title}: {each}" for each in report.findings(self.limits)]
            if deciding is None:
                deciding = judged
            else:
                seen |= seen_between(deciding, judged)
        columns = tuple(report for _, report in reports)
        certified = Certified(columns, tuple(skipped), tuple(findings), seen)
        return _Measured(contender, tuple(reports), certified)

    def accepts(self, contender: Contender) -> bool:
        """Whether a candidate of a search is within the limits.

        The calibration part is asked first. What it lets pass is held against all pictures, as it
        will be in the end: the test part never prefers one candidate to another, but it may say
        that more layers must stay in float.
        """
        if not self.screens(contender):
            return False
        measured = self._measure(contender)
        if measured.certified.findings:
            return False
        self._accepted = measured
        return True

    def screens(self, contender: Contender) -> bool:
        """Whether a candidate is within stricter limits on the calibration part alone.

        All engines are asked. The cap of the flip margin is half, and the mean change of a score
        must be within it, too: few pictures lie near enough to the threshold to flip. Nor are there
        enough anomalous ones to see I-AUROC fall; so noise is held to what cannot make it fall too
        far.
        """
        strict = replace(
            self.limits,
            max_flip_margin=SEARCH_SHARE * self.limits.max_flip_margin,
            max_noise=min(self.limits.max_noise, self.limits.noise_within_metric_points),
        )
        places = [index for index, each in enumerate(self.pictures) if each.part is not Part.TEST]
        pictures = [self.pictures[index] for index in places]
        of_net = _only(self._of_net, places)
        for run in _runs(contender):
            if run.column.engine == CPU and contender.is_emulated:
                continue  # FP32 arithmetic on the same file: more exact than what was judged
            judged = self._run(run, pictures, [])
            if judged is None:
                continue
            report = self._compared(run.column, of_net, judged, pictures, strict)
            if report.findings(strict) or report.score.mean > strict.max_flip_margin * self.spread:
                return False
        return True

    def worst(self) -> tuple[WorstPicture, ...]:
        """The pictures that people should look at, judged once more by everyone."""
        reasons = worst_pictures(self.reports)
        places = {picture.name: index for index, picture in enumerate(self.pictures)}
        shown = [places[name] for name in reasons]
        pictures = [self.pictures[index] for index in shown]
        views: list[list[View]] = [[] for _ in shown]
        sides = [(NET, _only(self._of_net, shown))]
        for run, _ in self._measured:
            judged = self._run(run, pictures, [])
            if judged is not None:
                sides.append((run.column.title, judged))
        for title, judged in sides:
            distances = judged.distances(self._rule)
            for place, view in enumerate(views):
                view.append(view_of(title, judged, place, float(distances[place])))
        return tuple(
            WorstPicture(
                name=picture.name,
                label=picture.label,
                pixels=picture.pixels,
                reasons=reasons[picture.name],
                truth=picture.truth,
                views=tuple(view),
            )
            for picture, view in zip(pictures, views, strict=True)
        )

    def _run(
        self,
        run: _Run,
        pictures: Sequence[GatePicture],
        skipped: list[tuple[str, str]],
        over_all: list[ImageScores] | None = None,
    ) -> Judged | None:
        """One engine's judgements; into `over_all` go its scores of all held-out pictures."""
        try:
            opened = open_here(
                run.engine,
                run.model,
                self._geometry.input_size_hw,
                precision=run.column.precision,
            )
        except EngineError as error:
            if run.engine == CPU:
                raise
            skipped.append((run.column.title, str(error)))
            return None
        with opened:
            judged = self._judged(run.column.title, opened.infer, run.thresholds, pictures)
            if over_all is not None and run.column.precision not in EXACT_PRECISIONS:
                over_all.append(
                    score_held_out(
                        opened,
                        self._held_out,
                        rule=self._rule,
                        geometry=self._geometry,
                        on_progress=self._progress,
                    )
                )
            return judged

    def _judged(
        self, title: str, judge: Judge, thresholds: Thresholds, pictures: Sequence[GatePicture]
    ) -> Judged:
        def counted(done: int) -> None:
            self._progress(f"verify {title}", done, len(pictures))

        return judge_pictures(
            judge,
            pictures,
            thresholds=thresholds,
            rule=self._rule,
            geometry=self._geometry,
            on_progress=counted,
        )

    def _compared(
        self,
        column: Column,
        of_net: Judged,
        judged: Judged,
        pictures: Sequence[GatePicture],
        limits: GateLimits,
    ) -> ColumnReport:
        return compare(
            column,
            of_net,
            judged,
            pictures,
            rule=self._rule,
            limits=limits,
            spread=self.spread,
        )


def _runs(contender: Contender) -> Iterator[_Run]:
    """What a contender is measured in: first what decides, then each engine with the file."""
    kinds = [(name, name, contender.model) for name in engines_here(contender.precision)]
    if not contender.is_packed:
        kinds = kinds[:1]
    if contender.is_emulated:
        kinds.insert(0, (EMULATED, CPU, contender.faithful))
    for title, engine, model in kinds:
        column = Column(contender.precision, contender.graph, title, contender.is_packed)
        yield _Run(column, engine, model, contender.thresholds)


def _only(judged: Judged, places: Sequence[int]) -> Judged:
    """The judgements at some places."""
    index = list(places)
    return replace(
        judged,
        logits=judged.logits[index],
        maps=judged.maps[index],
        masks=judged.masks[index],
        verdicts=tuple(judged.verdicts[each] for each in index),
        faults={
            place: judged.faults[each] for place, each in enumerate(index) if each in judged.faults
        },
    )
