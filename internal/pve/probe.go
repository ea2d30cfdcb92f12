package pve

import (
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// Options choose how much of a node is read.
type Options struct {
	// Brief leaves out what does not change while a cluster forms: packages, hardware, addresses, keys. For polling.
	Brief bool
	// Keys reads, beside what Brief does, the keys that open root's account.
	Keys bool
}

// read is one line of a snapshot script: a name, a time limit and the command.
type read struct {
	name    string
	command string // "cat /etc/pve/.members"
	brief   bool   // also read while polling
	facts   bool   // also read for self.facts
}

// reads is everything that a snapshot holds. All are single files or programs in C, no interpreter is started: the
// whole costs a node less than one call of pvesh.
var reads = []read{
	{"id", `sh -c 'echo "uid $(id -u)"; echo "hostname $(hostname)"; echo "kernel $(uname -r)"; echo "arch $(uname -m)"; echo "cpus $(nproc)"; echo "time $(date +%s.%N)"; echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"; echo "machine_id $(cat /etc/machine-id)"; if [ -e ` + RestartNote + ` ]; then sed -n "s/^/sent_/p" ` + RestartNote + `; fi'`, true, true},
	{"fqdn", `hostname -f`, false, true},
	{"os", `cat /etc/os-release`, false, true},
	{"mem", `grep -E '^(MemTotal|MemAvailable):' /proc/meminfo`, false, true},
	{"addr", `ip -j addr`, false, true},
	{"resolve", `sh -c 'getent ahosts "$(hostname)"'`, false, false},
	{"pmxcfs", `sh -c 'readlink /etc/pve/local; stat -c %a /etc/pve/local'`, true, false},
	{"members", `cat /etc/pve/.members`, true, false},
	{"guests", `cat /etc/pve/.vmlist`, false, false},
	{"conf", `cat /etc/pve/corosync.conf`, true, true},
	{"certs", `sh -c 'for f in /etc/pve/nodes/*/pve-ssl.pem; do if [ -s "$f" ]; then echo "$f"; fi; done'`, true, false},
	{"qdevice_note", `cat ` + QDeviceNote, false, false},
	{"localconf", `cat /etc/corosync/corosync.conf`, true, false},
	{"here", `sh -c 'for f in /etc/corosync/authkey /var/lib/pve-cluster/config.db /etc/corosync/qdevice/net/nssdb /root/.ssh/id_rsa.pub; do if [ -e "$f" ]; then echo "$f"; fi; done'`, true, false},
	{"quorum", `corosync-quorumtool -siH`, true, false},
	{"links", `corosync-cfgtool -n`, false, false},
	{"stats", `sh -c "corosync-cmapctl -m stats | grep -E 'link[0-9]\.(connected|latency_ave|latency_max|down_count|mtu) '"`, false, false},
	{"units", `systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState ` + strings.Join(Services, " ") + ` corosync-qdevice chrony`, false, false},
	{"time", `chronyc -c tracking`, false, false},
	{"packages", `dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' proxmox-ve pve-manager pve-cluster corosync corosync-qdevice`, false, true},
	{"joining", `pgrep -f '[p]vecm (add|create) '`, true, false},
	{"keys", `cat /root/.ssh/authorized_keys`, false, false},
	{"hostkeys", `sh -c 'cat /etc/ssh/ssh_host_*_key.pub'`, false, false},
}

// Services are the units that run on every healthy node. Those of HA are watched too: they run without HA resources.
var Services = []string{"pve-cluster", "corosync", "pvedaemon", "pveproxy", "pvestatd", "pvescheduler", "pve-ha-lrm", "pve-ha-crm", "watchdog-mux"}

// QDeviceNote is the file in which node_join notes the QDevice that it took off for the time of the joins, so that
// any later run knows to put it back.
const QDeviceNote = "/etc/pve/priv/pxrun-qdevice.json"

// RestartNote is the file of a node in which pxrun notes, in lines "key value", that it is about to restart it: run, boot_id of the system
// that is to go down, and at, the time by the node's clock.
const RestartNote = "/var/lib/pxrun/reboot"

// readSeconds bounds each read: any access to a wedged pmxcfs hangs for good.
const readSeconds = 10

func script(want func(read) bool) string { return frame.Script(framed(want)...) }

// NodeReads are the reads of a whole node state, whose answers NodeOf understands, for scripts that read more.
func NodeReads() []frame.Read { return framed(func(read) bool { return true }) }

func framed(want func(read) bool) []frame.Read {
	var chosen []frame.Read
	for _, r := range reads {
		if want(r) {
			pmxcfs := strings.Contains(r.command, "/etc/pve/") || r.name == "keys" // root's authorized_keys is a link into pmxcfs
			chosen = append(chosen, frame.Read{Name: r.name, Seconds: readSeconds, Command: r.command, Pmxcfs: pmxcfs})
		}
	}
	return chosen
}

var (
	fullScript  = script(func(read) bool { return true })
	briefScript = script(func(r read) bool { return r.brief })
	keysScript  = script(func(r read) bool { return r.brief || r.name == "keys" })
	factsScript = script(func(r read) bool { return r.facts })
)

// probeTimeout is longer than all reads of a healthy node ever take, and shorter than their limits together: a node
// on which several reads hang is given up.
const probeTimeout = 45 * time.Second

// ProbeNode is the command that ReadNode runs. It is the same text for the same options, so that a module can list it
// as a probe.
func ProbeNode(o Options) transport.Command {
	text := fullScript
	switch {
	case o.Keys:
		text = keysScript
	case o.Brief:
		text = briefScript
	}
	return transport.Command{Script: text, Timeout: probeTimeout}
}

// FactsProbe is the command that Facts runs.
func FactsProbe() transport.Command {
	return transport.Command{Script: factsScript, Timeout: probeTimeout}
}
