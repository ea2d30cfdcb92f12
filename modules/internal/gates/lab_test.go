package gates_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	labdisk "github.com/pxrun/pxrun/lab/disk"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/modules/ceph"
	"github.com/pxrun/pxrun/modules/internal/gates"
	"github.com/stretchr/testify/require"
)

// saws are what the closed gates of a node saw, by gate.
func saws(t *testing.T, tgt *labkit.Target, node string, o gates.Options) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, v := range gates.Look(t.Context(), tgt, node, o).Verdicts {
		if !v.OK && v.Reading.Override == "" {
			out[v.Gate] = v.Saw
		}
	}
	return out
}

// becomes waits until the closed gates of a node are these, by a part of what they saw.
func becomes(t *testing.T, tgt *labkit.Target, node string, o gates.Options, want map[string]string) {
	t.Helper()
	var last map[string]string
	err := tgt.Lab.Clock().Sleep(t.Context(), 0)
	require.NoError(t, err)
	for start := tgt.Lab.Clock().Elapsed(); tgt.Lab.Clock().Elapsed()-start < 10*time.Minute; {
		last = saws(t, tgt, node, o)
		same := len(last) == len(want)
		for gate, part := range want {
			same = same && strings.Contains(last[gate], part)
		}
		if same {
			return
		}
		require.NoError(t, tgt.Lab.Clock().Sleep(t.Context(), 2*time.Second))
	}
	require.Equal(t, want, last, node)
}

var all = map[string]string{} // no gate is closed

func TestGatesOnALab(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.4.1", "9.1.8"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			tgt := labkit.New(t, 3, func(s *lab.Spec) {
				for i := range s.Hosts {
					s.Hosts[i].PVE = version
				}
			})
			tgt.Form()
			empty := gates.Options{Gate: "reboot pve2", Empty: true}
			becomes(t, tgt, "pve2", empty, all)
			require.Equal(t, "there is no Ceph", gates.CephBears(t.Context(), tgt, "pve1", "pve2").Saw)

			t.Run("guests", func(t *testing.T) { guestsCount(t, tgt) })
			t.Run("tasks", func(t *testing.T) { tasksCount(t, tgt) })
			t.Run("links", func(t *testing.T) {
				id := fault(t, tgt, lab.Fault{Kind: "link-down", Target: "pve1"})
				becomes(t, tgt, "pve2", empty, map[string]string{gates.Links: "link 1 from pve1 to pve3 is down"})
				becomes(t, tgt, "pve1", empty, all) // its own links go with it
				require.NoError(t, tgt.Lab.ClearFault(id))
				becomes(t, tgt, "pve2", empty, all)
			})
			t.Run("a node was told to restart", func(t *testing.T) {
				tgt.Must("pve3", `mkdir -p /var/lib/pxrun; printf 'run 01OTHER\nboot_id %s\nkernel x\nexpect y\nat %s\n' "$(cat /proc/sys/kernel/random/boot_id)" "$(date +%s.%N)" >/var/lib/pxrun/reboot`)
				becomes(t, tgt, "pve2", empty, map[string]string{gates.Others: "pve3 is about to go down: run 01OTHER told it to restart"})
				becomes(t, tgt, "pve2", gates.Options{Gate: "reboot pve2", Empty: true, Away: []string{"pve3"}}, map[string]string{gates.Quorum: "1 of 3 votes stay"})
				tgt.Must("pve3", `sed -i 's/^boot_id .*/boot_id of-the-one-before/' /var/lib/pxrun/reboot`)
				becomes(t, tgt, "pve2", empty, all)
			})
			t.Run("a node is down", func(t *testing.T) {
				id := fault(t, tgt, lab.Fault{Kind: "power-off", Target: "pve3"})
				becomes(t, tgt, "pve2", empty, map[string]string{gates.Quorum: "1 of 3 votes stay without pve2, 2 are needed", gates.Others: "pve3 is down"})
				// That it is ours helps against the second gate only.
				becomes(t, tgt, "pve2", gates.Options{Empty: true, Away: []string{"pve3"}}, map[string]string{gates.Quorum: "1 of 3 votes stay without pve2, pve3, 2 are needed"})
				becomes(t, tgt, "pve2", gates.Options{Empty: true, Ignore: []string{gates.Others, gates.Quorum}}, map[string]string{gates.Quorum: "1 of 3 votes stay"})
				require.NoError(t, tgt.Lab.ClearFault(id))
				becomes(t, tgt, "pve2", empty, all)
			})
			t.Run("pmxcfs hangs on another node", func(t *testing.T) {
				id := fault(t, tgt, lab.Fault{Kind: "pmxcfs-hang", Target: "pve3"})
				got := saws(t, tgt, "pve2", empty)
				require.Contains(t, got[gates.Quorum], "pve3 is not quorate")
				require.NoError(t, tgt.Lab.ClearFault(id))
				becomes(t, tgt, "pve2", empty, all)
			})
		})
	}
}

func fault(t *testing.T, tgt *labkit.Target, f lab.Fault) int {
	t.Helper()
	id, err := tgt.Lab.AddFault(f)
	require.NoError(t, err)
	return id
}

func guestsCount(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 100, Running: true}))
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 101}))
	becomes(t, tgt, "pve2", gates.Options{Empty: true}, map[string]string{gates.Guests: "vm:100 running on it"})
	becomes(t, tgt, "pve2", gates.Options{}, all)
	becomes(t, tgt, "pve2", gates.Options{Empty: true, Stay: []string{"vm:100"}}, all)
	becomes(t, tgt, "pve2", gates.Options{Empty: true, Ignore: []string{gates.Guests}}, map[string]string{gates.Guests: "vm:100 running on it"})
	tgt.Must("pve2", "qm stop 100")
	becomes(t, tgt, "pve2", gates.Options{Empty: true}, all)
}

func tasksCount(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	id := fault(t, tgt, lab.Fault{Kind: "slow", Value: "6m", Phase: "migrate:locked"})
	tgt.Must("pve2", "(qm migrate 101 pve1 >/dev/null 2>&1 &)")
	becomes(t, tgt, "pve2", gates.Options{Empty: true}, map[string]string{gates.Tasks: "in progress: qmigrate 101 on pve2"})
	becomes(t, tgt, "pve2", gates.Options{Empty: true, Ignore: []string{gates.Tasks}}, all)
	becomes(t, tgt, "pve1", gates.Options{}, map[string]string{gates.Tasks: "in progress: qmigrate 101 on pve2 to pve1"})
	becomes(t, tgt, "pve3", gates.Options{}, all)
	require.NoError(t, tgt.Lab.ClearFault(id))
	becomes(t, tgt, "pve2", gates.Options{Empty: true}, all)
}

func TestGatesOfCephOnALab(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].Disks = []labdisk.Spec{{ID: "ata-ACME_" + s.Hosts[i].Name}}
		}
	})
	tgt.Form()
	for i, h := range tgt.Whole.Hosts {
		h.Node.OSDs = []inventory.OSD{{Device: "/dev/disk/by-id/ata-ACME_" + h.Name}}
		tgt.All[i] = h
	}
	whole := "network = \"10.0.2.0/24\"\nrepository = \"no-subscription\"\npool \"vm\" {\n size = 3\n min_size = 2\n}\n"
	tgt.Converge(labkit.Only(t, ceph.All(), "ceph_init"), whole)
	o := gates.Options{Gate: "reboot pve2", Empty: true}
	becomes(t, tgt, "pve2", o, all)
	require.Contains(t, saw(t, tgt, "pve2", gates.CephStop), "OSDs ")

	t.Run("flags", func(t *testing.T) {
		tgt.Must("pve1", "ceph osd set-group noout pve2")
		becomes(t, tgt, "pve2", o, map[string]string{gates.CephFlags: "set: noout on pve2"})
		becomes(t, tgt, "pve2", gates.Options{Noout: []string{"pve2"}}, all)
		tgt.Must("pve1", "ceph osd unset-group noout pve2; ceph osd set noout")
		becomes(t, tgt, "pve2", gates.Options{Noout: []string{"pve2"}}, map[string]string{gates.CephFlags: "set: noout"})
		becomes(t, tgt, "pve2", gates.Options{Ignore: []string{gates.CephFlags}}, all)
		tgt.Must("pve1", "ceph osd unset noout")
		becomes(t, tgt, "pve2", o, all)
	})
	t.Run("an OSD of another node is down", func(t *testing.T) {
		tgt.Must("pve3", "systemctl stop ceph-osd@$(ls /var/lib/ceph/osd | sed s/ceph-//)")
		becomes(t, tgt, "pve2", o, map[string]string{gates.Ceph: "OSD_DOWN", gates.CephStop: "Error EBUSY: unsafe to stop osd(s) at this time"})
		// Under way or not, two copies of three are not to go.
		becomes(t, tgt, "pve2", gates.Options{Away: []string{"pve3"}}, map[string]string{gates.CephStop: "unsafe to stop", gates.Quorum: "1 of 3 votes"})
		tgt.Must("pve3", "systemctl start ceph-osd@$(ls /var/lib/ceph/osd | sed s/ceph-//)")
		becomes(t, tgt, "pve2", o, all)
	})
	t.Run("a monitor of another node is down", func(t *testing.T) {
		tgt.Must("pve3", "systemctl stop ceph-mon@pve3")
		becomes(t, tgt, "pve2", o, map[string]string{gates.Ceph: "MON_DOWN", gates.CephStop: "not enough monitors would be available"})
		tgt.Must("pve3", "systemctl start ceph-mon@pve3")
		becomes(t, tgt, "pve2", o, all)
	})
	t.Run("a pool that bears no absence", func(t *testing.T) {
		require.True(t, gates.CephBears(t.Context(), tgt, "pve1", "pve2").OK)
		tgt.Must("pve1", "ceph osd pool set vm min_size 3")
		require.Contains(t, gates.CephBears(t.Context(), tgt, "pve1", "pve2").Saw, "Error EBUSY: unsafe to stop osd(s)")
		becomes(t, tgt, "pve2", o, map[string]string{gates.CephStop: "unsafe to stop osd(s)"})
		tgt.Must("pve1", "ceph osd pool set vm min_size 2")
		becomes(t, tgt, "pve2", o, all)
	})
	t.Run("Ceph hangs", func(t *testing.T) {
		id := fault(t, tgt, lab.Fault{Kind: "hang", Match: "^ceph .*ok-to-stop", Every: true})
		require.Contains(t, saws(t, tgt, "pve2", o)[gates.CephStop], "no answer within 15 s")
		require.NoError(t, tgt.Lab.ClearFault(id))
		id = fault(t, tgt, lab.Fault{Kind: "hang", Match: "^ceph .* -s", Every: true})
		require.Contains(t, saws(t, tgt, "pve2", o)[gates.Ceph], "Ceph does not answer (status)")
		require.NoError(t, tgt.Lab.ClearFault(id))
	})
}

// saw is what an open gate saw.
func saw(t *testing.T, tgt *labkit.Target, node, gate string) string {
	t.Helper()
	for _, v := range gates.Look(t.Context(), tgt, node, gates.Options{}).Verdicts {
		if v.Gate == gate {
			return v.Saw
		}
	}
	return ""
}

func TestCheckWaitsForWhatPassesAndRecordsWhatItSaw(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, nil)
	tgt.Form()
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 101}))
	fault(t, tgt, lab.Fault{Kind: "slow", Value: "3m", Phase: "migrate:locked"})
	tgt.Must("pve2", "(qm migrate 101 pve1 >/dev/null 2>&1 &)")
	becomes(t, tgt, "pve2", gates.Options{}, map[string]string{gates.Tasks: "qmigrate 101"})
	refusals, _, err := gates.Check(t.Context(), tgt, "pve2", gates.Options{Gate: "reboot pve2", Empty: true})
	require.NoError(t, err)
	require.ErrorContains(t, refusals, "pve2: refused: reboot pve2\n  saw: in progress: qmigrate 101 on pve2 to pve1\n  wanted: no backup")
	refusals, waited, err := gates.Check(t.Context(), tgt, "pve2", gates.Options{Gate: "reboot pve2", Empty: true, Settle: 10 * time.Minute})
	require.NoError(t, err)
	require.True(t, waited)
	require.Empty(t, refusals)
	var names []string
	var votes module.Votes
	for _, r := range tgt.Records() {
		switch r := r.(type) {
		case module.Reading:
			names = append(names, r.Gate)
		case module.Votes:
			votes = r
		}
	}
	wanted := []string{gates.Quorum, gates.Others, gates.Links, gates.HA, gates.Tasks, gates.Guests}
	require.Equal(t, append(wanted, wanted...), names)
	require.Equal(t, module.Votes{Present: 3, Needed: 2, Expected: 3}, votes)
}

func TestAGateThatDoesNotOpenByItselfIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, nil)
	tgt.Form()
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 100, Running: true}))
	start := tgt.Lab.Clock().Elapsed()
	refusals, _, err := gates.Check(t.Context(), tgt, "pve2", gates.Options{Gate: "reboot pve2", Empty: true, Settle: time.Hour})
	require.NoError(t, err)
	require.ErrorContains(t, refusals, "vm:100 running on it")
	require.Less(t, tgt.Lab.Clock().Elapsed()-start, 30*time.Minute)
}

// A wait that is cut off before anything was read lets nothing pass.
func TestGatesThatWereNotReadAreClosed(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 1, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped"))
	for _, settle := range []time.Duration{0, time.Minute} {
		refusals, _, err := gates.Check(ctx, tgt, "pve1", gates.Options{Gate: "restart pve1", Settle: settle})
		require.ErrorContains(t, err, "stopped")
		require.Empty(t, refusals)
	}
	cutOff := &stopping{Target: tgt}
	_, _, err := gates.Check(t.Context(), cutOff, "pve1", gates.Options{Gate: "restart pve1", Settle: time.Minute})
	require.ErrorContains(t, err, "pve1: its gates could not be read: the run is stopped")
}

// stopping is a target of a run that was told to stop.
type stopping struct{ *labkit.Target }

func (stopping) WaitFor(context.Context, module.Condition) error {
	return errors.New("the run is stopped")
}

// A host that is no node of Proxmox VE has no gates.
func TestAPlainHostHasNoGates(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 1, func(s *lab.Spec) {
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "arbiter", Address: "192.0.2.50"})
	})
	refusals, _, err := gates.Check(t.Context(), tgt, "arbiter", gates.Options{Gate: "restart arbiter", Empty: true, Settle: time.Minute})
	require.NoError(t, err)
	require.Empty(t, refusals)
}

// The age of what an HA daemon has written is told by the clock of its own node: the clocks of those that are asked may lag.
func TestALaggingClockDoesNotHideADeadAgent(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, nil)
	tgt.Form()
	lrm := func() gates.Verdict {
		f := gates.Read(t.Context(), tgt, "pve2", gates.ReadOptions{Extra: gates.WellReads(), NoStop: true, NoGuests: true, NoCeph: true})
		for _, v := range gates.Well(f, gates.WellOptions{MaxOffset: time.Hour}) {
			if v.Gate == gates.WellLRM {
				return v
			}
		}
		return gates.Verdict{}
	}
	for _, node := range []string{"pve1", "pve3"} {
		fault(t, tgt, lab.Fault{Kind: "skew", Target: node, Value: "-10m"})
	}
	tgt.Eventually("pve2", "grep -q active /etc/pve/nodes/pve2/lrm_status")
	require.True(t, lrm().OK, lrm().Saw)
	fault(t, tgt, lab.Fault{Kind: "ha-dead", Target: "pve2", Value: "lrm"})
	require.NoError(t, tgt.Lab.Clock().Sleep(t.Context(), 2*time.Minute))
	require.Contains(t, lrm().Saw, "it has not written for ")
}
