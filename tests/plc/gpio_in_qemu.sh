#!/usr/bin/env bash
# The accept pulse on the kernel's GPIO character device without a chip: Debian's stock kernel with its simulated chip
# (gpio-sim), booted in QEMU without acceleration, over this machine's own files. Takes some two minutes; needs Debian and
# root. Not part of CI.
#
#   tests/plc/gpio_in_qemu.sh [PYTHON]
#
# PYTHON has ssn-edge with the extra `gpio` (default .venv/bin/python).
set -euo pipefail

python=$(realpath -s "${1:-$(dirname "$0")/../../.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{initrd/{bin,modules,proc,sys,dev,host},guest}

dpkg -s qemu-system-x86 busybox-static kmod >/dev/null 2>&1 || apt-get install -y -qq qemu-system-x86 busybox-static kmod >/dev/null
image=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
version=${image#linux-image-}
(cd "$work" && apt-get download -qq "$image" 2>/dev/null && dpkg -x "$image"_*.deb kernel)
depmod -b "$work/kernel" "$version"

cp "$(command -v busybox)" "$work/initrd/bin/busybox"
for module in gpio-sim configfs 9p 9pnet_virtio virtio_pci; do
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
mount -t configfs configfs /sys/kernel/config
mkdir /sys/kernel/config/gpio-sim/line /sys/kernel/config/gpio-sim/line/bank
echo 8 >/sys/kernel/config/gpio-sim/line/bank/num_lines
mkdir /sys/kernel/config/gpio-sim/line/bank/line7
echo ACCEPT >/sys/kernel/config/gpio-sim/line/bank/line7/name
echo 1 >/sys/kernel/config/gpio-sim/line/live
chip=\$(cat /sys/kernel/config/gpio-sim/line/bank/chip_name)
device=\$(cat /sys/kernel/config/gpio-sim/line/dev_name)
mount -t 9p -o trans=virtio,version=9p2000.L,ro host /host
mount -t tmpfs tmpfs /host$work/guest
mount -t proc proc /host/proc; mount -t sysfs sys /host/sys; mount --bind /dev /host/dev
chroot /host /usr/bin/env HOME=$work/guest TMPDIR=$work/guest PYTHONPATH=${PYTHONPATH:-} $python $work/look_at_gpio.py \
  \$chip /sys/devices/platform/\$device/\$chip/sim_gpio7 2>&1
poweroff -f
INIT
chmod +x "$work/initrd/init"
cp "$(dirname "$0")/look_at_gpio.py" "$work/"

(cd "$work/initrd" && find . | busybox cpio -o -H newc 2>/dev/null | gzip >"$work/initrd.gz")
timeout 600 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot \
  -kernel "$work/kernel/boot/vmlinuz-$version" \
  -initrd "$work/initrd.gz" \
  -append "console=ttyS0 quiet panic=-1" -net none \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null | tee "$work/log"

for wanted in OK-ALL OK-KILL; do
  grep -q "^$wanted" "$work/log" || { echo "FAILED: $wanted is missing"; exit 1; }
done
echo "passed"
