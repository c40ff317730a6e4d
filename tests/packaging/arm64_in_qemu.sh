#!/usr/bin/env bash
# The runtime installed and run on arm64 without an arm64 machine: an arm64 root file system under QEMU's emulation of
# programs. The wheel is built here and installed there with what pip resolves for aarch64. Then, on both:
#
#   the same pictures judged by ONNX Runtime        every verdict and reason must be equal
#   a guarded line there (authority, camera, engine)  each trigger gets one answer, and the very frames get the same here
#   ssn-edge audit of both logs there, and ssn-edge doctor --json
#
# Shows that it installs, imports, starts its processes and decides the same. Shows nothing about speed, a GPU, TensorRT,
# cameras, GPIO, real-time priority or a Jetson's own files (/proc and /sys are this machine's): those take a Jetson.
#
#   tests/packaging/arm64_in_qemu.sh [options] [PACKAGE PICTURES]
#
#   PACKAGE PICTURES   a package and a folder of pictures; without them `ssn-edge demo` makes both, once (minutes)
#   --suite SUITE      bookworm (Debian 12, Python 3.11; default), or a JetPack's own ground: jammy (6: Ubuntu 22.04,
#                      Python 3.10) or noble (7: Ubuntu 24.04, Python 3.12), installed by runtime/jetson/README.md: the
#                      distribution's OpenCV, --system-site-packages, the constraints file
#   --arch ARCH        arm64 (default), or amd64: the same without emulation, for the distribution's sake (a JetPack's own ground)
#   --mirror URL       of that distribution for that architecture
#   --keyring FILE     that the distribution's archive is signed by (default the one under /usr/share/keyrings)
#   --root FOLDER      everything that is kept (default /var/tmp/ssn-edge-ARCH-SUITE, some 2 GB); delete it for a fresh start
#   --python PYTHON    one that has ssn-edge, on this machine (default .venv/bin/python)
#   --pictures N       judge the first N pictures (default 12)
#   --deadline-ms MS   of the guarded line (default 60000: emulation is 50 to 200 times as slow)
#
# Wants Linux on x86-64, root, a mirror of the distribution and an index of Python packages. Tools that are missing are
# installed where there is apt-get; elsewhere beforehand:
#
#   apt-get install qemu-user-static debootstrap binfmt-support
#   (for jammy and noble also ubuntu-keyring; where the distribution has none, its file by --keyring)
#
# Takes some 10 minutes on idle cores the first time (25 on busy ones), and a few again. What is there is used again: the root file system, pip's downloads, the demo's package.
# One that was not finished is made again; at the end, whatever it is, nothing stays mounted and nothing runs.
# Exit code 0: all equal. 1: something differs, or a step failed (the line before says which). 2: something is missing.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
checkout=$(realpath "$here/../..")
suite=bookworm arch=arm64 mirror="" own_keyring="" base="" python="$checkout/.venv/bin/python" count=12 deadline_ms=60000 triggers=4
say() { echo "== $(date +%H:%M:%S) $*"; }
missing() { echo "arm64_in_qemu: $*" >&2; exit 2; }
fails() { echo "arm64_in_qemu: $*" >&2; exit 1; }

given=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --suite | --arch | --mirror | --keyring | --root | --python | --pictures | --deadline-ms)
      [ $# -ge 2 ] || missing "$1 wants a value; see --help"
      case $1 in
        --suite) suite=$2 ;;
        --arch) arch=$2 ;;
        --mirror) mirror=$2 ;;
        --keyring) own_keyring=$2 ;;
        --root) base=$2 ;;
        --python) python=$2 ;;
        --pictures) count=$2 ;;
        --deadline-ms) deadline_ms=$2 ;;
      esac
      shift 2
      ;;
    -*) missing "$1 is no option; see --help" ;;
    *) given+=("$1"); shift ;;
  esac
done
[ ${#given[@]} -eq 0 ] || [ ${#given[@]} -eq 2 ] || missing "PACKAGE and PICTURES are wanted, or neither; see --help"
[[ $count =~ ^[1-9][0-9]*$ && $deadline_ms =~ ^[1-9][0-9]*$ ]] || missing "--pictures and --deadline-ms want a whole number above 0"
case $suite in
  bookworm) keyring=/usr/share/keyrings/debian-archive-keyring.gpg keyring_package=debian-archive-keyring jetpack="" ;;
  jammy) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg keyring_package=ubuntu-keyring jetpack=6 ;;
  noble) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg keyring_package=ubuntu-keyring jetpack=7 ;;
  *) missing "--suite $suite: bookworm, jammy or noble is wanted" ;;
esac
case $arch in
  arm64) instructions=aarch64 ports=http://ports.ubuntu.com/ubuntu-ports ;;
  amd64) instructions=x86_64 ports=http://archive.ubuntu.com/ubuntu ;;
  *) missing "--arch $arch: arm64 or amd64 is wanted" ;;
esac
[ -z "$own_keyring" ] || keyring=$(realpath -m "$own_keyring")
base=$(realpath -m "${base:-/var/tmp/ssn-edge-$arch-$suite}")
root=$base/root

# What must be there.
[ "$(uname -sm)" = "Linux x86_64" ] || missing "this machine is $(uname -sm); Linux on x86-64 is wanted"
[ "$(id -u)" = 0 ] || missing "root is wanted (chroot, mount): run it with sudo"
[ -x "$python" ] || missing "$python is not there: make the environment as in README.md, or name one that has ssn-edge (--python)"
python=$(realpath -s "$python")
export PYTHONPATH="$checkout:$checkout/calibrate:$checkout/export:$checkout/runtime" OMP_NUM_THREADS=1
"$python" -c "import ssn_edge, cv2, onnxruntime" 2>/dev/null ||
  missing "$python has no ssn-edge with OpenCV and ONNX Runtime: pip install '.[opencv,cpu]', and [all] for the demo's package"
if [ ${#given[@]} -eq 2 ]; then
  [ -f "${given[0]}" ] || missing "there is no package ${given[0]}"
  [ -d "${given[1]}" ] || missing "there is no folder ${given[1]}"
fi
wanted=()
[ "$arch" = amd64 ] || command -v qemu-aarch64-static >/dev/null || wanted+=(qemu-user-static)
command -v debootstrap >/dev/null || wanted+=(debootstrap)
command -v dpkg-deb >/dev/null || wanted+=(dpkg)
[ "$arch" = amd64 ] || command -v update-binfmts >/dev/null || wanted+=(binfmt-support)
[ -e "$keyring" ] || [ -z "$own_keyring" ] || missing "there is no keyring $keyring"
[ -e "$keyring" ] || wanted+=("$keyring_package")
if [ ${#wanted[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || missing "these are missing: ${wanted[*]} (Debian's names); there is no apt-get to install them"
  say "installing ${wanted[*]}"
  { apt-get update -qq && apt-get install -y -qq "${wanted[@]}"; } >/dev/null ||
    missing "apt-get install ${wanted[*]} failed: see above"
fi
if [ "$arch" = arm64 ] && [ ! -e /proc/sys/fs/binfmt_misc/register ]; then
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
    missing "this kernel does not let binfmt_misc be mounted: a container wants --privileged, or the host's own set-up"
fi
if [ "$arch" = arm64 ] && [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
  update-binfmts --enable qemu-aarch64 || missing "the kernel does not take QEMU for arm64 programs: see update-binfmts --display"
fi

mkdir -p "$base"
exec 9>"$base/lock"
flock -n 9 || missing "another run uses $base; wait for it, or name another folder: --root"
work=$(mktemp -d)
finish() {
  code=$?
  trap - EXIT INT TERM HUP
  # Whatever was begun in there has the root file system for its root: it ends before that is unmounted.
  for process in /proc/[0-9]*; do
    case $(readlink "$process/root" 2>/dev/null) in "$base"/*) kill -KILL "${process#/proc/}" 2>/dev/null || true ;; esac
  done
  while read -r mounted; do umount "$mounted" || umount -l "$mounted" || true; done < <(
    awk -v base="$base/" 'index($5, base) == 1 { print $5 }' /proc/self/mountinfo | tac
  )
  rm -rf "$work" "$base/unfinished"
  exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# Their own settings for a proxy or another index of packages, and nothing else of this machine's.
passed=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
  [ -z "${!name:-}" ] || passed+=("$name=${!name}")
done
inside() {
  chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin OMP_NUM_THREADS=1 \
    DEBIAN_FRONTEND=noninteractive PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "${passed[@]}" "$@"
}

if [ ! -d "$root" ]; then
  rm -rf "$base/unfinished"
  if [ -z "$mirror" ]; then
    case $suite in
      bookworm)
        mirror=http://deb.debian.org/debian
        # The one that this machine uses anyway, where it is Debian's.
        if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
          own=$(apt-get indextargets --format '$(REPO_URI)' | grep -v -m 1 security || true)
          mirror=${own:-$mirror}
          mirror=${mirror%/}
        fi
        ;;
      *) mirror=$ports ;;
    esac
  fi
  # Tried before anything is made: debootstrap's own words for a mirror that is not there say little.
  "$python" - "$mirror/dists/$suite/Release" "$arch" <<'TRY' || missing "no mirror of $suite for $arch at $mirror; name one: --mirror URL"
import sys
import urllib.request

try:
    release = urllib.request.urlopen(sys.argv[1], timeout=60).read().decode()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
there = any(sys.argv[2] in line for line in release.splitlines() if line.startswith("Architectures:"))
sys.exit(0 if there else f"{sys.argv[1]}: does not name {sys.argv[2]}")
TRY
  say "a root file system of $suite from $mirror"
  script=() # of the family, where this debootstrap is older than the suite
  [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=("/usr/share/debootstrap/scripts/${jetpack:+gutsy}")
  debootstrap --arch="$arch" --foreign --variant=minbase --keyring="$keyring" --components=main${jetpack:+,universe} \
    --include=python3,python3-venv,python3-pip,ca-certificates "$suite" "$base/unfinished" "$mirror" "${script[@]}" >"$base/debootstrap.log" ||
    fails "debootstrap failed: $(tail -n 1 "$base/debootstrap.log") ($base/debootstrap.log)"
  if [ -n "$jetpack" ]; then
    [ "$arch" = amd64 ] || cp "$(command -v qemu-aarch64-static)" "$base/unfinished/usr/bin/"
    say "its packages, set up by its own programs (minutes; emulated, half an hour)"
    chroot "$base/unfinished" /debootstrap/debootstrap --second-stage >>"$base/debootstrap.log" ||
      fails "debootstrap's second stage failed: $(tail -n 1 "$base/debootstrap.log") ($base/debootstrap.log)"
  else
    # Unpacked here, not set up there: what a Python needs comes with the packages themselves, and dpkg under emulation
    # takes many minutes for the rest.
    say "its packages, unpacked"
    for package in "$base/unfinished"/var/cache/apt/archives/*.deb; do
      dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$base/unfinished" ||
        fails "$package cannot be unpacked"
    done
    rm -rf "$base/unfinished/debootstrap" "$base/unfinished"/var/cache/apt/archives/*.deb
    cp "$base/unfinished/usr/share/base-passwd/passwd.master" "$base/unfinished/etc/passwd"
    cp "$base/unfinished/usr/share/base-passwd/group.master" "$base/unfinished/etc/group"
    mkdir -p "$base/unfinished/root" "$base/unfinished/tmp"
    chmod 1777 "$base/unfinished/tmp"
  fi
  echo "deb $mirror $suite main${jetpack:+ universe}" >"$base/unfinished/etc/apt/sources.list"
  mv "$base/unfinished" "$root"
fi
for file in /etc/resolv.conf /etc/hosts; do [ ! -e "$file" ] || cp -L "$file" "$root/etc/"; done
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# In a container debootstrap leaves links to this machine's own, which a mount would follow.
for folder in proc sys; do [ ! -L "$root/$folder" ] || rm "$root/$folder"; done
mkdir -p "$root/proc" "$root/sys" "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=512m shm "$root/dev/shm"
[ -c "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
machine=$(inside /bin/uname -m) || fails "nothing runs in $root: delete $base and start again"
[ "$machine" = "$instructions" ] || fails "programs in $root say that they run on $machine"
if [ -n "$jetpack" ] && ! inside dpkg -s python3-opencv >/dev/null 2>&1; then
  say "the distribution's OpenCV, for JetPack's (minutes)"
  { inside apt-get update -qq && inside apt-get install -y -qq --no-install-recommends python3-opencv; } >"$base/apt.log" 2>&1 ||
    fails "apt-get install python3-opencv failed there: $(tail -n 1 "$base/apt.log") ($base/apt.log)"
fi

if [ ${#given[@]} -eq 0 ]; then
  if [ ! -e "$base/demo/part.ssn" ]; then
    say "a package and pictures: ssn-edge demo (minutes)"
    rm -rf "$base/demo" "$base/demo.unfinished"
    (cd "$base" && "$python" -m ssn_edge -q demo --folder "$base/demo.unfinished" >"$base/demo.log" 2>&1) ||
      fails "ssn-edge demo failed: $(tail -n 1 "$base/demo.log") ($base/demo.log); it wants .[all], or give PACKAGE PICTURES"
    mv "$base/demo.unfinished" "$base/demo"
  fi
  given=("$base/demo/part.ssn" "$base/demo/line")
fi
package=$(realpath "${given[0]}") pictures=$(realpath "${given[1]}")

say "the wheel, installed for $instructions"
"$python" -m pip wheel -q --no-deps --wheel-dir "$work" "$checkout"
# The same wheel is not installed again.
"$python" - "$work"/ssn_edge-*.whl "$jetpack" >"$work/identity" <<'IDENTITY'
import hashlib
import sys

print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "jetpack" + sys.argv[2])
IDENTITY
is_installed=no
! cmp -s "$work/identity" "$root/srv/line/installed" || is_installed=yes
[ $is_installed = yes ] || rm -rf "$root/srv/line"
rm -rf "$root/srv/in" "$root/srv/out"
mkdir -p "$root/srv/in/pictures" "$root/srv/out" "$work/pictures" "$work/out"
find "$pictures" -maxdepth 1 -type f ! -name '.*' | LC_ALL=C sort | grep -iE '\.(png|jpe?g|bmp|tiff?)$' | head -n "$count" >"$work/list" || true
[ -s "$work/list" ] || missing "there are no pictures in $pictures"
xargs -d '\n' cp -t "$work/pictures" <"$work/list"
cp "$work/pictures"/* "$root/srv/in/pictures/"
cp "$work"/ssn_edge-*.whl "$root/srv/in/"
cp "$package" "$root/srv/in/part.ssn"
wheel="file:///srv/in/$(basename "$work"/ssn_edge-*.whl)"
if [ $is_installed = yes ]; then
  echo "  is there already"
elif [ -n "$jetpack" ]; then
  cp "$checkout/runtime/jetson/constraints-jetpack$jetpack.txt" "$root/srv/in/constraints.txt"
  inside /usr/bin/python3 -m venv --system-site-packages /srv/line
  inside /srv/line/bin/pip install -q --no-compile --only-binary=:all: "ssn-edge[cpu,cuda,v4l2,watch,sign,gpio,modbus,mqtt,opcua] @ $wheel" \
    -c /srv/in/constraints.txt
else
  inside python3 -m venv /srv/line
  inside /srv/line/bin/pip install -q --no-compile --only-binary=:all: "ssn-edge[opencv,cpu,watch,sign,gpio,modbus,mqtt,opcua] @ $wheel"
fi
inside /srv/line/bin/python -c "
import platform, numpy, cv2, onnxruntime
print(platform.machine(), 'Python', platform.python_version(), 'NumPy', numpy.__version__, 'OpenCV', cv2.__version__,
      'ONNX Runtime', onnxruntime.__version__)"
inside /srv/line/bin/pip check
cp "$work/identity" "$root/srv/line/installed"
for module in linuxpy inotify_simple cryptography gpiod pymodbus paho.mqtt asyncua cuda.bindings; do
  inside /srv/line/bin/python -c "import $module" 2>"$work/import" && echo "  imports $module" ||
    { tail -n 1 "$work/import" | grep -q ModuleNotFoundError && echo "  no $module here" || fails "import $module: $(tail -n 1 "$work/import")"; }
done

say "the doctor there"
code=0
inside /srv/line/bin/ssn-edge doctor --json --output /srv/out >"$work/doctor.json" || code=$?
"$python" - "$code" "$work/doctor.json" <<'DOCTOR'
import json
import sys

report = json.load(open(sys.argv[2], encoding="utf-8"))
for each in report["findings"]:
    print(f"  {each['level']:<8} {each['area']:<14} {each['found']}")
found = {each["area"]: each for each in reversed(report["findings"])}
assert report["can_run"] is True and sys.argv[1] == "0", "the doctor says that no line can run there"
for area in ("Python", "NumPy", "OpenCV", "ONNX Runtime", "engines"):
    assert found[area]["level"] == "ok", found[area]
DOCTOR

say "$(wc -l <"$work/list") pictures on both"
judge=(--engine onnxruntime-cpu --precision fp32)
SECONDS=0
inside /srv/line/bin/ssn-edge -q run --device /srv/in/pictures --package /srv/in/part.ssn "${judge[@]}" \
  --output /srv/out/pictures >"$work/there.txt"
there_s=$SECONDS SECONDS=0
"$python" -m ssn_edge -q run --device "$work/pictures" --package "$package" "${judge[@]}" --output "$work/out/pictures" >"$work/here.txt"
echo "  $there_s s there, $SECONDS s here"
inside /srv/line/bin/ssn-edge audit /srv/out/pictures

say "a guarded line there: $triggers triggers, a deadline of $deadline_ms ms"
cat >"$work/ask.py" <<'ASK'
"""Start a guarded line with the command given, trigger parts one by one, end it; print the answers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

WAIT_S = 900


def ask(path, line):
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(WAIT_S)
        link.connect(path)
        link.sendall(line.encode() + b"\n")
        return link.makefile().readline().strip()


def main():
    count, output, *command = sys.argv[1:]
    os.makedirs(output)
    control = os.path.join(output, "control.sock")
    line = subprocess.Popen([*command, "--output", output, "--trigger", "software", "--control", control])
    began = time.monotonic()
    state = None
    while state != "ContinuousExecution":
        if line.poll() is not None:
            sys.exit(f"the line ended with {line.returncode} before it was up")
        if time.monotonic() - began > WAIT_S:
            line.kill()
            sys.exit(f"the line was not up after {WAIT_S} s: {state}")
        time.sleep(1)
        try:
            state = json.loads(ask(control, "state"))["state"]
        except OSError:
            state = None
    print(f"  up after {time.monotonic() - began:.0f} s", flush=True)
    for number in range(1, int(count) + 1):
        asked = time.monotonic()
        answer = ask(control, f"trigger {number} part-{number}")
        print(f"  {answer}  ({time.monotonic() - asked:.2f} s)", flush=True)
        again = ask(control, f"trigger {number} part-{number}")
        assert again == answer or again.split()[1:3] == ["unknown", "deadline"], (answer, again)
    line.send_signal(signal.SIGTERM)
    sys.exit(line.wait(WAIT_S))


main()
ASK
cp "$work/ask.py" "$root/srv/in/"
# Of the size that the package was made for: another one is unknown(frame_size), and the engine would never be asked.
size=$("$python" - "$package" <<'SIZE'
import json
import sys
import zipfile

height, width = json.loads(zipfile.ZipFile(sys.argv[1]).read("manifest.json"))["frame_size_hw"] or (480, 640)
print(f"width={width}&height={height}")
SIZE
)
line=(run --device "test:?$size&fps=1&defect_every=2" "${judge[@]}" --deadline-ms "$deadline_ms")
inside /srv/line/bin/python /srv/in/ask.py "$triggers" /srv/out/line /srv/line/bin/ssn-edge -q "${line[@]}" --package /srv/in/part.ssn
inside /srv/line/bin/ssn-edge audit /srv/out/line

"$python" - "$root/srv/out" "$work/out" "$triggers" "${arch^^}" "$package" "test:?$size&fps=200&defect_every=2" <<'COMPARE'
import json
import pathlib
import sys

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.sources import open_source


def verdicts(folder):
    lines = map(json.loads, (pathlib.Path(folder) / "decisions.jsonl").read_text().splitlines())
    return [each for each in lines if each["kind"] == "verdict"]


def judged(folder):
    return {
        pathlib.Path(each["part_id"]).name: (each["verdict"], each["reason"], each["raw_score"])
        for each in verdicts(folder)
    }


there, here = judged(f"{sys.argv[1]}/pictures"), judged(f"{sys.argv[2]}/pictures")
assert there and there.keys() == here.keys(), (sorted(there), sorted(here))
other = {name: (there[name], here[name]) for name in here if there[name][:2] != here[name][:2]}
assert not other, f"decided differently: {other}"
off = [abs(there[n][2] - here[n][2]) for n in here if here[n][2] is not None]
assert off, "no picture has a score: the engine was never asked"
counts = {verdict: [each[0] for each in here.values()].count(verdict) for verdict in ("pass", "fail", "unknown")}
name = sys.argv[4]

line = verdicts(f"{sys.argv[1]}/line")
assert [each["part_id"] for each in line] == [f"part-{n}" for n in range(1, int(sys.argv[3]) + 1)], line
late = [each for each in line if each["reason"] in ("deadline", "engine_error", "no_frame", "invalid_output")]
assert not late, f"the guarded line came to no verdict of its own: {late}"
told = {each["frame_index"]: (each["verdict"], each["reason"], each["raw_score"]) for each in line}
same = {}
# Which frame is a trigger's depends on the moment; what a frame shows, on its number alone.
with Inspector.open(sys.argv[5], engine="onnxruntime-cpu", precision="fp32") as inspector, open_source(sys.argv[6]) as source:
    while len(same) < len(told):
        frame = source.read(10.0)
        if frame.index in told:
            decision = inspector.inspect(frame.image)
            same[frame.index] = (decision.verdict, decision.reason, decision.raw_score)
for index, (verdict, reason, score) in told.items():
    assert (verdict, reason) == same[index][:2], (index, told[index], same[index])
    if score is not None:
        off.append(abs(score - same[index][2]))
print(f"OK-{name}: {len(here)} pictures, {counts}, verdicts equal; scores, the line's too, off by at most {max(off):.1e}")
answers = ", ".join(f"{verdict} ({reason})" for verdict, reason, _ in told.values())
print(f"OK-{name}: guarded line, {len(line)} triggers: {answers}; the same frames the same here")
COMPARE
say "done"
