N=${1:-x}; LC_ALL=C; export LC_ALL
c() { k=$1; t=$2; shift 2; printf '@@%s %s\n' "$N" "$k"; timeout -k 2 "$t" "$@" 2>&1 </dev/null; printf '\n@@%s rc %s\n' "$N" "$?"; }
c id      2 sh -c 'hostname; cat /proc/sys/kernel/random/boot_id; uname -r; cat /proc/uptime /proc/loadavg; date +%s.%N; nproc'
c mem     2 grep -E '^(MemTotal|MemAvailable|SwapTotal|SwapFree):' /proc/meminfo
c df      3 df -PB1 / /boot /var/lib/vz
c pmx     3 sh -c 'readlink /etc/pve/local; stat -c %a /etc/pve/local'
for f in .members .version .vmlist corosync.conf ha/manager_status ha/resources.cfg ha/rules.cfg ha/groups.cfg ha/crm_commands storage.cfg datacenter.cfg replication.cfg ceph.conf
do c "f:$f" 5 cat "/etc/pve/$f"; done
c rrd     5 cat /etc/pve/.rrd
c lrm     5 sh -c 'for d in /etc/pve/nodes/*/; do echo "#$d"; cat "$d/lrm_status" 2>/dev/null; echo; done'
c coro    5 cat /etc/corosync/corosync.conf
c quorum  5 corosync-quorumtool -siH
c links   5 corosync-cfgtool -n
c stats   5 sh -c "corosync-cmapctl -m stats | grep -E 'link[0-9]\.(connected|latency_ave|latency_max|down_count|mtu) '"
c units   5 systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,NRestarts pve-cluster corosync pvedaemon pveproxy pvestatd pvescheduler pve-ha-lrm pve-ha-crm watchdog-mux corosync-qdevice chrony pve-guests
c failed  5 systemctl list-units --failed --no-legend --plain
c time    3 chronyc -c tracking
c pkgs    5 dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' pve-manager proxmox-ve qemu-server pve-container pve-cluster pve-ha-manager corosync pve-qemu-kvm ceph-common ceph-mon ceph-osd corosync-qdevice
c kern    3 sh -c 'for p in next-boot-pin proxmox-boot-pin; do [ -s /etc/kernel/$p ] && echo "$p $(cat /etc/kernel/$p)"; done; ls /boot/vmlinuz-*-pve | sort -V | tail -n 3'
c wd      2 sh -c 'cat /sys/class/watchdog/watchdog0/identity; ls /run/watchdog-mux.active 2>&1'
c guests  3 sh -c 'ls /run/qemu-server/*.pid 2>/dev/null; ls -d /sys/fs/cgroup/lxc/[0-9]* 2>/dev/null'
if [ "${2:-}" = ceph ] && [ -e /etc/pve/ceph.conf ]; then c ceph 15 ceph --connect-timeout 10 -s -f json; fi
printf '@@%s end\n' "$N"; exit 0
