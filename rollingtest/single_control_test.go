package rollingtest_test

import (
	"math/rand/v2"
	"time"

	"github.com/pxrun/pxrun/lab"
)

// kills ends pxrun at a moment.
func kills(is func(*mix) bool) trouble {
	return when(is, func(m *mix) { m.next = m.first.kill() })
}

// loses takes pxrun off the network at a moment, for a while.
func loses(is func(*mix) bool, long time.Duration) trouble {
	return when(is, func(m *mix) {
		m.first.setCut(true)
		_ = m.w.lab.Clock().Sleep(m.ctx, long)
		m.first.setCut(false)
	})
}

// maintains has a person take a node into maintenance, and out again afterwards.
func maintains(is func(*mix) bool, node string) trouble {
	return mended(when(is, func(m *mix) {
		m.w.must("pve2", "ha-manager crm-command node-maintenance enable "+node)
		m.foreign = append(m.foreign, node)
	}), func(m *mix) {
		m.w.must("pve2", "ha-manager crm-command node-maintenance disable "+node)
	})
}

// controlFaults are those of pxrun itself, of people beside it, and of clocks.
var controlFaults = []single{
	{
		name: "pxrun is killed while a node is emptied", shape: three(),
		what: kills(isOn(100, "pve3")),
		code: interrupted, stands: emptied, knows: emptiedKnown,
	},
	{
		name: "pxrun is killed while packages are installed", shape: three(),
		what: trouble{begin: func(m *mix, _ *rand.Rand) {
			m.fault(lab.Fault{Kind: "slow", Target: "pve1", Value: "10s", Phase: "apt:unpack"})
			kills(hasHit).begin(m, nil)
		}},
		code: interrupted, stands: halfOut, knows: emptiedKnown,
	},
	{
		name: "pxrun is killed while a node is down", shape: three(),
		what: kills(isDown("pve1")),
		code: interrupted, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "pxrun loses the network for a while", shape: three(),
		what:   loses(isOn(100, "pve3"), 40*time.Second),
		stands: upgraded,
	},
	{
		name: "pxrun loses the network for long", shape: three(),
		what:   loses(isOn(100, "pve3"), 10*time.Minute),
		stands: upgraded,
	},
	{
		name: "two controllers", shape: three(),
		what: when(isOut("pve1"), func(m *mix) {
			code, out := m.w.controller().upgrade()
			m.keep("the other one", code, out)
			m.equal("the other one ends with", refused, code)
			m.says("the other one", out, []string{"locked by run"}, nil)
		}),
		stands: upgraded,
	},
	{
		name: "a person interrupts while a node is emptied", shape: three(),
		what: when(isOn(100, "pve3"), func(m *mix) { m.first.interrupt() }),
		code: interrupted, says: []string{"Interrupted: finishing what is under way", "pxrun resume"}, stands: asBefore,
	},
	{
		name: "a person takes another node into maintenance", shape: three(both),
		what: maintains(isDown("pve1"), "pve3"),
		code: partly, says: []string{"pve3 is out already", "end its maintenance", "pxrun resume"}, stands: "pve1 new, pve3 maintenance",
	},
	{
		name: "a person takes the next node into maintenance", shape: three(both),
		what: maintains(isDown("pve1"), "pve2"),
		code: partly, says: []string{"refused: drain pve2", "in maintenance, and not by pxrun", "ha-manager status", "pxrun resume"}, stands: "101 on pve3, pve1 new, pve2 maintenance",
	},
	{
		name: "a person takes the node into maintenance that is out", shape: three(),
		// The HA manager ignores a request for what is so already, and notes nothing of it.
		what:   maintains(isDown("pve1"), "pve1"),
		stands: upgraded,
	},
	{
		name: "a node's clock jumps ahead", shape: three(),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "skew", Target: "pve1", Value: "11m"}) }),
		code: partly, says: []string{"11m0s off", "chronyc tracking", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "a node's clock jumps back", shape: three(),
		what: when(isOut("pve1"), func(m *mix) { m.fault(lab.Fault{Kind: "skew", Target: "pve1", Value: "-11m"}) }),
		code: partly, says: []string{"11m0s off", "chronyc tracking", "pxrun resume"}, stands: upgradedOut, knows: emptiedKnown,
	},
	{
		name: "the clock of pxrun's machine jumps ahead", shape: three(),
		what:   when(isOut("pve1"), func(m *mix) { m.first.setAhead(2 * time.Hour) }),
		stands: upgraded,
	},
	{
		name: "the clock of pxrun's machine jumps back", shape: three(),
		what:   when(isOut("pve1"), func(m *mix) { m.first.setAhead(-2 * time.Hour) }),
		stands: upgraded,
	},
}
