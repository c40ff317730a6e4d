"""The project file `ssn-edge.toml`: every option's default for one project, each explained.

An option on the command line wins over the file, the file over the built-in default. A key that
nobody knows is an error: a misspelt threshold must not pass in silence.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.strict_json import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS_NAME = "ssn-edge.toml"


def _explained(explanation: str) -> dict[str, str]:
    return {"explanation": explanation}


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where the pictures are and how they are read."""

    path: str = field(default="", metadata=_explained("folder or CSV file of the data set"))
    columns: dict[str, str] = field(
        default_factory=dict, metadata=_explained("other names of CSV columns: ours = theirs")
    )
    mask_above: int = field(
        default=-1, metadata=_explained("mask values above this are defects; -1 finds out")
    )
    fold: int = field(
        default=-1, metadata=_explained("published fold of SensumSODF: 0, 1 or 2; -1 for none")
    )
    mask_split: int = field(
        default=-1,
        metadata=_explained("published choice of masks of KolektorSDD2 or SensumSODF; -1 for none"),
    )


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What `ssn-edge train` uses."""

    backbone: str = field(
        default="auto",
        metadata=_explained(
            "timm name; auto is wide_resnet50_2.tv_in1k on a GPU, tf_efficientnet_lite0 else"
        ),
    )
    backbone_weights: str = field(
        default="", metadata=_explained("file of pretrained weights; empty for timm or a package")
    )
    input_size: list[int] = field(
        default_factory=lambda: [256, 256],
        metadata=_explained("height and width of the network input in pixels"),
    )
    roi: list[int] = field(
        default_factory=list,
        metadata=_explained("region of interest x, y, width, height in camera pixels; [] is all"),
    )
    variant: str = field(default="journal", metadata=_explained("journal or conference"))
    epochs: int = field(default=300, metadata=_explained("passes over the training part"))
    learning_rate_scale: float = field(
        default=1.0,
        metadata=_explained("factor on the published learning rates; 4 for a short run on a CPU"),
    )
    interpolation: str = field(
        default="linear_exact",
        metadata=_explained(
            "resize of frames: linear_exact, linear as the authors', linear_antialias as anomalib's"
        ),
    )
    batch_size: int = field(default=32, metadata=_explained("pictures a step"))
    noise_std: float = field(
        default=0.0,
        metadata=_explained("deviation of the synthetic noise; 0 for the backbone's default"),
    )
    segmentation_width: int = field(
        default=0, metadata=_explained("hidden channels of the segmentation head; 0 for default")
    )
    classification_width: int = field(
        default=0, metadata=_explained("hidden channels of the classification head; 0 for default")
    )
    precision: str = field(
        default="fp32",
        metadata=_explained("of the heads' arithmetic in training: fp32, bf16 or fp16"),
    )
    step: str = field(
        default="auto",
        metadata=_explained("how a step is computed: auto, split or reference; the same result"),
    )
    regime: str = field(
        default="auto",
        metadata=_explained("unsupervised, weak, mixed or full; auto finds it from the labels"),
    )
    scoring: str = field(
        default="auto",
        metadata=_explained(
            "the image's score: map_max, classification or combined; auto by regime"
        ),
    )
    seed: int = field(default=0, metadata=_explained("of initialisation, order and noise"))
    split_seed: int = field(
        default=0, metadata=_explained("of the parts: which pictures train, calibrate and test")
    )
    device: str = field(default="auto", metadata=_explained("auto, cpu or cuda"))

    def __post_init__(self) -> None:
        """Refuse what would only come to light minutes later, in PyTorch's words."""
        for name in ("segmentation_width", "classification_width", "seed", "split_seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: 0 or more is wanted")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device = {self.device!r}: auto, cpu or cuda is wanted")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What `ssn-edge export` uses."""

    output: str = field(default="part.ssn", metadata=_explained("the model package"))
    max_false_reject: float = field(
        default=0.01, metadata=_explained("share of good parts that may be rejected")
    )
    fp16: bool = field(
        default=False, metadata=_explained("whether half precision goes into the package, too")
    )
    int8: bool = field(
        default=False,
        metadata=_explained(
            "whether 8-bit integers go in, too; their ranges are from normal training pictures"
        ),
    )
    int8_onnxruntime: bool = field(
        default=False,
        metadata=_explained("whether they go in once more, as ONNX Runtime runs them on a CPU"),
    )
    int8_openvino: bool = field(
        default=False,
        metadata=_explained(
            "whether they go in once more, finer than TensorRT takes them, for OpenVINO on a CPU"
        ),
    )
    graph: str = field(
        default="deploy",
        metadata=_explained("deploy, rewritten to be fast, or reference, as the net was trained"),
    )
    max_flip_margin: float = field(
        default=0.25,
        metadata=_explained(
            "a verdict of FP16 or INT8 may turn within so many deviations of the normal scores "
            "from the threshold; 0 for none"
        ),
    )
    gate_pictures: int = field(
        default=200, metadata=_explained("held-out pictures that net and models are compared on")
    )

    @property
    def precisions(self) -> tuple[str, ...]:
        """What goes into the package beside FP32, by the manifest's names."""
        wanted = {
            "fp16": self.fp16,
            "int8": self.int8,
            "int8-onnxruntime": self.int8_onnxruntime,
            "int8-openvino": self.int8_openvino,
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def __post_init__(self) -> None:
        """Refuse a share that is none, and a graph that there is not."""
        if self.graph not in ("deploy", "reference"):
            raise ConfigError(f"graph = {self.graph!r}: deploy or reference is wanted")
        if not 0 < self.max_false_reject < 1:
            raise ConfigError(
                f"max_false_reject = {self.max_false_reject}: a share between 0 and 1 is wanted, "
                "0.01 for one part in a hundred"
            )


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `ssn-edge run` uses."""

    device: str = field(
        default="/dev/video0", metadata=_explained("camera, video file or folder of pictures")
    )
    output: str = field(
        default="decisions", metadata=_explained("folder of the journal and the pictures")
    )
    keep: str = field(
        default="rejects", metadata=_explained("whose pictures are kept: all, rejects or none")
    )
    engine: str = field(
        default="auto", metadata=_explained("auto, or an engine by name; see ssn-edge run --help")
    )
    precision: str = field(default="auto", metadata=_explained("auto, fp32, fp16 or int8"))
    settings: str = field(
        default="settings.json",
        metadata=_explained("this device's settings; without the file the package's thresholds"),
    )
    key: str = field(
        default="", metadata=_explained("device key that signs the log's heads; empty for none")
    )
    page_signing_key: str = field(
        default="",
        metadata=_explained("private key that signs what is applied on the page; empty for none"),
    )
    evidence_gb: float = field(
        default=0.0, metadata=_explained("room for frames that are kept as evidence; 0 for none")
    )
    write_budget_gb: float = field(
        default=0.0,
        metadata=_explained("GB a day that may be written before evidence is left out; 0 for any"),
    )
    keep_log_days: float = field(
        default=0.0,
        metadata=_explained("older segments of the log are deleted; needs key; 0 keeps them"),
    )
    log_quota_gb: float = field(
        default=0.0,
        metadata=_explained("the oldest are deleted above this; needs key; 0 keeps them"),
    )

    def __post_init__(self) -> None:
        """Refuse a policy that there is not, and less than nothing."""
        for name in ("evidence_gb", "write_budget_gb", "keep_log_days", "log_quota_gb"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: 0 or more is wanted")
        if self.keep not in ("all", "rejects", "none"):
            raise ConfigError(f"keep = {self.keep!r}: all, rejects or none is wanted")


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """Whose packages and settings `ssn-edge run` and `verify` take."""

    keys: str = field(
        default="",
        metadata=_explained(
            'folder of trusted public keys, NAME.pub, and revoked.txt; "" for none'
        ),
    )
    require_signature: bool = field(
        default=False,
        metadata=_explained("whether package and settings must be signed by one of them to run"),
    )
    minimum_serial: int = field(
        default=0, metadata=_explained("packages signed with a lower serial are refused")
    )
    state: str = field(
        default="",
        metadata=_explained(
            "file of the newest that was taken; empty for trust-state.json beside the decisions"
        ),
    )

    def __post_init__(self) -> None:
        """Refuse a promise that nothing could keep."""
        if self.minimum_serial < 0:
            raise ConfigError(f"minimum_serial = {self.minimum_serial}: 0 or more is wanted")
        if self.require_signature and not self.keys:
            raise ConfigError(
                "require_signature = true needs trusted keys: name their folder, keys"
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections of the file."""

    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    run: RunSettings = field(default_factory=RunSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)


def read_settings(path: Path = Path(SETTINGS_NAME)) -> Settings:
    """Read the project file; without one, the defaults.

    Raises:
        ConfigError: Unreadable, not TOML, an unknown section or key, or a value that cannot be.
    """
    if not path.exists():
        return Settings()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    sections = {each.name: each for each in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    for name, content in document.items():
        if name not in sections:
            raise ConfigError(f"{path}: [{name}] is unknown{nearest(name, sections)}")
        values[name] = _section(path, name, sections[name].default_factory, content)
    return Settings(**values)


def settings_text(settings: Settings) -> str:
    """The file with every key explained."""
    lines = [
        "# Settings of this ssn-edge project. Options on the command line win over this file.",
        "",
    ]
    for section in dataclasses.fields(settings):
        content = getattr(settings, section.name)
        tables = []
        lines.append(f"[{section.name}]")
        for key in dataclasses.fields(content):
            value = getattr(content, key.name)
            if isinstance(value, dict):
                tables.append((key, value))
                continue
            lines.append(f"# {key.metadata['explanation']}")
            lines.append(f"{key.name} = {_toml(value)}")
        for key, value in tables:
            lines += ["", f"# {key.metadata['explanation']}", f"[{section.name}.{key.name}]"]
            lines += [f"{_toml(str(name))} = {_toml(each)}" for name, each in value.items()]
        lines.append("")
    return "\n".join(lines)


def write_settings(settings: Settings, path: Path = Path(SETTINGS_NAME)) -> None:
    """Write the project file; one that is there is not touched.

    Raises:
        ConfigError: There is one already.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already; edit it, or remove it first")
    write_whole(path, settings_text(settings).encode())


def _section(path: Path, name: str, factory: Any, content: object) -> object:
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {name} must be a section: [{name}]")
    defaults = factory()
    known = {each.name: getattr(defaults, each.name) for each in dataclasses.fields(defaults)}
    for key, value in content.items():
        where = f"{path}: [{name}] {key}"
        if key not in known:
            raise ConfigError(f"{where} is unknown{nearest(key, known)}")
        content[key] = _typed(where, value, known[key])
    try:
        return type(defaults)(**content)
    except ConfigError as error:
        raise ConfigError(f"{path}: [{name}] {error}") from error


def _typed(where: str, value: object, default: object) -> object:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = type(value) is type(default)
    if isinstance(default, list):
        fits = isinstance(value, list) and all(type(each) is int for each in value)
    if isinstance(default, dict):
        fits = isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    if not fits:
        raise ConfigError(f"{where} = {value!r} is of the wrong kind; one like {default!r} fits")
    return value


def _toml(value: object) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML one, but for the one control character that JSON lets pass.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
