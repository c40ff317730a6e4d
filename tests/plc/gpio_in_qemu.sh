#!/usr/bin/env bash
# The accept pulse on the kernel's GPIO character device without a chip: Debian's stock kernel with a chip of one wire
# (ssn_wire.c; that kernel has no simulated one), booted in QEMU without acceleration, over this machine's own files. Takes
# some five minutes; needs Debian, gcc and root. Not part of CI.
#
#   tests/plc/gpio_in_qemu.sh [PYTHON]
#
# PYTHON has ssn-edge with the extra `gpio` (default .venv/bin/python).
set -euo pipefail

here=$(realpath "$(dirname "$0")")
python=$(realpath -s "${1:-$here/../../.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{initrd/{bin,modules,proc,sys,dev,host},guest,wire}

packages=(qemu-system-x86 busybox-static kmod gcc make)
dpkg -s "${packages[@]}" >/dev/null 2>&1 || apt-get install -y -qq "${packages[@]}" >/dev/null
image=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
version=${image#linux-image-}
kbuild=$(apt-cache depends "linux-headers-$version" | awk '/Depends: linux-kbuild/ { print $2; exit }')
cd "$work"
apt-get download -qq "$image" "linux-headers-$version" "linux-headers-${version%-*}-common" "$kbuild" 2>/dev/null
for package in ./*.deb; do dpkg -x "$package" kernel; done
depmod -b kernel "$version"

headers=kernel/usr/src/linux-headers-$version
sed -i "s|/usr/src|$work/kernel/usr/src|" "$headers/Makefile" "$headers/.kernelvariables"
cp "$here/ssn_wire.c" "$here/look_at_gpio.py" wire/
echo "obj-m := ssn_wire.o" >wire/Makefile
make -s -C "$headers" M="$work/wire" modules

cp "$(command -v busybox)" initrd/bin/busybox
for module in 9p 9pnet_virtio virtio_pci; do
  modprobe -d "$work/kernel" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
  cp "$file" initrd/modules/
  echo "insmod /modules/$(basename "$file")"
done >initrd/load
cp wire/ssn_wire.ko initrd/modules/

cat >initrd/init <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r line; do \$line; done </load
insmod /modules/ssn_wire.ko
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs tmpfs /host$work/guest
mount -t proc proc /host/proc; mount -t sysfs sys /host/sys; mount --bind /dev /host/dev
chroot /host /usr/bin/env HOME=$work/guest TMPDIR=$work/guest PYTHONPATH=${PYTHONPATH:-} $python $work/wire/look_at_gpio.py \
  /dev/gpiochip0 /sys/module/ssn_wire/parameters 2>&1
poweroff -f
INIT
chmod +x initrd/init

(cd initrd && find . | busybox cpio -o -H newc 2>/dev/null | gzip >"$work/initrd.gz")
timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot \
  -kernel "kernel/boot/vmlinuz-$version" \
  -initrd initrd.gz \
  -append "console=ttyS0 quiet panic=-1" -net none \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null | tee log

for wanted in OK-PULSES OK-ENDS OK-KILLED; do
  grep -q "^$wanted" log || { echo "FAILED: $wanted is missing"; exit 1; }
done
echo "passed"
