package apt

import (
	"context"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

// Effects is what apt says that it would do.
type Effects struct {
	Installs map[string]string // name to new version
	Upgrades map[string]string // those of them that are installed already, to their old version
	Removes  []string
}

// simulate asks apt what it would do. It takes no lock and changes nothing.
func simulate(ctx context.Context, t module.Target, host string, w work) (Effects, error) {
	c := Get(append([]string{"-s", "-q", "-o", "Debug::NoLocking=1", w.verb}, w.names...)...)
	c.Timeout = simulateLimit
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return Effects{}, err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return Effects{}, err
	}
	if err := Error(r, c); err != nil {
		return Effects{}, err
	}
	return ParseSimulation(string(r.Stdout)), nil
}

// ParseSimulation reads the lines "Inst pkg [old] (new origin [arch])" and "Remv pkg [version]".
func ParseSimulation(out string) Effects {
	e := Effects{Installs: map[string]string{}, Upgrades: map[string]string{}}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "Inst":
			rest := f[2:]
			if len(rest) > 0 && strings.HasPrefix(rest[0], "[") {
				e.Upgrades[f[1]] = strings.Trim(rest[0], "[]")
				rest = rest[1:]
			}
			e.Installs[f[1]] = ""
			if len(rest) > 0 {
				e.Installs[f[1]] = strings.TrimPrefix(rest[0], "(")
			}
		case "Remv", "Purg":
			e.Removes = append(e.Removes, f[1])
		}
	}
	return e
}

// keyPackages are what makes a host a Proxmox node. Their removal takes the node apart (reference §7.3).
var keyPackages = []string{"proxmox-ve", "pve-manager", "qemu-server", "pve-cluster", "corosync", "pve-ha-manager", "pve-container", "libpve-common-perl"}

// Refuse is a refusal when apt would take the node apart, nil otherwise.
func (e Effects) Refuse(host, gate string) error {
	var lost []string
	for _, name := range e.Removes {
		if slices.Contains(keyPackages, name) {
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return &module.Refusal{
		Host: host, Gate: gate, Saw: "apt would remove " + strings.Join(lost, ", "), Want: "Proxmox VE left whole",
		Look: "apt-get -s -o Debug::NoLocking=1 install … and the enabled repositories", Override: "none",
	}
}

// clusterPackages restart what a node's membership hangs on when they are upgraded.
var clusterPackages = []string{"corosync", "pve-cluster", "pve-ha-manager", "libknet1", "libknet1t64", "libc6", "systemd", "pve-manager"}

// Risk is what the change may cost.
func (e Effects) Risk() module.Risk {
	if len(e.Removes) > 0 {
		return module.RiskDisruptive
	}
	for name := range e.Upgrades {
		if slices.Contains(clusterPackages, name) {
			return module.RiskDisruptive
		}
	}
	return module.RiskNone
}

// Shown adds to the packages that were asked for those that come and go with them.
func (e Effects) Shown(wanted map[string]any) map[string]any {
	m := map[string]any{}
	for name, version := range wanted {
		m[name] = version
		if v := e.Installs[name]; v != "" {
			m[name] = v
		}
	}
	var also []string
	for name := range e.Installs {
		if _, asked := wanted[name]; !asked {
			also = append(also, name)
		}
	}
	var gone []string
	for _, name := range e.Removes {
		if _, asked := wanted[name]; !asked {
			gone = append(gone, name)
		}
	}
	for key, names := range map[string][]string{"also installed": also, "also removed": gone} {
		if len(names) > 0 {
			slices.Sort(names)
			m[key] = strings.Join(names, ", ")
		}
	}
	return m
}
