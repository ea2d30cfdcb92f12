package pve

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Unit is the state of a systemd unit.
type Unit struct {
	Load    string `json:"load"`   // loaded, not-found, masked
	Active  string `json:"active"` // active, inactive, failed, activating, …
	Sub     string `json:"sub,omitempty"`
	Enabled string `json:"enabled,omitempty"`
}

// Running reports whether the unit is active.
func (u Unit) Running() bool { return u.Active == "active" }

// Installed reports whether systemd knows the unit.
func (u Unit) Installed() bool { return u.Load != "" && u.Load != "not-found" }

// ParseUnits reads the output of systemctl show: blocks of Key=Value lines, one a unit, separated by blank lines. The
// names are given without ".service".
func ParseUnits(text []byte) map[string]Unit {
	units := map[string]Unit{}
	var name string
	var u Unit
	flush := func() {
		if name != "" {
			units[strings.TrimSuffix(name, ".service")] = u
		}
		name, u = "", Unit{}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			flush()
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "Id":
			name = value
		case "LoadState":
			u.Load = value
		case "ActiveState":
			u.Active = value
		case "SubState":
			u.Sub = value
		case "UnitFileState":
			u.Enabled = value
		}
	}
	flush()
	return units
}

// ParsePackages reads lines "name version status" of dpkg-query and returns the versions of the installed ones.
func ParsePackages(text []byte) map[string]string {
	installed := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "installed" {
			installed[f[0]] = f[1]
		}
	}
	return installed
}

// Interface is a network interface with its addresses.
type Interface struct {
	Name  string         `json:"name"`
	MTU   int            `json:"mtu"`
	Up    bool           `json:"up"`
	Addrs []netip.Prefix `json:"addrs"`
}

// ParseInterfaces reads the output of ip -j addr. Addresses that are none are left out.
func ParseInterfaces(text []byte) ([]Interface, error) {
	var raw []struct {
		Name  string `json:"ifname"`
		MTU   int    `json:"mtu"`
		State string `json:"operstate"`
		Addrs []struct {
			Local  string `json:"local"`
			Prefix int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ip -j addr: %w", err)
	}
	interfaces := make([]Interface, 0, len(raw))
	for _, r := range raw {
		// Bridges without ports and the loopback say UNKNOWN although they carry traffic.
		i := Interface{Name: r.Name, MTU: r.MTU, Up: r.State != "DOWN" && r.State != "LOWERLAYERDOWN"}
		for _, a := range r.Addrs {
			if addr, err := netip.ParseAddr(a.Local); err == nil {
				if p := netip.PrefixFrom(addr, a.Prefix); p.IsValid() {
					i.Addrs = append(i.Addrs, p)
				}
			}
		}
		interfaces = append(interfaces, i)
	}
	return interfaces, nil
}

// InterfaceOf returns the interface that carries an address.
func InterfaceOf(interfaces []Interface, a netip.Addr) (Interface, bool) {
	for _, i := range interfaces {
		for _, p := range i.Addrs {
			if p.Addr() == a.Unmap() {
				return i, true
			}
		}
	}
	return Interface{}, false
}

// Tracking is what chrony says of the clock.
type Tracking struct {
	Synced bool          `json:"synced"`
	Offset time.Duration `json:"offset"` // of the system clock against NTP time
}

// ParseTracking reads the line of chronyc -c tracking.
func ParseTracking(text []byte) (Tracking, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n") // not firstLine, which shortens: a server may have a long name
	fields := strings.Split(line, ",")
	if len(fields) < 14 {
		return Tracking{}, fmt.Errorf("chronyc tracking: unexpected answer %q", firstLine(text))
	}
	seconds, err := strconv.ParseFloat(fields[4], 64)
	if err != nil {
		return Tracking{}, fmt.Errorf("chronyc tracking: offset %q is not a number", fields[4])
	}
	return Tracking{
		Synced: fields[13] != "Not synchronised",
		Offset: time.Duration(seconds * float64(time.Second)),
	}, nil
}

// OSRelease is what /etc/os-release says.
type OSRelease struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Codename string `json:"codename"`
	Name     string `json:"name"`
}

// ParseOSRelease reads /etc/os-release.
func ParseOSRelease(text []byte) OSRelease {
	var r OSRelease
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			r.ID = value
		case "VERSION_ID":
			r.Version = value
		case "VERSION_CODENAME":
			r.Codename = value
		case "PRETTY_NAME":
			r.Name = value
		}
	}
	return r
}
