package rollingtest_test

import (
	"github.com/pxrun/pxrun/lab"
)

// nodeFaults are those of nodes, of their way back, and of what holds the cluster together.
var nodeFaults = []single{
	{
		name: "a node returns late", shape: three(),
		what:   strikes(lab.Fault{Kind: "slow", Value: "5m", Phase: "boot:start", Target: "pve1"}),
		stands: upgraded,
	},
	{
		name: "a node never returns", shape: three(both),
		what: strikes(lab.Fault{Kind: "power-off", Phase: "boot:start", Target: "pve1"}),
		code: partly, says: []string{"pve1 has not come back within 8m0s", "from pve2: the cluster does not see it", "look: its console", "pxrun resume"}, stands: downOut, knows: emptiedKnown,
	},
	{
		name: "a node's new kernel hangs", shape: three(),
		what: strikes(lab.Fault{Kind: "kernel-hang", Target: "pve1"}),
		code: partly, says: []string{"pve1 has not come back within 8m0s", "choose the kernel that ran before", "pxrun resume"}, stands: downOut, knows: emptiedKnown,
	},
	{
		name: "a node returns on the old kernel", shape: three(),
		what: mended(strikes(lab.Fault{Kind: "old-kernel", Target: "pve1"}), restarts("pve1")),
		code: partly, says: []string{"pve1 came back, and runs kernel 6.17.2-1-pve instead of 6.17.4-1-pve", "proxmox-boot-tool refresh", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "a node returns without a link", shape: three(),
		what: strikes(lab.Fault{Kind: "link-down", Target: "pve1", Value: "10.0.2.1", Phase: "boot:start"}),
		code: partly, says: []string{"link 1", "pve1", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "a node returns without its HA agent", shape: three(),
		what: mended(strikes(lab.Fault{Kind: "unit-fails", Target: "pve1", Value: "pve-ha-lrm.service", Phase: "boot:start"}), func(m *mix) {
			m.w.must("pve1", "systemctl reset-failed pve-ha-lrm; systemctl start pve-ha-lrm")
		}),
		code: partly, says: []string{"pve-ha-lrm", "pve1", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "sshd says nothing when a node is to be emptied", shape: three(),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "sshd-hang", Target: "pve1"}) }),
		code: partly, says: []string{"pve1 has not come back within 8m0s", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "sshd says nothing when a node is back", shape: three(),
		what: strikes(lab.Fault{Kind: "sshd-hang", Target: "pve1", Phase: "boot:start"}),
		code: partly, says: []string{"pve1", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "pmxcfs hangs when a node is back", shape: three(),
		what: strikes(lab.Fault{Kind: "pmxcfs-hang", Target: "pve1", Phase: "boot:start"}),
		code: partly, says: []string{"pve1 has not come back within 8m0s", "from pve2: the cluster does not see it", "look: its console", "pxrun resume"}, stands: "100 on pve3, 101 on pve2, 102 on pve3, pve1 new, pve1 out", knows: emptiedKnown,
	},
	{
		name: "the arbiter dies while the first node is emptied", shape: three(two),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "power-off", Target: "arbiter"}) }),
		code: partly, says: []string{"1 of 3 votes stay without pve1, 2 are needed", "the QDevice is not counted", "corosync-quorumtool", "pxrun resume"},
		stands: "100 on pve2, 101 on pve2, 102 on pve2, pve1 maintenance, pve1 new, pve1 out", knows: emptiedKnown,
	},
	{
		name: "the arbiter dies while the first node is out", shape: three(two),
		what: when(isDown("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "power-off", Target: "arbiter"}) }),
		code: partly, says: []string{"QDevice", "pxrun resume"}, stands: "pve1 new",
	},
	{
		name: "a second node dies while the first is out", shape: three(both),
		what: when(isDown("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "power-off", Target: "pve3"}) }),
		code: partly, says: []string{"saw: pve3 is down", "look: cat /etc/pve/.members", "pve1 failed", "pxrun resume"},
		stands: "100 stopped, 101 on pve2, 102 stopped, pve1 maintenance, pve1 new, pve1 out, pve3 down", knows: emptiedKnown,
	},
}

// cephFaults are those of Ceph.
var cephFaults = []single{
	{
		name: "a node returns without an OSD", shape: three(withCeph, with("healthy_within=5m")),
		what: strikes(lab.Fault{Kind: "osd-down", Target: "pve1", Value: "0", Phase: "boot:start"}),
		code: partly, says: []string{"osd.0 is down", "systemctl status ceph-osd@0.service", "pve1 failed", "unset noout for the OSDs of pve1", "pxrun resume"}, stands: nooutOut, knows: emptiedKnown + " pve1/noout",
	},
	{
		name: "placement groups never get clean", shape: three(withCeph, with("healthy_within=5m")),
		what: when(isDown("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "pg-stuck", Value: "vm"}) }),
		code: partly, says: []string{"saw: placement groups: 1 active+remapped+backfill_toofull", "pve1 failed", "unset noout for the OSDs of pve1", "pxrun resume"}, stands: nooutOut, knows: emptiedKnown + " pve1/noout",
	},
	{
		name: "Ceph's commands hang on the node that is to be emptied", shape: three(withCeph),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "ceph-hang", Target: "pve1"}) }),
		code: partly, says: []string{"saw: vm is inactive", "look: pvesm status", "pve1 failed", "pxrun resume"}, stands: nooutOut, knows: emptiedKnown + " pve1/noout",
	},
	{
		name: "Ceph's commands hang everywhere", shape: three(withCeph),
		what: when(isOut("pve1"), func(m *mix) {
			for _, n := range m.shape.names() {
				m.fault(lab.Fault{Kind: "ceph-hang", Target: n})
			}
		}),
		code: partly, says: []string{"set noout for the OSDs of pve1", "RADOS timed out", "pve1 failed", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "somebody had set noout", shape: three(withCeph),
		what: strikes(lab.Fault{Kind: "ceph-flag", Value: "noout"}),
		code: refused, says: []string{"noout flag(s) set", "look", "ceph health detail"}, stands: "noout",
	},
	{
		name: "somebody sets noout while the first node is out", shape: three(both, withCeph),
		what: when(isDown("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "ceph-flag", Value: "noout"}) }),
		code: partly, says: []string{"noout is set on the whole cluster by somebody else, and stays", "saw: Ceph complains: OSDMAP_FLAGS: noout flag(s) set", "pxrun resume"}, stands: "noout, pve1 new",
	},
}
