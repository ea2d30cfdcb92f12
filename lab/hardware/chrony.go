package hardware

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// Chrony is a machine's chrony: the sources that it read, and whether it hears any.
type Chrony struct {
	m *machine.Machine

	mu      sync.Mutex
	sources []timeSource
	started time.Duration // on the lab's clock
	deaf    bool          // no server outside of the lab answers
}

// timeSource is a server or a pool of the configuration.
type timeSource struct{ kind, name string }

const (
	chronyConf   = "/etc/chrony/chrony.conf"
	chronyFolder = "/etc/chrony/sources.d"
	// firstSync passes between chrony's start and the first time that it trusts.
	firstSync = 4 * time.Second
)

// InstallChrony replaces the machine's simple chrony by this one, as the Debian package.
func InstallChrony(ctx context.Context, m *machine.Machine) (*Chrony, error) {
	c := &Chrony{m: m, started: -time.Hour}
	m.RemoveUnit("chrony.service")
	p := machine.Package{
		Name: "chrony", Version: "4.6.1-3", Section: "net", Origin: "Debian", Description: "Versatile implementation of the Network Time Protocol",
		Files: map[string]string{
			chronyConf:               "# Welcome to the chrony configuration file.\nconfdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\nkeyfile /etc/chrony/chrony.keys\ndriftfile /var/lib/chrony/chrony.drift\nmakestep 1 3\nrtcsync\n",
			chronyFolder + "/README": "# Files *.sources in this folder name servers.\n",
		},
		Units: []machine.Unit{{
			Name: "chrony.service", Description: "chrony, an NTP client/server", Enabled: true, Command: "/usr/sbin/chronyd -F 1",
			OnStart: func(context.Context) error {
				c.mu.Lock()
				c.started = c.m.Clock().Elapsed()
				c.mu.Unlock()
				c.load(true)
				return nil
			},
		}},
		Programs: map[string]machine.Program{"chronyc": c.program},
	}
	m.Offer(p)
	if err := m.Install(ctx, p); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.started = -time.Hour // it has been running for long
	c.mu.Unlock()
	return c, nil
}

// SetDeaf decides whether servers outside of the lab answer.
func (c *Chrony) SetDeaf(deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = deaf
}

// load reads the sources: all of them when it starts, those of the folder when it is told to.
func (c *Chrony) load(all bool) {
	var list []timeSource
	if all {
		content, _ := c.m.FS.ReadFile(chronyConf)
		list = parseSources(string(content))
	} else {
		c.mu.Lock()
		list = slices.DeleteFunc(slices.Clone(c.sources), func(s timeSource) bool { return s.kind == "file" })
		c.mu.Unlock()
	}
	entries, _ := c.m.FS.ReadDir(chronyFolder)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".sources") {
			continue
		}
		content, _ := c.m.FS.ReadFile(chronyFolder + "/" + e.Name)
		for _, s := range parseSources(string(content)) {
			list = append(list, timeSource{"file", s.name})
		}
	}
	c.mu.Lock()
	c.sources = list
	c.mu.Unlock()
}

func parseSources(text string) []timeSource {
	var list []timeSource
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 1 && slices.Contains([]string{"server", "pool", "peer"}, f[0]) {
			list = append(list, timeSource{f[0], f[1]})
		}
	}
	return list
}

// hears reports whether a source answers. A host of the lab does while it runs; everything outside does unless the machine
// is cut off from it.
func (c *Chrony) hears(name string, deaf bool) bool {
	network := c.m.Network()
	if network == nil {
		return !deaf
	}
	to := network.Find(name)
	if to == nil {
		return !deaf
	}
	own := c.m.Addresses()
	at := to.Addresses()
	if a, err := netip.ParseAddr(name); err == nil {
		at = []netip.Addr{a}
	}
	return to.Up() && len(own) > 0 && len(at) > 0 && network.Path(own[0], at[0]).Reachable && to.UnitActive("chrony.service")
}

// state is what chrony would say now.
func (c *Chrony) state() (sources []timeSource, heard []bool, synced bool) {
	c.mu.Lock()
	sources, deaf, started := slices.Clone(c.sources), c.deaf, c.started
	c.mu.Unlock()
	for _, s := range sources {
		h := c.hears(s.name, deaf)
		heard = append(heard, h)
		synced = synced || h
	}
	return sources, heard, synced && c.m.Clock().Elapsed()-started >= firstSync
}

// program is chronyc.
func (c *Chrony) program(_ context.Context, p *machine.Proc) int {
	args := slices.DeleteFunc(slices.Clone(p.Args()), func(a string) bool { return strings.HasPrefix(a, "-") })
	csv := slices.Contains(p.Args(), "-c")
	if !p.Machine.UnitActive("chrony.service") {
		p.Println("506 Cannot talk to daemon")
		return 1
	}
	switch verb := strings.Join(args, " "); verb {
	case "tracking":
		c.tracking(p, csv)
	case "sources":
		c.list(p, csv)
	case "reload sources":
		if p.UID != 0 {
			p.Println("501 Not authorised")
			return 1
		}
		c.load(false)
		p.Println("200 OK")
	case "makestep":
		if p.UID != 0 {
			p.Println("501 Not authorised")
			return 1
		}
		if _, _, synced := c.state(); synced {
			p.Machine.SetSkew(0)
		}
		p.Println("200 OK")
	case "waitsync", "burst", "online":
		p.Println("200 OK")
	default:
		p.Println("Unrecognized command")
		return 1
	}
	return 0
}

func (c *Chrony) tracking(p *machine.Proc, csv bool) {
	sources, heard, synced := c.state()
	offset := 0 - c.m.Skew().Seconds()
	refid, name, stratum, leap := "7F7F0101", "", 0, "Not synchronised"
	if synced {
		refid, name, stratum, leap = "C0000235", sources[slices.Index(heard, true)].name, 3, "Normal"
	}
	if csv {
		p.Printf("%s,%s,%d,%d.000000000,%.9f,0.000001200,0.000012000,-12.500,0.001,0.020,0.001200000,0.000800000,64.2,%s\n", refid, name, stratum, c.m.Now().Unix(), offset, leap)
		return
	}
	direction := "slow"
	if offset < 0 {
		direction = "fast"
	}
	p.Printf("Reference ID    : %s (%s)\nStratum         : %d\nRef time (UTC)  : %s\nSystem time     : %.9f seconds %s of NTP time\nLeap status     : %s\n",
		refid, name, stratum, c.m.Now().UTC().Format("Mon Jan 02 15:04:05 2006"), math.Abs(offset), direction, leap)
}

func (c *Chrony) list(p *machine.Proc, csv bool) {
	sources, heard, synced := c.state()
	if !csv {
		p.Println("MS Name/IP address         Stratum Poll Reach LastRx Last sample               \n===============================================================================")
	}
	chosen := !synced
	for i, s := range sources {
		mark, reach, stratum := "?", 0, 0
		if heard[i] {
			mark, reach, stratum = "+", 377, 2
			if !chosen {
				mark, chosen = "*", true
			}
		}
		if csv {
			p.Printf("^,%s,%s,%d,6,%d,12,0.000012000,0.000015000,0.000900000\n", mark, s.name, stratum, reach)
			continue
		}
		p.Printf("^%s %-25s %2d   6   %3d    12    +12us[  +15us] +/-  900us\n", mark, s.name, stratum, reach)
	}
}

// errNoChrony is that of a fault on a machine without it.
var errNoChrony = errors.New("chrony is not installed")

// Cut makes every time server outside of the lab silent, and returns how to undo it.
func Cut(c *Chrony) (undo func() error, err error) {
	if c == nil {
		return nil, errNoChrony
	}
	c.SetDeaf(true)
	return func() error { c.SetDeaf(false); return nil }, nil
}
