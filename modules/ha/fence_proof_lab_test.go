package ha_test

import (
	"context"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/modules/ha"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// controlled is a cluster of nodes without guests, each with a management controller.
func controlled(t *testing.T) *labkit.Target {
	t.Helper()
	target := labkit.New(t, 3, func(s *lab.Spec) {
		s.Speed = 20
		for i := range s.Hosts {
			s.Hosts[i].BMC = &bmc.Spec{Address: controllers[i], User: "fence", Password: labkit.Password}
			s.Hosts[i].Packages = []string{"ipmitool"}
		}
	})
	target.Form()
	return target
}

var controllers = []string{"198.51.100.11", "198.51.100.12", "198.51.100.13"}

// forAll is the target of one host of a task for all of them.
type forAll struct{ *labkit.Target }

func (forAll) TaskHosts() []string { return []string{"pve1", "pve2", "pve3"} }

const cutThree = device + "confirm = \"pve3\"\npower_wait = \"20s\"\n"

func bootOf(target *labkit.Target, host string) string {
	return target.Must(host, "cat /proc/sys/kernel/random/boot_id")
}

func TestLabFenceDeviceIsTheNodesOwn(t *testing.T) {
	t.Parallel()
	target := controlled(t)
	three := on(target, "pve3")
	fence := labkit.Only(t, ha.All(), "fence_device")
	require.Empty(t, three.Converge(fence, device))
	require.Empty(t, three.Warnings())

	target.Must("pve3", "mv /dev/ipmi0 /dev/was-ipmi0")
	require.Empty(t, three.Converge(fence, device))
	require.Contains(t, three.Warnings()[0], "not proved to be the one of pve3: /dev/ipmi0 is not there")
	_, err := three.Plan(fence, cutThree+`power = "cycle"`)
	require.ErrorContains(t, err, `unproved = "accept"`)
	changes, err := three.Plan(fence, cutThree+"power = \"cycle\"\nunproved = \"accept\"")
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Contains(t, changes[0].After, "proved")

	// Whose address is not known cuts what he did not mean to, and hears of it.
	target.Fault(lab.Fault{Kind: "bmc-swap", Target: "pve3", Value: "pve2"})
	err = three.Apply(changes)
	require.ErrorContains(t, err, "it was not pve3 that it cut (meanwhile pve2 went away")
	require.ErrorContains(t, err, "its boot id is what it was")
	target.Must("pve3", "mv /dev/was-ipmi0 /dev/ipmi0")
	for _, args := range []string{``, `power = "on"`, `power = "off"`, `power = "cycle"`} {
		_, err = three.Plan(fence, cutThree+"unproved = \"accept\"\nguests = \"lose\"\n"+args)
		require.ErrorContains(t, err, "pve3 itself says that its controller is at 198.51.100.12, not at 198.51.100.13", args)
	}
}

func TestLabFenceCycleIsProved(t *testing.T) {
	t.Parallel()
	target := controlled(t)
	three := on(target, "pve3")
	fence := labkit.Only(t, ha.All(), "fence_device")
	cycle := func() error {
		t.Helper()
		changes, err := three.Plan(fence, cutThree+"power = \"cycle\"\nreturn_within = \"5m\"")
		require.NoError(t, err)
		require.Equal(t, []string{"switch the power of pve3 off and on again, and see it back in the cluster"}, testkit.Summaries(changes))
		return three.Apply(changes)
	}
	boot := bootOf(target, "pve3")
	require.NoError(t, cycle())
	require.NotEqual(t, boot, bootOf(target, "pve3"))
	for _, node := range []string{"pve1", "pve2", "pve3"} {
		target.Must(node, `[ $(stat -c %a /etc/pve/local) = 755 ] && [ "$(grep -c '"online": 1' /etc/pve/.members)" = 3 ]`)
	}

	id, err := target.Lab.AddFault(lab.Fault{Kind: "bmc-deaf", Target: "pve3"})
	require.NoError(t, err)
	require.ErrorContains(t, cycle(), "no other node of the cluster went away")
	require.NoError(t, target.Lab.ClearFault(id))
	three.RunID = "run2" // in the first one pve3 counts as cut and not proved back

	// It restarts and is no member any more: that is not done.
	target.Must("pve3", "systemctl disable corosync")
	err = cycle()
	require.ErrorContains(t, err, "pve3 has restarted and is in the cluster again")
	require.ErrorContains(t, err, "pve1: does not see pve3 online")
}

// The whole list at once: each node goes down alone, and the next one only when all see the one before.
func TestLabFenceCyclesOneAtATime(t *testing.T) {
	t.Parallel()
	target := controlled(t)
	fence := labkit.Only(t, ha.All(), "fence_device")
	var mu sync.Mutex
	var order []string
	down := map[string]bool{}
	for _, node := range []string{"pve1", "pve2", "pve3"} {
		target.Lab.Machine(node).OnPower(func(up bool) {
			mu.Lock()
			defer mu.Unlock()
			if up {
				delete(down, node)
				return
			}
			down[node] = true
			order = append(order, node)
			if len(down) > 1 {
				t.Errorf("%v are without power at once", down)
			}
		})
	}
	var apply []func() error
	for i, node := range []string{"pve1", "pve2", "pve3"} {
		one := forAll{on(target, node)}
		args := testkit.Args(t, fence, "address = \""+controllers[i]+"\"\nuser = \"fence\"\npassword = secret.root\nreturn_within = \"5m\"\npower = \"cycle\"\nconfirm = \""+node+"\"")
		changes, err := fence.Plan(t.Context(), one, args)
		require.NoError(t, err)
		require.Len(t, changes, 1)
		apply = append(apply, func() error { return changes[0].Apply(context.WithoutCancel(t.Context()), one) })
	}
	errs := make([]error, len(apply))
	var work conc.WaitGroup
	for i, do := range apply {
		work.Go(func() { errs[i] = do() })
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.ElementsMatch(t, []string{"pve1", "pve2", "pve3"}, order)

	// All off is refused in the plan, although each alone may be.
	one := forAll{on(target, "pve3")}
	_, err := fence.Plan(t.Context(), one, testkit.Args(t, fence, cutThree+`power = "off"`))
	require.ErrorContains(t, err, "would leave them all off")
	changes, err := fence.Plan(t.Context(), one.Target, testkit.Args(t, fence, cutThree+`power = "off"`))
	require.NoError(t, err)

	// The gates are read again at the cut: meanwhile another node is gone.
	target.Fault(lab.Fault{Kind: "power-off", Target: "pve2"})
	target.Eventually("pve1", `grep -q '"online": 0' /etc/pve/.members`)
	err = changes[0].Apply(t.Context(), one)
	require.ErrorContains(t, err, "without it 1 of 3 votes are left and 2 are needed")
	require.True(t, target.Lab.Machine("pve3").Powered())
}

// What could not be proved back keeps the run from cutting another one.
func TestLabFenceStopsAtTheFirstThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	target := controlled(t)
	fence := labkit.Only(t, ha.All(), "fence_device")
	plan := func(node, address string) []module.Change {
		t.Helper()
		changes, err := on(target, node).Plan(fence, "address = \""+address+"\"\nuser = \"fence\"\npassword = secret.root\npower_wait = \"20s\"\npower = \"cycle\"\nconfirm = \""+node+"\"")
		require.NoError(t, err)
		return changes
	}
	first, second := plan("pve3", controllers[2]), plan("pve2", controllers[1])
	id, err := target.Lab.AddFault(lab.Fault{Kind: "bmc-deaf", Target: "pve3"})
	require.NoError(t, err)
	require.Error(t, on(target, "pve3").Apply(first))
	require.NoError(t, target.Lab.ClearFault(id))
	require.ErrorContains(t, on(target, "pve2").Apply(second), "this run has cut pve3, which is not proved back")
	require.True(t, target.Lab.Machine("pve2").Powered())
}
