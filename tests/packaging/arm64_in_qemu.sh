#!/usr/bin/env bash
# The runtime installed and run on arm64 without an arm64 machine: Debian's arm64 root file system under QEMU's emulation of
# programs. The wheel is built here, installed there with what pip resolves for aarch64, and the same pictures are judged by
# both; every verdict must be equal. Shows that it installs, imports and decides the same. Shows nothing about speed, a GPU,
# TensorRT or CSI cameras: those take a Jetson. Takes some ten minutes the first time; needs Debian, root and a package index.
#
#   tests/packaging/arm64_in_qemu.sh PACKAGE PICTURES [ROOT [PYTHON]]
#
# PACKAGE is a model package and PICTURES a folder of pictures (`ssn-edge demo` makes both). ROOT (default /var/tmp/ssn-edge-arm64)
# is kept for the next time. PYTHON (default .venv/bin/python) has ssn-edge on this machine.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
package=$(realpath "${1:?usage: $0 PACKAGE PICTURES [ROOT [PYTHON]]}")
pictures=$(realpath "${2:?usage: $0 PACKAGE PICTURES [ROOT [PYTHON]]}")
root=$(realpath -m "${3:-/var/tmp/ssn-edge-arm64}")
python=$(realpath -s "${4:-$here/../../.venv/bin/python}")
work=$(mktemp -d)
finish() {
  mountpoint -q "$root/proc" && umount "$root/proc"
  rm -rf "$work"
}
trap finish EXIT

apt-get install -y -qq qemu-user-static debootstrap binfmt-support >/dev/null
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
update-binfmts --enable qemu-aarch64

if [ ! -e "$root/usr/bin/qemu-aarch64-static" ] || [ -e "$root/debootstrap" ]; then
  rm -rf "$root"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
  debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$root" "${mirror:-http://deb.debian.org/debian}"
  cp /usr/bin/qemu-aarch64-static "$root/usr/bin/"
  chroot "$root" /debootstrap/debootstrap --second-stage
fi
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"

echo "== the wheel, installed for aarch64"
"$python" -m pip wheel -q --no-deps --wheel-dir "$work" "$here/../.."
rm -rf "$root/srv/line" "$root/srv/in"
mkdir -p "$root/srv/in"
cp "$work"/ssn_edge-*.whl "$package" "$root/srv/in/"
cp -r "$pictures" "$root/srv/in/pictures"
inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin OMP_NUM_THREADS=1 "$@"; }
inside python3 -m venv /srv/line
wheel=$(basename "$work"/ssn_edge-*.whl)
inside /srv/line/bin/pip install -q --only-binary=:all: "ssn-edge[opencv,cpu] @ file:///srv/in/$wheel"
inside /srv/line/bin/python -c "
import platform, numpy, cv2, onnxruntime
print(platform.machine(), 'Python', platform.python_version(), 'NumPy', numpy.__version__, 'OpenCV', cv2.__version__,
      'ONNX Runtime', onnxruntime.__version__)"

echo "== the doctor there"
inside /srv/line/bin/ssn-edge doctor --output /srv/out

echo "== the same pictures on both"
name=$(basename "$package")
time inside /srv/line/bin/ssn-edge -q run --device /srv/in/pictures --package "/srv/in/$name" --engine onnxruntime-cpu \
  --precision fp32 --output /srv/line/out >"$work/arm64.txt"
time "$python" -m ssn_edge -q run --device "$pictures" --package "$package" --engine onnxruntime-cpu \
  --precision fp32 --output "$work/out" >"$work/x86.txt"
inside /srv/line/bin/ssn-edge audit /srv/line/out

"$python" - "$root/srv/line/out/decisions.jsonl" "$work/out/decisions.jsonl" <<'COMPARE'
import json
import pathlib
import sys


def judged(path):
    lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
    return {
        pathlib.Path(each["part_id"]).name: (each["verdict"], each["reason"], each["raw_score"])
        for each in lines
        if each["kind"] == "verdict"
    }


there, here = judged(sys.argv[1]), judged(sys.argv[2])
assert there and there.keys() == here.keys(), (sorted(there), sorted(here))
other = {name: (there[name], here[name]) for name in here if there[name][:2] != here[name][:2]}
assert not other, f"decided differently: {other}"
off = [abs(there[n][2] - here[n][2]) for n in here if here[n][2] is not None]
counts = {verdict: [each[0] for each in here.values()].count(verdict) for verdict in ("pass", "fail", "unknown")}
print(f"OK-ARM64: {len(here)} pictures, {counts}, verdicts equal; scores off by at most {max(off, default=0.0):.1e}")
COMPARE
