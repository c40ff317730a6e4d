"""What the local server adds to a judgement, beside what other HTTP libraries would add.

    pip install uvicorn httptools starlette aiohttp
    python tests/benchmarks/local_server.py

A raw frame of 640 x 480 x 3 goes over a Unix socket to a server in another process, on one kept
connection, again and again. The engine is a scripted one that takes no time; the inspector around
it is the real one. `bare` is `Inspector.inspect` alone. The other libraries' servers are the least
that can be written with them: one path, one thread for the engine, a time limit on its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssn_edge_runtime import Decision, Geometry, Inspector
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.server import InspectionServer, parse_listen

SIZE = (256, 256)
SHAPE = (480, 640, 3)
PATH = "/v1/inspect?height=480&width=640&channels=3"
WARM_UP = 250
TIME_LIMIT_S = 5.0


def judge() -> Inspector:
    """The real inspector around an engine that takes no time."""
    from tests.runtime import conftest as runtime

    manifest = runtime._manifest(Geometry(SIZE))
    engine = FakeEngine([-1.0], input_size_hw=SIZE)
    return Inspector(engine, manifest, precision="fp32", package_id="ab" * 32)


def frame() -> np.ndarray[Any, Any]:
    """What the inspector takes for a part."""
    from tests.runtime import conftest as runtime

    return runtime._part(1, size_hw=SHAPE[:2])


def answer(decision: Decision) -> bytes:
    """A short answer; ours says more."""
    return json.dumps({"verdict": decision.verdict.value, "score": decision.score}).encode()


def listening(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    bound.listen()
    return bound


def serve_ours(path: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with InspectionServer(judge(), parse_listen(f"unix:{path}")):
        stop.wait()


def judging() -> Callable[[np.ndarray[Any, Any]], Any]:
    """A coroutine that has a frame judged in the engine's thread."""
    inspector, thread = judge(), ThreadPoolExecutor(1)

    async def inspect(pixels: np.ndarray[Any, Any]) -> Decision:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(thread, inspector.inspect, pixels.reshape(SHAPE))
        return await asyncio.wait_for(work, TIME_LIMIT_S)

    return inspect


def serve_uvicorn(path: str) -> None:
    inspect = judging()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pixels = np.empty(int(dict(scope["headers"])[b"content-length"]), np.uint8)
        got, more = 0, True
        while more:
            message = await receive()
            body = message["body"]
            pixels.data[got : got + len(body)] = body
            got += len(body)
            more = message.get("more_body", False)
        body = answer(await inspect(pixels))
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    run_uvicorn(app, path)


def serve_starlette(path: str) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    inspect = judging()

    async def endpoint(request: Request) -> Response:
        pixels = np.frombuffer(await request.body(), np.uint8)
        return Response(answer(await inspect(pixels)), media_type="application/json")

    run_uvicorn(Starlette(routes=[Route("/v1/inspect", endpoint, methods=["POST"])]), path)


def run_uvicorn(app: Any, path: str) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, http="httptools", loop="asyncio", lifespan="off", log_config=None, access_log=False
    )
    uvicorn.Server(config).run(sockets=[listening(path)])


def serve_aiohttp(path: str) -> None:
    from aiohttp import web

    inspect = judging()

    async def endpoint(request: web.Request) -> web.Response:
        pixels = np.empty(request.content_length or 0, np.uint8)
        got = 0
        async for chunk in request.content.iter_any():
            pixels.data[got : got + len(chunk)] = chunk
            got += len(chunk)
        return web.Response(body=answer(await inspect(pixels)))

    app = web.Application()
    app.router.add_post("/v1/inspect", endpoint)
    web.run_app(app, sock=listening(path), access_log=None, print=None)


SERVERS = {
    "ours": (serve_ours, ()),
    "uvicorn, bare ASGI": (serve_uvicorn, ("uvicorn", "httptools")),
    "uvicorn, Starlette": (serve_starlette, ("uvicorn", "httptools", "starlette")),
    "aiohttp": (serve_aiohttp, ("aiohttp",)),
}


def measure_bare(frames: int) -> np.ndarray[Any, Any]:
    inspector, pixels = judge(), frame()
    return timed(lambda: inspector.inspect(pixels), frames)


def measure(name: str, frames: int) -> np.ndarray[Any, Any]:
    """Milliseconds a request, as its client sees them."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        server = subprocess.Popen([sys.executable, __file__, "--serve", name, "--socket", path])
        try:
            client = http.client.HTTPConnection("localhost")
            client.sock = connected(path)
            pixels = frame().tobytes()

            def ask() -> None:
                client.request("POST", PATH, pixels, {"Content-Type": "application/octet-stream"})
                verdict = json.loads(client.getresponse().read())["verdict"]
                if verdict != "pass":
                    raise SystemExit(f"{name} answered {verdict}")

            return timed(ask, frames)
        finally:
            server.terminate()
            server.wait()


def connected(path: str) -> socket.socket:
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
        except OSError:
            client.close()
            time.sleep(0.05)
        else:
            return client
    raise SystemExit("the server does not start")


def timed(work: Callable[[], object], count: int) -> np.ndarray[Any, Any]:
    times = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return np.array(times[WARM_UP:]) / 1e6


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1250, help="of each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--socket", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.serve:
        SERVERS[options.serve][0](options.socket)
        return
    names = [
        name
        for name, (_, modules) in SERVERS.items()
        if all(importlib.util.find_spec(module) for module in modules)
    ]
    print(
        f"{describe_device().processor}, {os.cpu_count()} cores, {options.frames} frames a run, ms"
    )
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("bare", *names)}
    for _ in range(options.runs):
        for name, runs in found.items():
            times = (
                measure_bare(options.frames) if name == "bare" else measure(name, options.frames)
            )
            runs.append((float(np.percentile(times, 50)), float(np.percentile(times, 99))))
    for name, runs in found.items():
        each = "   ".join(f"{p50:.3f} / {p99:.3f}" for p50, p99 in runs)
        print(f"{name:20} {each}   median p50 {np.median([p50 for p50, _ in runs]):.3f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
