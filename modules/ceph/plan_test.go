package ceph

import (
	"errors"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

const whole = `
network    = "10.0.3.0/24"
repository = "no-subscription"
pool "vm" {
  size     = 3
  min_size = 2
  storage  = true
}
fs "cephfs" {}
`

func withDisks(t *testkit.Target, names ...string) *testkit.Target {
	for _, name := range names {
		osdsOf(t, name, inventory.OSD{Device: byIDOf(name, "sdb"), DBDevice: byIDOf(name, "nvme0n1")}, inventory.OSD{Device: byIDOf(name, "sdc"), DBDevice: byIDOf(name, "nvme0n1")})
	}
	return t
}

func TestAWholeClusterFromNothing(t *testing.T) {
	s := newSite(t, "pve1", "pve2", "pve3")
	changes := testkit.Plan(t, cephInit(), withDisks(s.target(), s.order...), whole)
	require.Equal(t, []string{
		"install Ceph squid on pve1", "install Ceph squid on pve2", "install Ceph squid on pve3",
		"make the Ceph cluster on network 10.0.3.0/24",
		"make a monitor on pve1", "make a monitor on pve2", "make a monitor on pve3",
		"make a manager on pve2", "make a manager on pve3",
		"make an OSD of ata-ACME_pve1-sdb on pve1", "make an OSD of ata-ACME_pve1-sdc on pve1", "make an OSD of ata-ACME_pve2-sdb on pve2",
		"make an OSD of ata-ACME_pve2-sdc on pve2", "make an OSD of ata-ACME_pve3-sdb on pve3", "make an OSD of ata-ACME_pve3-sdc on pve3",
		"make pool vm", "register storage vm",
		"make a metadata server on pve1", "make a metadata server on pve2", "make CephFS cephfs",
	}, testkit.Summaries(changes))
	for _, c := range changes {
		require.Empty(t, c.Predicted, c.Summary)
		require.Empty(t, c.Risk, c.Summary)
		switch {
		case strings.HasPrefix(c.Summary, "install"):
			require.Equal(t, kindInstall, c.Group)
		case strings.HasPrefix(c.Summary, "make an OSD"):
			require.Equal(t, kindOSD, c.Group)
			require.Contains(t, c.After.(map[string]any)["disk"], "960.2 GB, ACME, serial "+c.Host)
		default:
			require.Empty(t, c.Group, "one after the other: %s", c.Summary)
		}
	}
}

func TestAWholeClusterThatIsThereNeedsNothing(t *testing.T) {
	s := made(t)
	tgt := s.target()
	for _, name := range s.order {
		osdsOf(tgt, name, inventory.OSD{Device: byIDOf(name, "sdb"), Wipe: "xfs-00000000"})
	}
	s.storages = "rbd: vm\n\tpool vm\n"
	require.Empty(t, testkit.Plan(t, cephInit(), tgt, strings.Replace(whole, `fs "cephfs" {}`, "", 1)))
	require.Empty(t, tgt.Warnings())
	out := testkit.Read(t, cephInit(), tgt, whole).(cephOut)
	require.Equal(t, "HEALTH_OK", out.Health)
	require.True(t, out.Clean)
	require.Equal(t, []string{"pve1", "pve2", "pve3"}, out.Mons)
	require.Equal(t, []string{".mgr", "vm"}, out.Pools)
	require.Equal(t, []string{"pve1", "pve1"}, s.clusterReads, "only one node is asked about the cluster")
}

func TestDriftIsMended(t *testing.T) {
	tests := []struct {
		name  string
		drift func(*site)
		want  []string
	}{
		{"a monitor that does not run", func(s *site) {
			s.nodes["pve2"].daemons["mon.pve2"], s.quorum = "inactive", []string{"pve1", "pve3"}
		}, []string{"start ceph-mon@pve2 on pve2"}},
		{"a manager that does not run", func(s *site) { s.nodes["pve3"].daemons["mgr.pve3"] = "failed" }, []string{"start ceph-mgr@pve3 on pve3"}},
		{"a manager that is gone", func(s *site) { delete(s.nodes["pve3"].daemons, "mgr.pve3") }, []string{"make a manager on pve3"}},
		{"an OSD that failed", func(s *site) { s.nodes["pve1"].daemons["osd.0"], s.osds[0].up = "failed", false }, []string{"start ceph-osd@0 on pve1"}},
		{"a class", func(s *site) { s.osds[1].class = "hdd" }, []string{"give osd.1 the device class ssd"}},
		{"a pool's copies", func(s *site) { s.pools[1]["size"] = 2 }, []string{"change pool vm"}},
		{"a pool's application", func(s *site) { s.pools[1]["application_metadata"] = map[string]any{} }, []string{"change pool vm"}},
		{"the storage", func(s *site) { s.storages = "" }, []string{"register storage vm"}},
		{"a monitor that is missing", func(s *site) {
			delete(s.nodes["pve3"].daemons, "mon.pve3")
			s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
		}, []string{"make a monitor on pve3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := made(t)
			s.storages = "rbd: vm\n\tpool vm\n"
			tt.drift(s)
			tgt := s.target()
			for _, name := range s.order {
				osdsOf(tgt, name, inventory.OSD{Device: byIDOf(name, "sdb"), Class: "ssd"})
			}
			require.Equal(t, tt.want, testkit.Summaries(testkit.Plan(t, cephInit(), tgt, strings.Replace(whole, `fs "cephfs" {}`, "", 1))))
		})
	}
}

func TestRefusals(t *testing.T) {
	free := func(s *site) { *s = *newSite(s.tb, "pve1", "pve2", "pve3") }
	tests := []struct {
		name   string
		module module.Module
		args   string
		given  func(*site)
		want   []string
	}{
		{"another public network", cephInit(), `network = "10.9.0.0/24"`, nil, []string{"its public network is 10.0.3.0/24, and the runbook says 10.9.0.0/24", "never changed"}},
		{"another cluster network", cephInit(), "network = \"10.0.3.0/24\"\ncluster_network = \"10.9.0.0/24\"", nil, []string{"its cluster network is 10.0.3.0/24"}},
		{"a node without an address", cephInit(), `network = "10.7.0.0/24"`, free, []string{"pve1: refused", "pve2: refused", "no interface has an address in Ceph's public network 10.7.0.0/24"}},
		{"ceph.conf lost", cephInit(), whole, func(s *site) { s.inited = false }, []string{
			"names no cluster, and there are remains of one: /var/lib/ceph/mon/ceph-pve1 on pve1, /var/lib/ceph/osd/ceph-0 on pve1", "1 more",
			"on pve1, while its monitor is stopped: ceph-mon -i pve1 --extract-monmap", "write /etc/pve/ceph.conf again", "move these folders and the key away on every node",
		}},
		{"OSDs of a cluster that is lost", cephInit(), whole, func(s *site) {
			free(s)
			s.nodes["pve3"].daemons["osd.4"] = "inactive"
		}, []string{"/var/lib/ceph/osd/ceph-4 on pve3", "on pve3: cat /var/lib/ceph/osd/ceph-4/ceph_fsid"}},
		{"the key of a cluster that is lost", cephInit(), whole, func(s *site) { free(s); s.keyring = true }, []string{"remains of one: /etc/pve/priv/ceph.client.admin.keyring", "from a backup of /etc/pve"}},
		{"a node that may have remains", cephInit(), `network = "10.0.3.0/24"` + "\nmons = [\"pve1\"]", func(s *site) {
			free(s)
			for _, name := range s.order {
				s.nodes[name].ceph = "19.2.3-pve2"
			}
			s.nodes["pve3"].down = errors.New("no route to host")
		}, []string{"no route to host"}},
		{"key without init", cephInit(), whole, func(s *site) { s.keyring = false }, []string{"ceph.client.admin.keyring is missing, and there are monitors"}},
		{"a silent cluster", cephInit(), whole, func(s *site) { s.silent = true; s.nodes["pve1"].daemons["mon.pve1"] = "failed" }, []string{"the monitors did not answer", "ceph-mon@pve1 on pve1 is not running", "look: timeout 15 ceph"}},
		{"a silent cluster and a pool", cephPool(), "", func(s *site) { s.silent = true }, []string{"a quorum of monitors that answers within 10 s"}},
		{"no Ceph at all", cephPool(), "", free, []string{"this cluster has no Ceph", "put ceph_init before this task"}},
		{"another release", cephInstall(), `version = "tentacle"`, nil, []string{"Ceph squid (19.2.3-pve2) is installed", "wanted: Ceph tentacle"}},
		{"a neighbour's release", cephInstall(), `version = "squid"`, func(s *site) { free(s); s.nodes["pve3"].ceph = "20.2.0-pve1" }, []string{"pve3 has Ceph tentacle"}},
		{"a release of old", cephInstall(), `version = "reef"`, free, []string{"Ceph reef on Proxmox VE 9.1.4", "one of squid, tentacle"}},
		{"packages half configured", cephInstall(), "", func(s *site) {
			free(s)
			s.nodes["pve2"].flag, s.nodes["pve2"].audit = true, "half-configured: ceph-osd"
		}, []string{"half-configured: ceph-osd", "dpkg --configure -a"}},
		{"plain Debian", cephInstall(), "", func(s *site) { free(s); s.nodes["pve2"].release = "" }, []string{"Proxmox VE is not installed"}},
		{"a stranger", cephMon(), "", func(s *site) { s.nodes["pve2"].stranger = true }, []string{`it is no member of cluster "lab"`}},
		{"a node that does not answer", cephMon(), "", func(s *site) { s.nodes["pve2"].hanging = true }, []string{"pve2: refused", "/etc/pve/corosync.conf on it failed: no answer within its time limit"}},
		{"no quorum", cephMon(), "", func(s *site) {
			delete(s.nodes["pve3"].daemons, "mon.pve3")
			s.confMons, s.quorum, s.nodes["pve3"].readonly = s.confMons[:2], s.quorum[:2], true
		}, []string{"pve3: refused", "not quorate"}},
		{"a monitor's folder without an entry", cephMon(), "", func(s *site) { s.confMons, s.quorum = s.confMons[:2], s.quorum[:2] }, []string{"/var/lib/ceph/mon/ceph-pve3 is there, and /etc/pve/ceph.conf does not list", "was cut off"}},
		{"a monitor's entry without a folder", cephMon(), "", func(s *site) { delete(s.nodes["pve3"].daemons, "mon.pve3") }, []string{"lists a monitor pve3, and the node has no /var/lib/ceph/mon/ceph-pve3"}},
		{"a member that is not listed", cephMon(), "", func(s *site) { s.confMons = s.confMons[:2] }, []string{"is in the quorum, and /etc/pve/ceph.conf does not list it"}},
		{"two addresses for a monitor", cephMon(), "", func(s *site) {
			delete(s.nodes["pve3"].daemons, "mon.pve3")
			s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
			s.nodes["pve3"].addresses = append(s.nodes["pve3"].addresses, "10.0.3.33/24")
		}, []string{"several addresses in the public network: 10.0.3.3, 10.0.3.33", "addresses = { pve3"}},
		{"an address that is not there", cephMon(), `addresses = { pve3 = "10.0.3.99" }`, func(s *site) {
			delete(s.nodes["pve3"].daemons, "mon.pve3")
			s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
		}, []string{"no interface has 10.0.3.99"}},
		{"a ceph.conf of its own", cephMon(), "", func(s *site) {
			delete(s.nodes["pve3"].daemons, "mon.pve3")
			s.confMons, s.quorum, s.nodes["pve3"].link = s.confMons[:2], s.quorum[:2], "file"
		}, []string{"/etc/ceph/ceph.conf is a file of its own"}},
		{"fewer than three monitors", cephMon(), "ensure = \"absent\"\nnodes = [\"pve3\"]", nil, []string{"2 monitors would be left"}},
		{"no monitors named", cephMon(), `ensure = "absent"`, nil, []string{"no nodes are named"}},
		{"the last manager", cephMgr(), "ensure = \"absent\"\nnodes = [\"pve1\", \"pve2\", \"pve3\"]", nil, []string{"no manager would run any more"}},
		{"the last metadata server", cephMDS(), "ensure = \"absent\"\nnodes = [\"pve1\"]", func(s *site) {
			s.nodes["pve1"].daemons["mds.pve1"], s.active = "active", []string{"pve1"}
			s.filesystems = []map[string]any{{"name": "cephfs", "metadata_pool": "m", "data_pools": []string{"d"}}}
		}, []string{"0 metadata servers would be left for 1 file systems"}},
		{"a file system without metadata servers", cephFS(), "", nil, []string{"0 metadata servers stand by"}},
		{"pools of a file system that was cut off", cephFS(), `name = "cephfs"`, func(s *site) {
			s.standby = 2
			s.pools = append(s.pools, replicated(5, "cephfs_data", "cephfs"))
		}, []string{"there is a pool cephfs_data and no file system", "ceph fs new cephfs cephfs_metadata cephfs_data"}},
		{"a flag on an unknown host", cephFlag(), `node = "pve9"`, nil, []string{"the CRUSH map has no OSDs on a host pve9"}},
		{"fewer copies", cephPool(), "size = 2", nil, []string{"size is 3, and the runbook says 2", `lower = ["size"]`}},
		{"fewer copies for writes", cephPool(), "min_size = 1", nil, []string{"min_size is 2, and the runbook says 1"}},
		{"only the other one may be lowered", cephPool(), "size = 2\nmin_size = 1\nlower = [\"size\"]", nil, []string{"min_size is 2"}},
		{"an unknown rule", cephPool(), `crush_rule = "fast"`, nil, []string{`there is no CRUSH rule "fast"; there are replicated_rule`}},
		{"a class that no OSD has", cephPool(), "crush_rule = \"fast\"\ndevice_class = \"nvme\"", nil, []string{"no OSD is of class nvme; there are ssd", "name another device_class"}},
		{"a failure domain that no host is in", cephPool(), "crush_rule = \"far\"\nfailure_domain = \"datacenter\"", nil, []string{"no host with OSDs is in a datacenter", "place hosts by ceph_crush"}},
		{"an erasure code on a class that no OSD has", cephPool(), "name = \"ec\"\nerasure_coding {\n  k = 2\n  m = 1\n  device_class = \"hdd\"\n}", nil, []string{"no OSD is of class hdd"}},
		{"a rule that is something else", cephPool(), "crush_rule = \"replicated_rule\"\ndevice_class = \"ssd\"", nil, []string{`takes class "" over host`}},
		{"destroy without its name", cephPool(), `ensure = "absent"`, nil, []string{`destroy is ""`, `destroy = "vm"`}},
		{"destroy with another name", cephPool(), "ensure = \"absent\"\ndestroy = \"wm\"", nil, []string{`destroy is "wm"`}},
		{"destroy what a storage uses", cephPool(), "ensure = \"absent\"\ndestroy = \"vm\"", func(s *site) { s.storages = "rbd: disks\n\tpool vm\n" }, []string{"storage disks uses it"}},
		{"destroy what a file system uses", cephPool(), "ensure = \"absent\"\ndestroy = \"vm\"", func(s *site) {
			s.filesystems = []map[string]any{{"name": "cephfs", "metadata_pool": "m", "data_pools": []string{"vm"}}}
		}, []string{"CephFS cephfs lies on it"}},
		{"destroy Ceph's own", cephPool(), "name = \".mgr\"\nensure = \"absent\"\ndestroy = \".mgr\"", nil, []string{"Ceph's own"}},
		{"a storage that is something else", cephPool(), "storage = true", func(s *site) { s.storages = "dir: vm\n\tpath /x\n" }, []string{"there is a storage vm of type dir"}},
		{"half an erasure coded pool", cephPool(), "erasure_coding {\n  k = 2\n  m = 1\n}", func(s *site) { s.pools = append(s.pools, replicated(7, "vm-metadata", "rbd")) }, []string{"one is there and the other is not"}},
		{"too few places without them", cephOSD(), "ensure = \"absent\"\nids = [0]", nil, []string{"pool vm keeps 3 copies and would find 2 places"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := made(t)
			if tt.given != nil {
				tt.given(s)
			}
			text := refused(t, tt.module, withDisks(s.target()), tt.args)
			for _, want := range tt.want {
				require.Contains(t, text, want)
			}
			require.Empty(t, s.ran)
		})
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name   string
		module module.Module
		args   string
		given  func(*site)
		want   string
	}{
		{"two copies", cephPool(), "size = 2\nlower = [\"size\"]", nil, "pool vm keeps two copies"},
		{"one copy for writes", cephPool(), "min_size = 1\nlower = [\"min_size\"]", nil, "(min_size 1)"},
		{"fewer hosts than copies", cephPool(), "name = \"new\"\nsize = 4", nil, "keeps 4 copies, each on a host of its own, and there are 3"},
		{"fewer hosts than pieces", cephPool(), "name = \"new\"\nerasure_coding {\n  k = 3\n  m = 1\n}", nil, "pool new needs 4 hosts with OSDs"},
		{"two monitors", cephMon(), `nodes = ["pve1", "pve2"]`, func(s *site) { *s = *fresh(s.tb); s.confMons, s.quorum = nil, nil }, "two monitors"},
		{"no subscription", cephInstall(), "", func(s *site) { *s = *newSite(s.tb, "pve1"); s.nodes["pve1"].sub = false }, "there is no subscription"},
		{"another repository", cephInstall(), `repository = "enterprise"`, func(s *site) { s.nodes["pve2"].repo = "no-subscription" }, "Ceph's repository is no-subscription, wanted enterprise"},
		{"an OSD without a host", cephOSD(), "disk {\n  node = \"pve1\"\n  device = \"" + byIDOf("pve1", "sdb") + "\"\n}", func(s *site) { s.osds = append(s.osds, fakeOSD{id: 9}) }, "osd.9 is allocated and belongs to no host"},
		{"an OSD that is out", cephOSD(), "disk {\n  node = \"pve1\"\n  device = \"" + byIDOf("pve1", "sdb") + "\"\n}", func(s *site) { s.osds[0].in = false }, "osd.0 is out"},
		{"an ill cluster", cephInit(), `network = "10.0.3.0/24"`, func(s *site) {
			s.health, s.checks = "HEALTH_WARN", map[string]any{"OSD_DOWN": map[string]any{"summary": map[string]any{"message": "1 osds down"}}}
		}, "Ceph says HEALTH_WARN: OSD_DOWN: 1 osds down"},
		{"one metadata server", cephFS(), "", func(s *site) { s.standby = 1 }, "has one metadata server"},
		{"sizes of new pools", cephInit(), "network = \"10.0.3.0/24\"", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := made(t)
			if tt.given != nil {
				tt.given(s)
			}
			tgt := s.target()
			testkit.Plan(t, tt.module, tgt, tt.args)
			if tt.want == "" {
				require.Empty(t, tgt.Warnings())
				return
			}
			require.Contains(t, strings.Join(tgt.Warnings(), "\n"), tt.want)
		})
	}
}

// fresh is a cluster that was made and has no monitor yet.
func fresh(tb testing.TB) *site {
	s := newSite(tb, "pve1", "pve2", "pve3")
	s.inited, s.keyring, s.public = true, true, "10.0.3.0/24"
	for _, name := range s.order {
		s.nodes[name].ceph = "19.2.3-pve2"
	}
	return s
}

func TestPartsOnWhatEarlierTasksMake(t *testing.T) {
	s := newSite(t, "pve1", "pve2", "pve3")
	for _, name := range s.order {
		s.nodes[name].stranger, s.nodes[name].readonly = name != "pve1", true // pve1's cluster was made and is not quorate
	}
	tgt := withDisks(s.target(), s.order...)
	plan := func(m module.Module, args string) []module.Change {
		changes := testkit.Plan(t, m, tgt, args)
		require.NotEmpty(t, changes)
		for _, c := range changes {
			require.NotEmpty(t, c.Predicted, c.Summary)
			tgt.Earlier = append(tgt.Earlier, module.Planned{Module: m.Spec().Name, Change: c})
		}
		return changes
	}
	tgt.Earlier = []module.Planned{{Module: "cluster_create", Change: module.Change{ID: "pve1/create", Host: "pve1", Action: module.Create, Summary: `create cluster "lab"`}}}
	for _, name := range s.order[1:] {
		tgt.Earlier = append(tgt.Earlier, module.Planned{Module: "node_join", Change: module.Change{ID: name + "/join", Host: name, Action: module.Create, Summary: "join " + name}})
	}
	all := plan(cephInit(), whole)
	require.Len(t, all, 20)
	require.Empty(t, testkit.Plan(t, cephPool(), tgt, `name = "vm"`), "the pool is made by the task before")
	plan(cephPool(), `name = "more"`)
	plan(cephFlag(), `flag = "noout"`)
}

func TestNodesThatAreDownMatterWhereTheyAreNeeded(t *testing.T) {
	s := made(t)
	s.nodes["pve3"].down = errors.New("pve3: connect: no route to host")
	require.Empty(t, testkit.Plan(t, cephPool(), s.target(), ""))
	require.Contains(t, refused(t, cephMon(), s.target(), ""), "no route to host")
	s.nodes["pve1"].down = errors.New("pve1: connect: no route to host")
	changes, err := testkit.TryPlan(t, cephFlag(), s.target(), `flag = "noout"`)
	require.NoError(t, err)
	require.Equal(t, "pve2", changes[0].Host, "the next node with a monitor is asked and acts")
}

func TestAStrangersMonitorNameIsTakenAsItIs(t *testing.T) {
	s := made(t)
	n := s.nodes["pve2"]
	delete(n.daemons, "mon.pve2")
	n.daemons["mon.b"], s.confMons, s.quorum = "active", []string{"b", "pve1", "pve3"}, []string{"pve1", "b", "pve3"}
	tgt := s.target()
	require.Empty(t, testkit.Plan(t, cephMon(), tgt, ""))
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "its monitor is called b")
}
