"""Options that several verbs share, and texts that become numbers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.headings import JUDGED, TRUST

if TYPE_CHECKING:
    from ssn_edge.settings import Settings
    from ssn_edge_runtime.decision import ScoringMethod
    from ssn_edge_runtime.trust import Trust

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(help="Checkpoint or a run's folder; without it the newest under runs/."),
]
PackageOption = Annotated[
    Path | None,
    typer.Option(
        help="Model package; without it the one in this directory.", rich_help_panel=JUDGED
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        help="auto, tensorrt, tensorrt-rtx, onnxruntime-cuda, openvino or onnxruntime-cpu.",
        rich_help_panel=JUDGED,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="auto, fp32, fp16 or int8; auto is the engine's own choice.", rich_help_panel=JUDGED
    ),
]
DataOption = Annotated[
    Path | None, typer.Option(help="Where the data set is now, if it moved since training.")
]

RequireSignatureOption = Annotated[
    bool,
    typer.Option(
        "--require-signature", help="Refuse what no trusted key has signed.", rich_help_panel=TRUST
    ),
]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        help="Folder of trusted public keys (NAME.pub, revoked.txt), or one such file.",
        rich_help_panel=TRUST,
    ),
]
AllowOlderOption = Annotated[
    bool,
    typer.Option(
        "--allow-older",
        help="Take a signed package that is older than one before.",
        rich_help_panel=TRUST,
    ),
]


def project_settings() -> Settings:
    """The settings of the project in the working directory."""
    from ssn_edge.settings import read_settings

    return read_settings()


def whom_to_trust(
    keys: Path | None,
    *,
    is_required: bool,
    output: Path | None = None,
    allows_older: bool = False,
    minimum_serial: int | None = None,
) -> Trust | None:
    """Who must have signed what this verb runs, by its options and the project; None for nobody.

    Args:
        keys: `TrustOption`.
        is_required: `RequireSignatureOption`.
        output: Folder of the decisions; None for the project's.
        allows_older: `AllowOlderOption`.
        minimum_serial: None for the project's.

    Raises:
        ConfigError: See `find_trust`.
    """
    from ssn_edge.trust import find_trust

    project = project_settings()
    return find_trust(
        project.trust,
        keys=keys,
        is_required=is_required,
        output=output or Path(project.run.output),
        allows_older=allows_older,
        minimum_serial=minimum_serial,
    )


def parse_size(text: str) -> tuple[int, int]:
    """``256`` or ``640x232`` (height x width) as height and width.

    Raises:
        ConfigError: Neither of the two.
    """
    numbers = _whole_numbers(text.lower().split("x"))
    if numbers is None or len(numbers) not in (1, 2):
        raise _wrong("--input-size", text, "one number, or HEIGHTxWIDTH such as 640x232")
    return (numbers[0], numbers[-1])


def parse_roi(text: str) -> tuple[int, int, int, int]:
    """``x,y,width,height`` in camera pixels.

    Raises:
        ConfigError: Not four whole numbers.
    """
    numbers = _whole_numbers(text.split(","))
    if numbers is None or len(numbers) != 4:
        raise _wrong("--roi", text, "X,Y,WIDTH,HEIGHT in camera pixels, such as 40,0,512,480")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """``1,4,16`` as whole numbers.

    Raises:
        ConfigError: Anything else.
    """
    numbers = _whole_numbers(text.split(","))
    if numbers is None:
        raise _wrong(option, text, "whole numbers with commas between, such as 1,4,16,")
    return tuple(numbers)


def parse_decimals(text: str, option: str) -> tuple[float, ...]:
    """``1.5,2.5`` as numbers.

    Raises:
        ConfigError: Anything else.
    """
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise _wrong(option, text, "numbers with commas between, such as 1.5,2.5,") from None


def parse_polygon(text: str, option: str) -> tuple[tuple[int, int], ...]:
    """``10,10,90,10,90,60`` as corners x, y.

    Raises:
        ConfigError: Anything else.
    """
    numbers = _whole_numbers(text.split(","))
    if numbers is None or len(numbers) < 6 or len(numbers) % 2:
        raise _wrong(option, text, "three or more corners such as 10,10,90,10,90,60")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def parse_words(text: str, option: str) -> tuple[str, ...]:
    """``fp32,int8`` as words.

    Raises:
        ConfigError: An empty one.
    """
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise _wrong(option, text, "words with commas between, such as fp32,int8,")
    return words


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """``label=defect`` and the like as our column name to theirs.

    Raises:
        ConfigError: One without an equals sign.
    """
    columns = {}
    for text in texts:
        ours, equals, theirs = text.partition("=")
        if not (equals and ours and theirs):
            raise _wrong("--column", text, "OURS=THEIRS, such as label=defect")
        columns[ours.strip()] = theirs.strip()
    return columns


def parse_scoring(text: str) -> ScoringMethod:
    """``map_max``, ``classification`` or ``combined``.

    Raises:
        ConfigError: Another word.
    """
    from ssn_edge_runtime.decision import ScoringMethod

    names = [method.value for method in ScoringMethod]
    if text not in names:
        raise _wrong("--scoring", text, " or ".join(names))
    return ScoringMethod(text)


def parse_share(text: str, option: str) -> float:
    """``0.5%`` or ``0.005`` as a share.

    Raises:
        ConfigError: Not a number between 0 and 1.
    """
    from ssn_edge_runtime.errors import ConfigError

    try:
        # In decimals: in binary 0.7 / 100 is a little less than 0.007.
        share = float(Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text))
    except InvalidOperation:
        raise _wrong(option, text, "a share such as 0.5% or 0.005") from None
    if not 0 < share < 1:
        raise ConfigError(f"{option} {text}: a share between 0 and 1 is wanted, such as 0.5%")
    return share


def parse_confidence(text: str) -> float:
    """``95%`` or ``0.95`` as a confidence.

    Raises:
        ConfigError: Not a number from 0.5 to below 1.
    """
    from ssn_edge_runtime.errors import ConfigError

    confidence = parse_share(text, "--confidence")
    if confidence < 0.5:
        raise ConfigError(f"--confidence {text}: at least 50% is wanted, such as 95%")
    return confidence


def _whole_numbers(texts: Sequence[str]) -> list[int] | None:
    try:
        return [int(text) for text in texts]
    except ValueError:
        return None


def _wrong(option: str, text: str, wanted: str) -> Exception:
    from ssn_edge_runtime.errors import ConfigError

    return ConfigError(f"{option} {text}: {wanted} is wanted")
