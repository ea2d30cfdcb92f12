package rollingtest_test

import (
	"math/rand/v2"
	"time"

	"github.com/pxrun/pxrun/lab"
)

// How the cluster stands, and what the journal knows, at the ends that several faults have in common.
const (
	asBefore = ""
	upgraded = "pve1 new"
	bothNew  = "pve1 new, pve2 new"
	// emptied is pve1 without its guests, out of service.
	emptied      = "100 on pve3, 101 on pve2, 102 on pve3, pve1 maintenance, pve1 out"
	emptiedKnown = "pve1/drain/ct:102 pve1/drain/vm:100 pve1/ledger pve1/maintenance"
	// downOut is the same on a node that is down.
	downOut = "100 on pve3, 101 on pve2, 102 on pve3, pve1 down, pve1 out"
	// nooutOut is the same on a node with OSDs.
	nooutOut = "100 on pve3, 101 on pve2, 102 on pve3, pve1 maintenance, pve1 new, pve1 noout, pve1 out"
	// halfOut is the same with packages that dpkg has not finished with.
	halfOut = "100 on pve3, 101 on pve2, 102 on pve3, pve1 half upgraded, pve1 maintenance, pve1 out"
	// upgradedOut is the same with its packages upgraded.
	upgradedOut = "100 on pve3, 101 on pve2, 102 on pve3, pve1 maintenance, pve1 new, pve1 out"
)

// fills puts a machine on a node that leaves no room for others.
func fills(node, id, mebibytes string) lab.Fault {
	return lab.Fault{Kind: "guests", Target: node, Value: id + " running=1 memory=" + mebibytes}
}

// guestFaults are those of guests and of their ways.
var guestFaults = []single{
	{name: "nothing goes wrong", shape: three(both), stands: bothNew, never: []string{"failed"}},
	{name: "nothing goes wrong with Ceph", shape: three(both, withCeph), stands: bothNew, never: []string{"failed"}},
	{name: "nothing goes wrong with two nodes and an arbiter", shape: three(two), stands: bothNew, never: []string{"failed"}},
	{
		name: "the migration of one guest fails once", shape: three(),
		what: strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: migration aborted", Phase: "migrate:transfer:100"}),
		says: []string{"vm 100 (guest100) could not be moved, trying again", "migration aborted"}, stands: upgraded,
	},
	{
		name: "the migration of one guest fails again and again", shape: three(both),
		what: strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: migration aborted", Phase: "migrate:transfer:100", Every: true}),
		code: partly, says: []string{"move vm 100 (guest100) to pve3", "migration aborted", "vm 100 (guest100) runs on pve1 as before", "pve1 failed", "pxrun resume"},
		stands: asBefore,
	},
	{
		name: "the HA manager takes the request, and nothing happens", shape: three(),
		what: strikes(lab.Fault{Kind: "ha-ignore", Value: "node-maintenance"}),
		code: partly, says: []string{"put pve1 into maintenance", "the HA master took the command and does nothing", "journalctl -u pve-ha-crm", "pxrun resume"},
		stands: asBefore,
	},
	{
		name: "the HA manager takes the request, and its guest does not move", shape: three(),
		what: strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: migration aborted", Phase: "migrate:transfer:101", Every: true}),
		code: partly, says: []string{"vm 101 (guest101)", "pve1", "pxrun resume"},
		stands: asBefore,
	},
	{
		name: "a guest moves though its task failed", shape: three(),
		what:   strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: command failed", Phase: "migrate:moved:100"}),
		stands: upgraded, never: []string{"trying again"},
	},
	{
		name: "an HA guest moves though its task failed", shape: three(),
		what:   strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: command failed", Phase: "migrate:moved:101"}),
		stands: upgraded,
	},
	{
		name: "a target fills up", shape: three(),
		what: when(isOut("pve1"), func(m *mix) { m.fault(fills("pve3", "300", "32000")) }),
		code: partly, says: []string{"vm 100 (guest100)", "pve3", "short", "pve1 failed", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "all targets fill up", shape: three(),
		what: when(isOut("pve1"), func(m *mix) {
			m.fault(fills("pve3", "300", "32000"))
			m.fault(fills("pve2", "301", "30500"))
		}),
		code: partly, says: []string{"vm 100 (guest100)", "pve1 failed", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "a node dies while guests come home from it", shape: three(),
		what: strikes(lab.Fault{Kind: "power-off", Target: "pve3", Phase: "migrate:transfer:100"}),
		code: partly, says: []string{"vm 100 (guest100)", "the cluster has not seen pve3", "next: bring pve3 back", "pxrun resume"}, stands: "100 stopped, 102 stopped, pve1 new, pve1 out, pve3 down",
		knows: emptiedKnown,
	},
	{
		name: "a target dies while guests move to it", shape: three(),
		what: trouble{begin: func(m *mix, _ *rand.Rand) {
			m.fault(lab.Fault{Kind: "slow", Target: "pve1", Value: "20s", Phase: "migrate:transfer:100"})
			when(hasHit, func(m *mix) { m.fault(lab.Fault{Kind: "power-off", Target: "pve3"}) }).begin(m, nil)
		}},
		code: partly, says: []string{"move vm 100 (guest100) to pve3", "saw: pve3 is offline", "could not be taken back: ", "ct 102", "pve1 failed", "pxrun resume"}, stands: "101 on pve2, 102 stopped, pve1 maintenance, pve1 out, pve3 down",
		knows: "pve1/drain/ct:102 pve1/ledger pve1/maintenance",
	},
	{
		name: "a migration never converges, and the policy is to block", shape: three(with("move_within=3m")),
		what: strikes(lab.Fault{Kind: "guest-dirty", Value: "100"}),
		code: partly, says: []string{"vm 100 (guest100)", "on_stall", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "a migration never converges, and the policy is to shut down", shape: three(with("move_within=3m", "on_stall=shutdown"), mayStop(100)),
		what:   strikes(lab.Fault{Kind: "guest-dirty", Value: "100"}),
		says:   []string{"vm 100 (guest100) writes memory faster than the network carries: it is shut down instead"},
		stands: upgraded,
	},
	{
		name: "a guest whose migration would never converge is to be shut down", shape: three(with(`guests={"100"="shutdown"}`), mayStop(100)),
		what:   strikes(lab.Fault{Kind: "guest-dirty", Value: "100"}),
		stands: upgraded,
	},
	{
		name: "a guest whose migration would never converge is to be left until the node goes down", shape: three(with(`guests={"100"="leave"}`), left(100)),
		what:   strikes(lab.Fault{Kind: "guest-dirty", Value: "100"}),
		stands: upgraded,
	},
	{
		name: "a backup begins on the node, and ends", shape: three(),
		what: when(isOut("pve1"), func(m *mix) {
			m.fault(lab.Fault{Kind: "guest-lock", Target: "pve1", Value: "100:backup"})
			_ = m.w.lab.Clock().Sleep(m.ctx, 2*time.Minute)
			m.w.must("pve1", "qm unlock 100")
		}),
		stands: upgraded,
	},
	{
		name: "a backup begins on the node, and does not end", shape: three(with("unlocked_within=5m")),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "guest-lock", Target: "pve1", Value: "100:backup"}) }),
		code: partly, says: []string{"vm 100 (guest100) is locked (backup)", "look: qm config 100", "pve1 failed", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "a guest does not shut down", shape: three(with(`guests={"100"="shutdown"}`), mayStop(100)),
		what: strikes(lab.Fault{Kind: "guest-deaf", Value: "100"}),
		code: partly, says: []string{"vm 100 (guest100)", "it still runs, and is never stopped hard", "another policy", "pxrun resume"}, stands: asBefore,
	},
}
