package rolling

import (
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/stretchr/testify/require"
)

func seconds(s Step) map[string]float64 {
	out := map[string]float64{}
	for _, p := range s.Phases {
		out[p.Name] = p.Seconds
	}
	return out
}

func TestHowLongAStepTakes(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.node("pve1").Canary = true
	w.guest(100, "pve1", 10*gib).guest(101, "pve1", 10*gib).guest(102, "pve1", 10*gib)
	w.s.Return = ReturnMoved
	w.s.Speeds = Speeds{Network: guest.Speed(gib), Workers: 2, PackageSeconds: 2, BootSeconds: 300, SoakSeconds: 120}
	s, _ := w.prove().Step("pve1")
	require.InDelta(t, 18, s.Guests[0].Seconds, 0.001, "10 s for the memory, 8 for all else")
	require.Equal(t, map[string]float64{
		"drain":   36, // two at once, then the third
		"upgrade": 15 + 20*2, "reboot": 300, "verify": 30, "release": 10 + 36, "soak": 120,
	}, seconds(s))
	require.InDelta(t, 36+55+300+30+46+120, s.Seconds, 0.001)

	w.s.Speeds.Workers = 8
	s, _ = w.prove().Step("pve1")
	require.InDelta(t, 30, seconds(s)["drain"], 0.001, "the network carries no more, however many move at once")

	w.s.Speeds.Workers, w.s.Site.MaxWorkers = 0, 1
	s, _ = w.prove().Step("pve1")
	require.InDelta(t, 54, seconds(s)["drain"], 0.001, "one after the other, as the datacenter says")
}

func TestWhatMakesAStepLonger(t *testing.T) {
	step := func(change func(w *world)) map[string]float64 {
		w := newWorld("pve1", "pve2", "pve3")
		w.node("pve1").Canary = true
		w.guest(100, "pve1", 11*110<<20)
		change(w)
		s, _ := w.prove().Step("pve1")
		return seconds(s)
	}
	plain := step(func(*world) {})
	require.InDelta(t, 19, plain["drain"], 0.001, "1 Gbit/s when nothing else is known")
	require.InDelta(t, 240, plain["reboot"], 0.001)
	require.Zero(t, step(func(w *world) { w.node("pve1").Work.Reboot = No })["reboot"])
	require.InDelta(t, 240, step(func(w *world) { w.node("pve1").Work.Reboot = "" })["reboot"], 0.001, "it may be")
	require.InDelta(t, 900, step(func(w *world) { w.node("pve1").BootSeconds = 900 })["reboot"], 0.001)
	require.Zero(t, step(func(w *world) { w.node("pve1").Work = Work{Reboot: Yes} })["upgrade"])
	require.InDelta(t, 15+30, step(func(w *world) { w.node("pve1").Work = Work{Packages: 1, Unsure: true} })["upgrade"], 0.001, "20 packages, as is usual")
	require.InDelta(t, 15+60, step(func(w *world) { w.node("pve1").Work = Work{Packages: 40, Unsure: true} })["upgrade"], 0.001)
	require.Equal(t, "packages, perhaps a reboot", Work{Packages: 1, Unsure: true}.String())
	require.InDelta(t, plain["upgrade"]+10, step(func(w *world) {
		w.node("pve1").Work.DownloadBytes, w.s.Speeds.Download = 100<<20, 10<<20
	})["upgrade"], 0.001)
	require.InDelta(t, plain["drain"]+25, step(func(w *world) { w.managed(100) })["drain"], 0.001, "rounds of the HA manager")
	require.InDelta(t, plain["verify"]+60, step(func(w *world) {
		w.s.Ceph = &Ceph{OSDs: map[string][]int{"pve1": {0}}, Stop: []StopAnswer{{[]string{"pve1"}, true, ""}}}
	})["verify"], 0.001)
	require.InDelta(t, 60, step(func(w *world) { w.s.Policies.Guests = map[int]Policy{100: Shutdown} })["drain"], 0.001)
}

func TestNodesThatGoTogetherShareTheNetworkOfTheirTargets(t *testing.T) {
	w := newWorld(nodes(3)...)
	w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 2, true
	w.guest(100, "pve1", 10*gib).guest(101, "pve2", 10*gib)
	w.node("pve3").Idle = "nothing to do"
	w.s.Max.Count, w.s.Speeds.Network = 2, guest.Speed(gib)
	p := w.prove()
	require.Len(t, p.Rounds, 1)
	require.InDelta(t, 20, seconds(p.Rounds[0].Steps[0])["drain"], 0.001, "both go to pve3")
	require.InDelta(t, p.Rounds[0].Steps[0].Seconds, p.Seconds, 0.001, "at the same time")
}

func TestTheWindow(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.s.Window = 5 * time.Minute
	p := w.prove()
	require.Len(t, p.Blocks, 1)
	require.Equal(t, "pve1: it takes about 5m25s, and there are 5m0s: 25s short", p.Blocks[0].String())
	w.s.Window = 10 * time.Minute
	p = w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"all of it takes about 16m15s, longer than the 10m0s that there are: what does not fit is left for the next time"}, p.Warnings)
	require.Equal(t, map[string]float64{"pve1": 325, "pve2": 325, "pve3": 325}, p.Takes())
	w.s.Window = time.Hour
	require.Empty(t, w.prove().Warnings)
}

func TestDowntimes(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.node("pve1").Canary = true
	w.guest(100, "pve1", gib).guest(101, "pve1", gib, container).guest(102, "pve1", gib, device).guest(103, "pve1", gib, device)
	w.s.Policies = Policies{Default: Shutdown, Containers: RestartContainer, Guests: map[int]Policy{103: Leave}}
	w.s.Speeds.Network = guest.Speed(gib)
	p := w.prove()
	require.InDelta(t, 0.1, plan(t, p, "pve1", 100).Downtime, 0.001)
	require.InDelta(t, 28, plan(t, p, "pve1", 101).Downtime, 0.001, "shutdown, move, start")
	require.InDelta(t, 60+45+240+30+10, plan(t, p, "pve1", 102).Downtime, 0.001, "until the node is verified")
	require.InDelta(t, 60+240, plan(t, p, "pve1", 103).Downtime, 0.001, "as long as the restart takes")
	s, _ := p.Step("pve1")
	require.Equal(t, 3, s.Stops)
	require.Len(t, p.Stopping().Rows, p.Stops)
}
