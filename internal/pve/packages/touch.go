package packages

import (
	"strings"
)

// Touch is something of a node that an upgrade disturbs or leaves half done.
type Touch struct {
	// Code is corosync, pmxcfs, ha, qemu, ceph, kernel, microcode, libc or network.
	Code string `json:"code"`
	Text string `json:"text"`
	// Disruptive says that something stops for a while; otherwise only what comes later changes.
	Disruptive bool `json:"disruptive,omitempty"`
}

// touches are what packages disturb, by prefixes of their names (reference §7.3).
var touches = []struct {
	names []string
	Touch
}{
	{[]string{"corosync=", "libcorosync", "libknet", "libqb", "libquorum", "libvotequorum", "libcpg", "libcmap", "libcfg"}, Touch{"corosync", "corosync restarts: the node leaves the cluster for some seconds", true}},
	{[]string{"pve-cluster=", "libpve-cluster-perl="}, Touch{"pmxcfs", "pve-cluster restarts: /etc/pve is away for some seconds", true}},
	{[]string{"pve-ha-manager="}, Touch{"ha", "the HA daemons restart: HA services are frozen meanwhile", true}},
	{[]string{"ifupdown2=", "openvswitch-switch=", "frr="}, Touch{"network", "the network may be configured anew", true}},
	{[]string{"libc6=", "libc-bin=", "systemd="}, Touch{"libc", "daemons use the old libraries until they are restarted", true}},
	{[]string{"pve-qemu-kvm=", "qemu-server="}, Touch{"qemu", "running virtual machines keep the old QEMU until they are moved or started anew", false}},
	{[]string{"ceph-mon=", "ceph-osd=", "ceph-mgr=", "ceph-mds=", "ceph-base="}, Touch{"ceph", "running Ceph daemons keep the old version until they are restarted", false}},
	{[]string{"proxmox-kernel-", "pve-kernel-", "linux-image-"}, Touch{"kernel", "a new kernel takes effect at the next start", false}},
	{[]string{"intel-microcode=", "amd64-microcode="}, Touch{"microcode", "new microcode takes effect at the next start", false}},
}

// Touches are what this upgrade disturbs, each once.
func (s Simulation) Touches() []Touch {
	var out []Touch
	for _, t := range touches {
		for _, c := range s.Installs {
			if c.is(t.names) && !strings.Contains(c.Name, "kernel-helper") {
				out = append(out, t.Touch)
				break
			}
		}
	}
	return out
}

// is reports whether the package is one of some names: those that end in "=" are exact, others beginnings.
func (c Change) is(names []string) bool {
	for _, n := range names {
		if exact, ok := strings.CutSuffix(n, "="); ok && c.Name == exact || !ok && strings.HasPrefix(c.Name, n) {
			return true
		}
	}
	return false
}

// Expect are the reasons for a restart that this upgrade will probably leave, beside those that are there already: for a plan,
// before it is made.
func (s State) Expect() []Reason {
	reasons := s.Boot.Reasons()
	has := func(code string) bool {
		for _, r := range reasons {
			if r.Code == code {
				return true
			}
		}
		return false
	}
	for _, t := range s.Upgrade.Touches() {
		switch {
		case t.Code == "kernel" && !has("kernel") && s.Boot.OneShotPin == "" && s.Boot.Pin == "" && s.bringsKernel(),
			t.Code == "microcode" && !has("microcode"):
			reasons = append(reasons, Reason{t.Code, t.Text})
		case t.Code == "libc" && !has("libraries"):
			reasons = append(reasons, Reason{"libraries", t.Text})
		}
	}
	return reasons
}

// bringsKernel reports whether a kernel image comes that is not there yet, rather than a package that only points to one.
func (s State) bringsKernel() bool {
	for _, c := range s.Upgrade.Installs {
		if c.From == "" && c.is([]string{"proxmox-kernel-", "pve-kernel-", "linux-image-"}) && !strings.Contains(c.Name, "helper") {
			return true
		}
	}
	return false
}
