package rollingtest_test

import (
	"github.com/pxrun/pxrun/lab"
)

// packageFaults are those of packages.
var packageFaults = []single{
	{
		name: "a configuration file was changed", shape: three(),
		what: strikes(lab.Fault{Kind: "conffile", Target: "pve1"}),
		says: []string{"/etc/vzdump.conf", "kept"}, stands: upgraded,
	},
	{
		name: "a repository answers 401", shape: three(),
		what: strikes(lab.Fault{Kind: "apt-401", Target: "pve1"}),
		code: refused, says: []string{"pve1", "401", "subscription", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "a repository answers 401 after the packages were fetched", shape: three(),
		what:   when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "apt-401", Target: "pve1"}) }),
		stands: upgraded,
	},
	{
		name: "something holds dpkg's lock for a while", shape: three(),
		what:   when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "dpkg-lock", Target: "pve1", Value: "4m"}) }),
		stands: upgraded,
	},
	{
		name: "something holds dpkg's lock for ever", shape: three(),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "dpkg-lock", Target: "pve1"}) }),
		code: partly, says: []string{"pve1", "unattended-upgr", "no package is left half installed", "pxrun resume"}, stands: emptied, knows: emptiedKnown,
	},
	{
		name: "dpkg was interrupted", shape: three(),
		what: mended(strikes(lab.Fault{Kind: "dpkg-interrupted", Target: "pve1"}), configure),
		code: refused, says: []string{"pve1", "dpkg --configure -a"}, stands: "pve1 half upgraded",
	},
	{
		name: "the boot partition is full", shape: three(),
		what: strikes(lab.Fault{Kind: "boot-full", Target: "pve1"}),
		code: refused, says: []string{"pve1", "/boot", "MiB"}, stands: asBefore,
	},
	{
		name: "a package cannot be set up", shape: three(),
		what: mended(strikes(lab.Fault{Kind: "apt-broken", Target: "pve1", Value: "qemu-server"}), configure),
		code: partly, says: []string{"pve1", "qemu-server", "dpkg --configure -a", "pxrun resume"}, stands: halfOut, knows: emptiedKnown,
	},
	{
		name: "the connection is lost during apt", shape: three(),
		what:   strikes(lab.Fault{Kind: "cut-ssh", Target: "pve1", Phase: "apt:unpack"}),
		stands: upgraded,
	},
	{
		name: "a node loses its power while packages are unpacked", shape: three(),
		what: mended(strikes(lab.Fault{Kind: "power-off", Target: "pve1", Phase: "apt:unpack"}), configure),
		code: partly, says: []string{"the cluster has not seen pve1", "next: bring pve1 back", "pve1 failed", "pxrun resume"}, stands: downOut, knows: emptiedKnown,
	},
}
