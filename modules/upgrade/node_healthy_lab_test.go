package upgrade

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	labdisk "github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/modules/ceph"
	"github.com/stretchr/testify/require"
)

func wellPlan(t *testing.T, tgt *labkit.Target, hcl string) []module.Change {
	t.Helper()
	changes, err := tgt.Plan(nodeHealthy(), hcl)
	require.NoError(t, err)
	return changes
}

// isWell waits until nothing is wrong with the node any more.
func isWell(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	require.NoError(t, tgt.Apply(wellPlan(t, tgt, `within = "10m"`)))
	require.Empty(t, testkit.Summaries(wellPlan(t, tgt, "")))
}

func TestANodeThatIsWellNeedsNoWait(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.4.1", "9.1.8"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			tgt := rebootLab(t, func(s *lab.Spec) {
				for i := range s.Hosts {
					s.Hosts[i].PVE = version
				}
			})
			isWell(t, tgt)
			out, err := nodeHealthy().Read(t.Context(), tgt, testkit.Args(t, nodeHealthy(), ""))
			require.NoError(t, err)
			require.Equal(t, nodeHealthyOut{Healthy: true, Problems: []string{}}, out)

			tgt.Earlier = []module.Planned{{Module: "reboot", Change: module.Change{Host: "pve2"}}}
			changes := wellPlan(t, tgt, "")
			require.Equal(t, []string{"see that pve2 is well"}, testkit.Summaries(changes))
			require.NotEmpty(t, changes[0].Predicted)
			require.True(t, changes[0].Imperative)
			tgt.Earlier = nil

			// After a restart it waits for what takes time, and tells what that is.
			tgt.Converge(reboot(nobody), `mode = "always"`)
			require.NoError(t, tgt.Apply(changes))
			seen := map[string]bool{}
			for _, r := range tgt.Records() {
				if reading, ok := r.(module.Reading); ok {
					seen[reading.Gate] = reading.OK
				}
			}
			for _, check := range []string{"kernel", "pmxcfs", "membership", "links", "services", "lrm", "network", "storages", "clock", "units"} {
				require.True(t, seen[check], check)
			}
			isWell(t, tgt)
		})
	}
}

func TestWhatIsWrongWithANodeThatCameBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  lab.Fault
		want   []string
		ignore string
	}{
		"without a link":        {lab.Fault{Kind: "link-down"}, []string{"is well within 1m0s: links", "link 1 from pve2 to pve1 is down", "look: corosync-cfgtool -n"}, `"links"`},
		"a card got a new name": {lab.Fault{Kind: "nic-renamed", Value: "vmbr2=enp5s0"}, []string{": network", "missing: vmbr2; there: enp5s0, lo, vmbr0, vmbr1", "link 1 from pve2"}, `"links", "network"`},
		"a service fails":       {lab.Fault{Kind: "unit-fails", Value: "pvestatd"}, []string{": services", "pvestatd is failed", "look: systemctl status pvestatd", ": units", "failed: pvestatd.service"}, `"services", "units", "storages"`},
		"any unit fails":        {lab.Fault{Kind: "unit-fails", Value: "cron"}, []string{": units", "failed: cron.service", `allow_failed = ["cron.service"]`}, `"units"`},
		"pmxcfs does not mount": {lab.Fault{Kind: "unit-fails", Value: "pve-cluster"}, []string{": pmxcfs", "it is not mounted", "pve-cluster is failed"}, ""},
		"the clock is off":      {lab.Fault{Kind: "skew", Value: "3s"}, []string{": clock", "3s off", "wanted: a clock in step, no more than 50ms off"}, `"clock"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tgt := rebootLab(t, nil)
			test.fault.Target, test.fault.Phase = "pve2", "boot:start"
			tgt.Fault(test.fault)
			tgt.Converge(reboot(nobody), `mode = "always"`)
			tgt.Eventually("pve1", `[ "$(grep -c '"online": 1' /etc/pve/.members)" = 3 ] || [ -n "`+map[bool]string{true: "x"}[test.fault.Value == "pve-cluster"]+`" ]`)
			tgt.Eventually("pve2", "systemctl is-active pve-guests; systemctl show -p ActiveState pve-guests | grep -q -v activating")
			changes := wellPlan(t, tgt, `within = "60s"`)
			require.Len(t, changes, 1)
			err := tgt.Apply(changes)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			if test.ignore != "" {
				require.NoError(t, tgt.Apply(wellPlan(t, tgt, "within = \"5m\"\nignore = ["+test.ignore+"]")))
			}
			if test.fault.Kind != "unit-fails" {
				require.NoError(t, tgt.Lab.ClearFault(0))
				isWell(t, tgt)
			}
		})
	}
}

func TestAWaitEndsWhenAllIsWell(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	tgt.Fault(lab.Fault{Kind: "link-down", Target: "pve2"})
	var changes []module.Change
	require.NoError(t, tgt.WaitFor(t.Context(), module.Condition{Name: "it is seen", Timeout: 5 * time.Minute, Check: func(context.Context) error {
		if changes = wellPlan(t, tgt, ""); len(changes) == 0 {
			return errors.New("all is well")
		}
		return nil
	}}))
	require.Contains(t, changes[0].Summary, "wait until pve2 is well: links: link 1 from pve")
	stop := tgt.Lab.Clock().AfterFunc(2*time.Minute, func() { _ = tgt.Lab.ClearFault(0) })
	defer stop()
	require.NoError(t, tgt.Apply(changes))
	require.Contains(t, fmt.Sprint(tgt.Logs()), "pve2: waiting: links: link 1")
}

// Nodes that are under way are not asked.
func TestANodeIsWellBesidesOthersThatAreAway(t *testing.T) {
	t.Parallel()
	tgt := rebootLab(t, nil)
	isWell(t, tgt)
	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve3"})
	tgt.Eventually("pve1", `grep -q '"online": 0' /etc/pve/.members`)
	require.Contains(t, fmt.Sprint(testkit.Summaries(wellPlan(t, tgt, ""))), "membership")
	tgt.Rolls = &module.Block{Name: "nodes", Away: []string{"pve3"}}
	isWell(t, tgt)
}

// cephLab is a cluster of three nodes with a pool of three copies.
func cephLab(t *testing.T) *labkit.Target {
	t.Helper()
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
	tgt.Converge(labkit.Only(t, ceph.All(), "ceph_init"), "network = \"10.0.2.0/24\"\nrepository = \"no-subscription\"\npool \"vm\" {\n size = 3\n min_size = 2\n}\n")
	tgt.Of = tgt.All[1]
	tgt.All = tgt.All[1:2]
	return tgt
}

func TestRebootAndReturnWithCeph(t *testing.T) {
	t.Parallel()
	tgt := cephLab(t)
	isWell(t, tgt)

	t.Run("Ceph bears it", func(t *testing.T) {
		tgt.Converge(reboot(nobody), `mode = "always"`)
		isWell(t, tgt)
		seen := map[string]bool{}
		for _, r := range tgt.Records() {
			if reading, ok := r.(module.Reading); ok {
				seen[reading.Gate] = reading.OK
			}
		}
		for _, check := range []string{"ceph", "ceph_flags", "ceph_stop"} {
			require.True(t, seen[check], check)
		}
	})
	t.Run("it does not", func(t *testing.T) {
		tgt.RunID = "run2"
		tgt.Must("pve1", "ceph osd pool set vm min_size 3")
		_, err := tgt.Plan(reboot(nobody), `mode = "always"`)
		require.ErrorContains(t, err, "unsafe to stop osd(s)")
		tgt.Must("pve1", "ceph osd pool set vm min_size 2")
	})
	t.Run("an OSD does not come back", func(t *testing.T) {
		tgt.RunID = "run3"
		id := tgt.Must("pve2", "ls /var/lib/ceph/osd | sed s/ceph-// | tr -d '\\n'")
		tgt.Fault(lab.Fault{Kind: "osd-down", Value: id, Target: "pve2", Phase: "boot:start"})
		tgt.Converge(reboot(nobody), `mode = "always"`)
		err := tgt.Apply(wellPlan(t, tgt, "within = \"2m\"\nceph_within = \"1m\""))
		require.ErrorContains(t, err, "osd."+id+" is down")
		err = tgt.Apply(wellPlan(t, tgt, "within = \"5m\"\nceph_within = \"1m\"\nignore = [\"osds\", \"units\"]"))
		require.ErrorContains(t, err, "is well within 1m0s: pgs")
		require.ErrorContains(t, err, "objects lack copies")
		err = tgt.Apply(wellPlan(t, tgt, "within = \"5m\"\nceph_within = \"10h\"\nceph_stalled = \"2m\"\nignore = [\"osds\", \"units\"]"))
		require.ErrorContains(t, err, "nothing has got better for 2m0s (")
		require.ErrorContains(t, err, "or a longer ceph_stalled")
		require.NoError(t, tgt.Lab.ClearFault(0))
		isWell(t, tgt)
	})
	t.Run("Ceph hangs", func(t *testing.T) {
		tgt.Fault(lab.Fault{Kind: "hang", Match: "^ceph .* -s", Every: true})
		require.Contains(t, fmt.Sprint(testkit.Summaries(wellPlan(t, tgt, ""))), "ceph: Ceph does not answer (status)")
		require.NoError(t, tgt.Lab.ClearFault(0))
	})
}
