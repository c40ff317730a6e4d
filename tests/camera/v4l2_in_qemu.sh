#!/usr/bin/env bash
# `ssn-edge run` on a real V4L2 device without a camera: Debian's stock kernel with its virtual video driver (vivid), booted in
# QEMU without acceleration, over this machine's own files. Takes some five minutes; needs Debian and root. Not part of CI.
#
#   tests/camera/v4l2_in_qemu.sh PACKAGE [SSN_EDGE]
#
# PACKAGE is any model package (`ssn-edge demo` makes one), SSN_EDGE the command to try (default .venv/bin/ssn-edge).
set -euo pipefail

package=$(realpath "${1:?usage: $0 PACKAGE [SSN_EDGE]}")
command=$(realpath -s "${2:-$(dirname "$0")/../../.venv/bin/ssn-edge}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{initrd/{bin,modules,proc,sys,dev,host},guest}

apt-get install -y -qq qemu-system-x86 busybox-static kmod v4l-utils >/dev/null
image=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
version=${image#linux-image-}
(cd "$work" && apt-get download -qq "$image" 2>/dev/null && dpkg -x "$image"_*.deb kernel)
depmod -b "$work/kernel" "$version"

cp "$(command -v busybox)" "$work/initrd/bin/busybox"
for module in vivid 9p 9pnet_virtio virtio_pci; do
  modprobe -d "$work/kernel" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
  cp "$file" "$work/initrd/modules/"
  echo "insmod /modules/$(basename "$file")"
done >"$work/initrd/load"

cat >"$work/initrd/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r line; do \$line; done </load
mount -t 9p -o trans=virtio,version=9p2000.L,ro host /host
mount -t tmpfs tmpfs /host$work/guest
mount -t proc proc /host/proc; mount -t sysfs sys /host/sys; mount --bind /dev /host/dev
chroot /host /bin/bash $work/job
poweroff -f
INIT
chmod +x "$work/initrd/init"

python=$(dirname "$command")/python
cp "$(dirname "$0")/look_at_v4l2.py" "$work/"

cat >"$work/job" <<JOB
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=$work/guest TMPDIR=$work/guest OMP_NUM_THREADS=1 PYTHONPATH=${PYTHONPATH:-}
cd $work/guest
echo "== settings, frame numbers, exposure times, unplugged and back"
$python $work/look_at_v4l2.py && echo OK-SETTINGS

echo "== the doctor's program lists the camera's formats"
$python -m ssn_edge_runtime.doctor.camera_probe /dev/video0 >formats.json
cat formats.json
grep -q '"YUYV 320x180, 640x360' formats.json && echo OK-FORMATS

v4l2-ctl -d /dev/video0 --set-fmt-video=width=640,height=360,pixelformat=YUYV >/dev/null

verdicts() { cat \$1/decisions.jsonl 2>/dev/null | grep -c '"kind":"verdict"'; }

echo "== a camera through the guarded line: 20 frames, one record each"
$command -q run --device /dev/video0 --package $package --output camera --deadline-ms 60000 --max-frames 20
[ "\$(verdicts camera)" = 20 ] && $command -q audit camera && echo OK-CAMERA

echo "== a timer's triggers: each has the frame that was exposed after it"
$command -q run --device /dev/video0 --package $package --output timed --deadline-ms 60000 --trigger rate:0.5 --max-frames 5
[ "\$(verdicts timed)" = 5 ] && ! grep '"reason":"\(no_frame\|clock\|deadline\)"' timed/decisions.jsonl && echo OK-TRIGGERS

echo "== no such camera: exit code 5, nothing written"
$command -q run --device /dev/video77 --package $package --output missing
[ \$? = 5 ] && [ ! -e missing ] && echo OK-MISSING

echo "== the camera is unplugged while it runs, and comes back: unknown(no_frame), and the line goes on"
$command -q run --device /dev/video0 --package $package --output unplugged --deadline-ms 60000 &
run=\$!
until [ "\$(verdicts unplugged)" -ge 5 ]; do sleep 1; done
echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
until grep -q '"reason":"no_frame"' unplugged/decisions.jsonl; do sleep 1; done
sleep 1
lost=\$(verdicts unplugged)
echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
until [ "\$(verdicts unplugged)" -ge \$((lost + 5)) ]; do sleep 1; done
kill -TERM \$run
wait \$run && [ "\$(grep -c '"reason":"no_frame"' unplugged/decisions.jsonl)" = 1 ] && echo OK-BACK
JOB

(cd "$work/initrd" && find . | busybox cpio -o -H newc 2>/dev/null | gzip >"$work/initrd.gz")
timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nographic -no-reboot \
  -kernel "$work/kernel/boot/vmlinuz-$version" \
  -initrd "$work/initrd.gz" \
  -append "console=ttyS0 quiet panic=-1" -net none \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null | tee "$work/log"

for wanted in OK-SETTINGS OK-FORMATS OK-CAMERA OK-TRIGGERS OK-MISSING OK-BACK; do
  grep -q "^$wanted" "$work/log" || { echo "FAILED: $wanted is missing"; exit 1; }
done
echo "passed"
