"""TensorRT and TensorRT-RTX: one interface under two module names, and what they log.

Both give null where another library would raise, and log the reason. So the log is read along: the
error that a caller of ours raises says what the library said.
"""

from __future__ import annotations

import collections
import functools
import importlib
import logging
import re
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_edge_runtime.device_parsing import parse_l4t
from ssn_edge_runtime.errors import EngineError

logger = logging.getLogger(__name__)

TENSORRT = "tensorrt"
TENSORRT_RTX = "tensorrt-rtx"
MODULES = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}
"""Engine name to the module that it is made with."""

OLDEST_VERSION = (10, 3)
"""Of TensorRT: JetPack 6.1's. RTX counts its own versions, from 1.0, and has all that is needed."""
ALWAYS_STRONGLY_TYPED = 11
"""From this TensorRT on, and in RTX, a network has the types of its file, without being told to."""
OLDEST_JETSON_LINUX = (36, 4)
"""JetPack 6.1; before it TensorRT is 8, which knows no strongly typed networks."""

TEGRA_RELEASE = Path("/etc/nv_tegra_release")
MESSAGES_KEPT = 32


@dataclass(frozen=True, slots=True)
class TensorRt:
    """An imported TensorRT. Keep it while anything made of it lives: it holds the logger.

    Args:
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        module: The Python module; its types are the library's own.
        version: All of the library's version numbers.
        messages: What it logged.
        logger: The module's `ILogger`, handed to whatever takes one.
    """

    engine: str
    module: Any
    version: str
    messages: Messages
    logger: Any

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which compiles its kernels when a plan is loaded."""
        return self.engine == TENSORRT_RTX

    @property
    def needs_typed_flag(self) -> bool:
        """Whether a network must be made strongly typed by a flag."""
        return not self.is_rtx and _numbers(self.version)[0] < ALWAYS_STRONGLY_TYPED


@dataclass(slots=True)
class Messages:
    """The last errors of a library, for the error that is raised; all threads write to one."""

    _errors: collections.deque[str] = field(
        default_factory=lambda: collections.deque(maxlen=MESSAGES_KEPT)
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Forget what was said; before a call whose result tells failure."""
        with self._lock:
            self._errors.clear()

    def add_error(self, text: str) -> None:
        """Keep an error."""
        with self._lock:
            self._errors.append(text)

    def why(self) -> str:
        """The errors since `clear`, the first and the last: causes are told first or last."""
        with self._lock:
            errors = [_one_line(each) for each in self._errors]
        return "; ".join(dict.fromkeys((errors[0], errors[-1]))) if errors else "it gave no reason"


def import_tensorrt(engine: str) -> TensorRt:
    """Import TensorRT or TensorRT-RTX; works without a GPU.

    Args:
        engine: A name of `MODULES`.

    Raises:
        EngineError: Not installed, or too old.
    """
    jetson_linux = parse_l4t(_text(TEGRA_RELEASE))
    if jetson_linux is not None and _numbers(jetson_linux) < OLDEST_JETSON_LINUX:
        raise EngineError(
            f"this Jetson runs Jetson Linux {jetson_linux} (JetPack 6.0 or older), whose TensorRT "
            "is 8 and knows no strongly typed networks; update it to JetPack 6.1 or newer"
        )
    return _imported(engine, is_jetson=jetson_linux is not None)


@functools.cache  # the library keeps the first logger that it is given: it must outlive all use
def _imported(engine: str, *, is_jetson: bool) -> TensorRt:
    try:
        module = importlib.import_module(MODULES[engine])
        version = str(module.__version__)
    # Bindings without their libraries raise what the loader raises, a stub what it likes.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {_one_line(str(error))}"
        raise EngineError(
            f"{engine} cannot be used here ({reason}); {_how_to_install(engine, is_jetson)}"
        ) from error
    if engine == TENSORRT and _numbers(version) < OLDEST_VERSION:
        raise EngineError(
            f"TensorRT {version} is installed, {'.'.join(map(str, OLDEST_VERSION))} or newer is "
            f"needed; {'update to JetPack 6.1 or newer' if is_jetson else _PIP[TENSORRT]}"
        )
    messages = Messages()
    return TensorRt(engine, module, version, messages, _bridge(module, messages))


_PIP = {
    TENSORRT: "pip install 'ssn-edge[tensorrt]'",
    TENSORRT_RTX: "on an x86 PC with an RTX card: pip install 'ssn-edge[tensorrt-rtx]'",
}


def _how_to_install(engine: str, is_jetson: bool) -> str:
    if engine == TENSORRT and is_jetson:
        # JetPack installs it for the system's Python alone; pip would bring another one.
        python = f"python3 -m venv --system-site-packages (this is {sys.executable})"
        return (
            "JetPack brings it for the system's Python: sudo apt install nvidia-jetpack, and make "
            f"the environment with /usr/bin/{python}"
        )
    return _PIP[engine]


def _bridge(module: Any, messages: Messages) -> Any:
    """The module's logger that hands on to `logging`; errors are kept for who raises them."""
    error_levels = (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR)
    warning_level = module.ILogger.Severity.WARNING

    class Bridge(module.ILogger):  # type: ignore[misc]  # a type of the library's
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        # Called by the library's C++ code, thousands of times in a build: it must not raise.
        def log(self, severity: object, text: str) -> None:
            if severity in error_levels:
                messages.add_error(text)
                logger.info("%s: %s", module.__name__, text)
            elif severity == warning_level:
                logger.debug("%s: %s", module.__name__, text)

    return Bridge()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:2]) or (0,)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _one_line(text: str) -> str:
    """The first line with something in it; the library adds calls and addresses below."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
