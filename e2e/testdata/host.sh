#!/bin/sh
# The first process of a host. It runs in namespaces of its own, makes a private root, and becomes systemd.
# $1 folder for the root, $2 folder with what is to be copied into it, $3 name of the host, $4 size of its disk
set -eu
root=$1 seed=$2 name=$3 size=$4

mount -t tmpfs -o "size=$size,mode=755" tmpfs "$root"
cd "$root"
mkdir -p dev etc home mnt opt proc root run srv sys tmp usr var .over
chmod 1777 tmp
chmod 700 root
for d in usr etc var; do
	mkdir -p ".over/$d" ".over/$d.work"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=.over/$d,workdir=.over/$d.work" "$d"
done
for d in bin sbin lib lib64; do ln -s "usr/$d" "$d"; done

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys # the kernel's settings belong to the machine
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm run/lock
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for d in null zero full random urandom tty; do
	: >"dev/$d"
	mount --bind "/dev/$d" "dev/$d"
done

# Of this machine's services only those that a test asks for are started.
rm -rf etc/systemd/system usr/lib/systemd/system/*.target.wants usr/sbin/policy-rc.d etc/ssh/ssh_host_* etc/ssh/sshd_config.d etc/nologin
rm -rf var/log/* var/tmp/* var/cache/apt/*.bin
mkdir -p etc/systemd/system
cat >etc/systemd/system/e2e.target <<-UNIT
	[Unit]
	Description=The host is up
	Wants=ssh.service up.service
	After=ssh.service up.service
UNIT
cat >etc/systemd/system/sysinit.target <<-UNIT
	[Unit]
	Description=Nothing to set up
	DefaultDependencies=no
UNIT
ln -s e2e.target etc/systemd/system/default.target
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket; do
	ln -s /dev/null "etc/systemd/system/$unit"
done
cp -a "$seed/." .
hostname "$name"
echo "$name" >etc/hostname
rm -f etc/machine-id
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >etc/machine-id

if [ -e .setup ]; then chroot . /bin/sh -eu /.setup; fi
rm -f .setup
mkdir .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
ip link set lo up
exec env -i container=namespace LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --show-status=0 --log-target=console --log-level=notice </dev/null
