package ceph

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
)

// bare is a cluster without machines: OSDs of hosts, all up and in, on a clock that is moved by hand.
func bare(hosts, perHost int) (*Cluster, *clock.Manual) {
	c := clock.NewManual()
	c.Advance(time.Hour)
	m := New(cluster.NewWorld(cluster.Options{Clock: c}))
	k := m.newCluster("fsid", conf{})
	k.mons = []*mon{{daemon: daemon{kind: "mon", id: "a", on: true, version: "19.2.3-pve2"}}}
	k.quorum = k.mons
	for h := range hosts {
		b := k.crush.host(fmt.Sprintf("pve%d", h+1))
		for range perHost {
			o := k.newOSD("", "ssd")
			o.up, o.in, o.never, o.weight, o.size = true, 1, false, 1, 1<<40
			b.osds = append(b.osds, o.number)
		}
	}
	return k, c
}

// fail marks OSDs down as if they had died together.
func (c *Cluster) fail(ids ...int) {
	for _, id := range ids {
		c.osds[id].up, c.osds[id].downAt = false, c.model.now()
	}
	c.osdChanged(c.model.now())
}

// pass lets time go by, and what was being copied.
func pass(c *Cluster, clk *clock.Manual, d time.Duration) {
	clk.Advance(d)
	c.advance(c.model.now())
}

func inactive(c *Cluster) []string {
	var out []string
	c.eachPG(func(p *pool, number int, v pgView) {
		if !v.active {
			out = append(out, pgID(p.id, number))
		}
	})
	return out
}

func states(c *Cluster) map[string]int { return c.tally().states }

func mustPool(t require.TestingT, c *Cluster, name string, pgs, size, minSize int) *pool {
	p, err := c.createPool(name, pgs, "", "")
	require.NoError(t, err)
	require.NoError(t, c.setPool(name, "size", strconv.Itoa(size)))
	require.NoError(t, c.setPool(name, "min_size", strconv.Itoa(minSize)))
	require.NoError(t, c.setPool(name, "pg_autoscale_mode", "off"))
	return p
}

// A rule that takes two hosts of each datacenter gives each site half of the copies, whatever hosts the sites have.
func TestCopiesLieOnBothSites(t *testing.T) {
	c, clk := bare(5, 2)
	for i, site := range []string{"a", "a", "a", "b", "b"} {
		if c.crush.find(site) == nil {
			c.crush.add(site, "datacenter", c.crush.find("default"))
		}
		c.crush.move(c.crush.find(fmt.Sprintf("pve%d", i+1)), c.crush.find(site))
	}
	p := mustPool(t, c, "vm", 64, 4, 2)
	p.rule = c.crush.addRule(rule{name: "per_site", root: "default", domain: "datacenter", per: 2})
	c.osdChanged(c.model.now())
	pass(c, clk, 10*time.Minute)
	for i := range p.pgs {
		sites, hosts := map[string]int{}, map[string]bool{}
		for _, o := range p.pgs[i].want {
			host := c.crush.hostOf(o)
			hosts[host.name] = true
			sites[host.parent.name]++
		}
		require.Equal(t, map[string]int{"a": 2, "b": 2}, sites)
		require.Len(t, hosts, 4)
	}
	require.Equal(t, 64, states(c)["active+clean"])
	c.fail(0, 1, 2, 3, 4, 5)
	pass(c, clk, 3*time.Second)
	require.Empty(t, inactive(c), "site b alone serves")
}

func TestCopiesLieOnDifferentHosts(t *testing.T) {
	c, clk := bare(5, 3)
	p := mustPool(t, c, "vm", 256, 3, 2)
	pass(c, clk, time.Minute)
	used := map[int]int{}
	for i := range p.pgs {
		hosts := map[*bucket]bool{}
		for _, o := range p.pgs[i].want {
			hosts[c.crush.hostOf(o)] = true
			used[o]++
		}
		require.Len(t, hosts, 3, "pg %d", i)
	}
	require.Len(t, used, 15, "every OSD has some")
	for id, n := range used {
		require.InDelta(t, 256*3/15, n, 30, "osd.%d", id)
	}
	require.Equal(t, map[string]int{"active+clean": 256}, states(c))
}

func TestDeviceClassesKeepPoolsApart(t *testing.T) {
	c, _ := bare(3, 2)
	for id := 1; id < 6; id += 2 {
		c.osds[id].class = "hdd"
	}
	c.crush.addRule(rule{name: "slow", root: "default", domain: "host", class: "hdd"})
	p := mustPool(t, c, "archive", 32, 3, 2)
	require.NoError(t, c.setPool("archive", "crush_rule", "slow"))
	for i := range p.pgs {
		for _, o := range p.pgs[i].want {
			require.Equal(t, "hdd", c.osds[o].class)
		}
	}
}

func TestLittleMovesWhenAHostGoes(t *testing.T) {
	c, _ := bare(6, 2)
	p := mustPool(t, c, "vm", 512, 3, 2)
	var before [][]int
	for i := range p.pgs {
		before = append(before, slices.Clone(p.pgs[i].want))
	}
	c.osds[0].in, c.osds[1].in = 0, 0
	c.osdChanged(c.model.now())
	moved := 0
	for i := range p.pgs {
		for _, o := range before[i] {
			if o > 1 && !slices.Contains(p.pgs[i].want, o) {
				moved++
			}
		}
	}
	require.Zero(t, moved, "copies on other hosts stay where they are")
}

// TestOKToStopNeverLies: what ok-to-stop allows leaves every placement group active, in every state of every cluster.
func TestOKToStopNeverLies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts, per := rapid.IntRange(1, 6).Draw(t, "hosts"), rapid.IntRange(1, 3).Draw(t, "osds per host")
		c, clk := bare(hosts, per)
		size := rapid.IntRange(1, 4).Draw(t, "size")
		mustPool(t, c, "a", 16, size, rapid.IntRange(1, size).Draw(t, "min_size"))
		if rapid.Bool().Draw(t, "erasure") {
			c.profiles["ec"] = map[string]string{"k": "2", "m": "1", "crush-failure-domain": rapid.SampledFrom([]string{"host", "osd"}).Draw(t, "domain")}
			_, err := c.createPool("e", 8, "ec", "")
			require.NoError(t, err)
			require.NoError(t, c.setPool("e", "pg_autoscale_mode", "off"))
		}
		pass(c, clk, time.Minute)
		ids := rapid.SliceOfNDistinct(rapid.IntRange(0, hosts*per-1), 0, hosts*per, rapid.ID[int])
		for range rapid.IntRange(0, 4).Draw(t, "mishaps") {
			for _, id := range ids.Draw(t, "touched") {
				o := c.osds[id]
				switch rapid.IntRange(0, 3).Draw(t, "how") {
				case 0:
					o.up = false
				case 1:
					o.in = 0
				case 2:
					o.up = true
				case 3:
					o.in = 1
				}
			}
			c.osdChanged(c.model.now())
			pass(c, clk, time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds"))*time.Second)
		}
		pass(c, clk, 2*time.Second) // agreed
		before := inactive(c)
		gone := map[int]bool{}
		var stopped []int
		for _, id := range ids.Draw(t, "stopped") {
			gone[id] = true
			stopped = append(stopped, id)
		}
		s := c.withoutOSDs(gone)
		if !s.safe() {
			return
		}
		c.fail(stopped...)
		pass(c, clk, 2*time.Second)
		require.Subset(t, before, inactive(c), "ok-to-stop allowed %v", stopped)
	})
}

func TestOKToStopRefusesWhatBlocks(t *testing.T) {
	for name, test := range map[string]struct {
		size, minSize int
		down, stop    []int
		safe          bool
	}{
		"one host of three":              {3, 2, nil, []int{0, 1}, true},
		"two hosts of three":             {3, 2, nil, []int{0, 2}, false},
		"one host, size is min_size":     {2, 2, nil, []int{0, 1}, false},
		"size 2, min_size 1":             {2, 1, nil, []int{0, 1}, true},
		"a second host while one is off": {3, 2, []int{4, 5}, []int{0}, false},
		"nothing":                        {3, 2, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, clk := bare(3, 2)
			mustPool(t, c, "vm", 64, test.size, test.minSize)
			pass(c, clk, time.Minute)
			c.fail(test.down...)
			pass(c, clk, 2*time.Second)
			gone := map[int]bool{}
			for _, id := range test.stop {
				gone[id] = true
			}
			require.Equal(t, test.safe, c.withoutOSDs(gone).safe())
		})
	}
}

func TestStatesOfPlacementGroups(t *testing.T) {
	c, clk := bare(3, 1)
	mustPool(t, c, "vm", 32, 3, 2)
	step := func(name string, want map[string]int) {
		t.Helper()
		require.Equal(t, want, states(c), name)
	}
	step("just made", map[string]int{"unknown": 32})
	pass(c, clk, 2*time.Second)
	step("being made", map[string]int{"creating+peering": 32})
	pass(c, clk, 2*time.Second)
	step("made", map[string]int{"active+clean": 32})
	c.fail(2)
	step("at once", map[string]int{"peering": 32})
	pass(c, clk, 2*time.Second)
	step("one of three is down", map[string]int{"active+undersized+degraded": 32})
	c.fail(1)
	pass(c, clk, 2*time.Second)
	step("two of three are down", map[string]int{"undersized+degraded+peered": 32})
	c.osds[1].up = true
	c.osdChanged(c.model.now())
	pass(c, clk, 2*time.Second)
	require.Contains(t, states(c), "active+undersized+degraded", "no write was missed while nothing could be written: %v", states(c))
	c.osds[2].up = true
	c.osdChanged(c.model.now())
	pass(c, clk, 1500*time.Millisecond)
	require.Contains(t, states(c), "active+recovering+degraded", "%v", states(c))
	pass(c, clk, 2*time.Minute)
	step("all are back", map[string]int{"active+clean": 32})
	c.fail(0, 1, 2)
	pass(c, clk, 2*time.Second)
	step("nobody is left", map[string]int{"stale+undersized+degraded+peered": 32})
}

func TestAnOSDThatIsOutIsReplacedByCopying(t *testing.T) {
	c, clk := bare(4, 1)
	mustPool(t, c, "vm", 64, 3, 2)
	pass(c, clk, time.Minute)
	c.osds[3].in = 0 // still up: everything has three copies all the time
	c.osdChanged(c.model.now())
	pass(c, clk, 2*time.Second)
	got := states(c)
	require.Positive(t, got["active+remapped+backfilling"], "%v", got)
	require.Zero(t, c.tally().degraded)
	require.Positive(t, c.tally().misplaced)
	pass(c, clk, 10*time.Minute)
	require.Equal(t, map[string]int{"active+clean": 64}, states(c))
	require.True(t, c.withoutOSDs(map[int]bool{3: true}).safe())

	c.flags["nobackfill"] = true
	c.osds[3].in = 1
	c.flagsChanged()
	pass(c, clk, time.Hour)
	require.Positive(t, states(c)["active+remapped+backfill_wait"], "%v", states(c))
	delete(c.flags, "nobackfill")
	c.flagsChanged()
	pass(c, clk, time.Hour)
	require.Equal(t, map[string]int{"active+clean": 64}, states(c))
}

func TestErasureCodedPools(t *testing.T) {
	c, clk := bare(4, 1)
	c.profiles["ec"] = map[string]string{"k": "2", "m": "2"}
	p, err := c.createPool("e", 16, "ec", "")
	require.NoError(t, err)
	require.Equal(t, []int{4, 3, 2}, []int{p.size, p.minSize, p.k})
	pass(c, clk, 5*time.Second)
	c.fail(0)
	pass(c, clk, 2*time.Second)
	require.Equal(t, map[string]int{"active+undersized+degraded": 16}, states(c))
	require.False(t, c.withoutOSDs(map[int]bool{1: true}).safe(), "min_size is k+1")
	c.fail(1)
	pass(c, clk, 2*time.Second)
	require.Equal(t, map[string]int{"undersized+degraded+peered": 16}, states(c))
	c.fail(2)
	pass(c, clk, 2*time.Second)
	require.Equal(t, map[string]int{"down": 16}, states(c))
}

func TestDataOfOSDsThatAreDestroyedIsLost(t *testing.T) {
	c, clk := bare(2, 1)
	mustPool(t, c, "vm", 8, 1, 1)
	pass(c, clk, time.Minute)
	c.fail(0)
	c.removeOSD(0)
	pass(c, clk, time.Hour)
	require.Positive(t, states(c)["unknown"], "%v", states(c))
}

func TestAutoscaler(t *testing.T) {
	for name, test := range map[string]struct {
		mode  string
		ratio string
		want  int
		check string
	}{
		"on shrinks an empty pool":       {"on", "0", 32, ""},
		"warn says so":                   {"warn", "0", 128, "POOL_TOO_MANY_PGS"},
		"off does nothing":               {"off", "0", 128, ""},
		"a ratio gives it its share":     {"on", "1", 128, ""},
		"a ratio of one pool is a share": {"warn", "0.5", 128, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, clk := bare(3, 1)
			_, err := c.createPool("vm", 128, "", "")
			require.NoError(t, err)
			require.NoError(t, c.setPool("vm", "target_size_ratio", test.ratio))
			require.NoError(t, c.setPool("vm", "application", "rbd"))
			require.NoError(t, c.setPool("vm", "pg_autoscale_mode", test.mode))
			pass(c, clk, 5*time.Minute)
			require.Len(t, c.pool("vm").pgs, test.want)
			var codes []string
			for _, one := range c.poolHealth() {
				codes = append(codes, one.code)
			}
			if test.check == "" {
				require.Empty(t, codes)
			} else {
				require.Equal(t, []string{test.check}, codes)
			}
		})
	}
}

func TestDownOSDsAreMarkedOutAfterTenMinutes(t *testing.T) {
	for name, test := range map[string]struct {
		flag func(c *Cluster)
		out  bool
	}{
		"no flag":     {func(*Cluster) {}, true},
		"noout":       {func(c *Cluster) { c.flags["noout"] = true }, false},
		"on the host": {func(c *Cluster) { c.nodeFlags["pve1"] = map[string]bool{"noout": true} }, false},
		"on the OSD":  {func(c *Cluster) { c.osds[0].flags["noout"] = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, clk := bare(3, 1)
			for id, o := range c.osds {
				o.node = &Node{name: fmt.Sprintf("pve%d", id+1)}
			}
			test.flag(c)
			c.osds[0].up, c.osds[0].downAt = false, c.model.now()
			at, apply := c.nextEvent()
			if !test.out {
				require.Nil(t, apply)
				return
			}
			require.Equal(t, c.model.now()+600*time.Second, at)
			clk.Advance(601 * time.Second)
			apply(at)
			require.Zero(t, c.osds[0].in)
			require.True(t, c.osds[0].autoOut)
		})
	}
}

func BenchmarkRemapOf200OSDs(b *testing.B) {
	c, _ := bare(32, 7)
	for i := range 4 {
		p, err := c.createPool(fmt.Sprintf("p%d", i), 1024, "", "")
		if err != nil {
			b.Fatal(err)
		}
		p.autoscale = "off"
	}
	for b.Loop() {
		c.osdChanged(c.model.now())
		c.tally()
	}
}
