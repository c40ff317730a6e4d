"""The part of the CUDA driver that PyCUDA does not give: captured graphs, and events within them.

By ctypes from the driver's own library, whose interface is stable; names as in ``cuda.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

from ssn_edge_runtime.errors import EngineError

LIBRARY = "libcuda.so.1"

_RECORD_EXTERNAL = 1
"""CU_EVENT_RECORD_EXTERNAL: a node of the captured graph that records at each launch."""
_CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating and waiting."""

_HANDLE, _HANDLE_OUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_FUNCTIONS = {
    "cuEventCreate": (_HANDLE_OUT, ctypes.c_uint),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _HANDLE, _HANDLE),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventRecordWithFlags": (_HANDLE, _HANDLE, ctypes.c_uint),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphInstantiateWithFlags": (_HANDLE_OUT, _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _HANDLE_OUT),
}


class CudaDriver:
    """The driver's functions, with errors raised; handles are plain integers.

    Raises:
        EngineError: There is no driver, or it is older than CUDA 11.4.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
            self._functions = {name: getattr(library, name) for name in _FUNCTIONS}
        except (OSError, AttributeError) as error:
            raise EngineError(
                f"the CUDA driver cannot be used ({error}); install the NVIDIA driver"
            ) from error
        for name, types in _FUNCTIONS.items():
            self._functions[name].argtypes = types
            self._functions[name].restype = ctypes.c_int

    def create_event(self) -> int:
        """An event with a time."""
        return self._made("cuEventCreate", 0)

    def destroy_event(self, event: int) -> None:
        """Give an event back."""
        self._call("cuEventDestroy_v2", event)

    def record(self, event: int, stream: int, *, is_capturing: bool) -> None:
        """Note the time when the stream gets here, in a captured graph at each launch."""
        if is_capturing:
            self._call("cuEventRecordWithFlags", event, stream, _RECORD_EXTERNAL)
        else:
            self._call("cuEventRecord", event, stream)

    def elapsed_ms(self, first: int, last: int) -> float:
        """Milliseconds between two events that have passed."""
        elapsed = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(elapsed), first, last)
        return elapsed.value

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Capture what a function puts into a stream, and make it launchable."""
        self._call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        except BaseException:
            # The stream must leave its capture in any case; what it captured is of no use.
            with contextlib.suppress(EngineError):
                self._call("cuGraphDestroy", self._end_capture(stream))
            raise
        captured = self._end_capture(stream)
        try:
            executable = ctypes.c_void_p()
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), captured, 0)
        finally:
            self._call("cuGraphDestroy", captured)
        return executable.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Put a captured graph into a stream."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Give a captured graph back."""
        self._call("cuGraphExecDestroy", graph)

    def _end_capture(self, stream: int) -> int:
        captured = ctypes.c_void_p()
        self._call("cuStreamEndCapture", stream, ctypes.byref(captured))
        if not captured.value:
            raise EngineError("CUDA gave no captured graph; the work is run without one")
        return captured.value

    def _made(self, name: str, *arguments: object) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        error = self._functions[name](*arguments)
        if error != 0:
            told = ctypes.c_char_p()
            self._functions["cuGetErrorString"](error, ctypes.byref(told))
            reason = told.value.decode() if told.value else f"error {error}"
            raise EngineError(
                f"CUDA failed in {name}: {reason}; if it fails again, look at the kernel's log and "
                "restart the program"
            )
