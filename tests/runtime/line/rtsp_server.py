"""An RTSP camera on loopback: gst-rtsp-server, run by the distribution's Python.

usage: rtsp_server.py PORT WIDTH HEIGHT DROP_PROBABILITY FRAMES_BETWEEN_KEY_FRAMES

The picture: a zone plate that moves.
"""

# mypy: ignore-errors
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

port, width, height, drop, key_frames = sys.argv[1:]

Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory.new()
# The packets that `identity` drops never reach the client.
factory.set_launch(
    "( videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 kt=4 ! "
    f"video/x-raw,format=GRAY8,width={width},height={height},framerate=25/1 ! "
    "videoconvert ! video/x-raw,format=I420 ! "
    f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key_frames} "
    "pass=quant quantizer=10 ! "
    f"rtph264pay config-interval=-1 mtu=600 ! identity drop-probability={drop} name=pay0 )"
)
factory.set_shared(True)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
sys.stdout.write("ready\n")
sys.stdout.flush()
GLib.MainLoop().run()
