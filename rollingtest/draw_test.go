package rollingtest_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/pxrun/pxrun/lab/guest"
)

// draw makes a cluster from a seed.
func draw(r *rand.Rand) shape {
	s := shape{nodes: []int{2, 3, 3, 5}[r.IntN(4)], pve: []string{nine, nine, eight}[r.IntN(3)], out: 1}
	s.arbiter = s.nodes == 2
	s.ceph = s.nodes >= 3 && r.IntN(3) == 0
	s.rules = r.IntN(2) == 0
	ha := r.IntN(3) > 0
	s.args = []string{"soak=10s", "policy=migrate_with_disks", "containers=restart_container", `tagged={"batch"="shutdown"}`}
	if s.nodes == 5 && r.IntN(2) == 0 {
		s.out = 2
		s.args = append(s.args, "max_unavailable=2")
	}
	if r.IntN(3) == 0 {
		s.args = append(s.args, "canary=1")
	}
	s.args = append(s.args, fmt.Sprintf("bring_home=%s", []string{"never", "moved", "balanced"}[r.IntN(3)]))
	if r.IntN(3) == 0 {
		s.args = append(s.args, "fallback_kernel=true")
	}
	for i := range 1 + r.IntN(2*s.nodes) {
		s.guests = append(s.guests, s.drawGuest(r, 100+i, ha))
	}
	return s
}

// drawGuest makes a guest of any kind.
func (s shape) drawGuest(r *rand.Rand, id int, ha bool) placed {
	shared := "san"
	if s.ceph && r.IntN(2) == 0 {
		shared = "vm"
	}
	g := placed{node: anyNode(r, s), Spec: guest.Spec{ID: id, Running: true, MemoryMiB: 1024, Disks: []guest.Disk{{Storage: shared, SizeGiB: 4}}}}
	switch r.IntN(10) {
	case 0, 1:
		g.Type, g.mayStop, g.MemoryMiB = "lxc", true, 512
		g.ha = ha && r.IntN(2) == 0
	case 2:
		g.Disks[0].Storage = "local-lvm"
	case 3:
		g.Options, g.Tags, g.mayStop = map[string]string{"hostpci0": "0000:01:00.0"}, []string{"batch"}, true
	case 4:
		g.Running = false
	case 5:
		g.Running, g.Template = false, true
	case 6:
		g.Tags, g.mayStop = []string{"batch"}, true
	default:
		g.ha = ha
	}
	return g
}

// drawTroubles chooses what goes wrong.
func drawTroubles(r *rand.Rand, s shape) []trouble {
	var out []trouble
	for range r.IntN(5) {
		if one := troubles[r.IntN(len(troubles))]; one.fits == nil || one.fits(s) {
			out = append(out, one)
		}
	}
	return out
}
