#!/bin/busybox sh
# The first process of the machine: makes the host's files its own, runs one command there and turns it off.
#
# The host's files are shared read-only; what is written goes to memory over them, and goes with the machine.
# /settings, beside this file, brings: house (the checkout), modules (their folder), command (what to run in the house).
export PATH=/bin
. /settings

# Where this fails, its end is the end of the machine: the kernel panics, and qemu leaves without a result.
set -e

mkdir -p /proc /host /memory /guest
mount -t proc proc /proc
for module in virtio_pci 9pnet_virtio 9p overlay; do
	modprobe "$module"
done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs -o mode=755 memory /memory
mkdir /memory/upper /memory/work /memory/house
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /guest

# A live host leaves these full of its own state. The checkout may lie in one of them.
mount --bind "/guest$house" /memory/house
for folder in tmp run; do
	mount -t tmpfs "$folder" "/guest/$folder"
done
mkdir -p "/guest$house" /guest/run/lock /guest/run/netns
mount --bind /memory/house "/guest$house"

mount -t proc proc /guest/proc
mount -t sysfs sys /guest/sys
mount -t cgroup2 cgroup /guest/sys/fs/cgroup
mount -t bpf bpf /guest/sys/fs/bpf
mount -t devtmpfs dev /guest/dev
mkdir -p /guest/dev/shm /guest/dev/pts
mount -t tmpfs shm /guest/dev/shm
mount -t devpts pts /guest/dev/pts

# The kernel loads veth, bridge and the rest from here when they are asked for.
mkdir -p /guest/lib/modules
ln -sfn "$modules" "/guest/lib/modules/$(uname -r)"
ip link set lo up

# Not in a child: what the first process takes for its root is where the kernel looks for modprobe.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec /bin/chroot /guest /bin/sh -c "
	cd '$house' && $command
	echo \"floor: exit code \$?\"
	echo o >/proc/sysrq-trigger
	read -r never"
