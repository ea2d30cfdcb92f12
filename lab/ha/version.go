package ha

import (
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/cluster"
)

// features are what the HA managers of Proxmox's releases differ in (reference §0).
type features struct {
	rules        bool // rules instead of groups
	fencing      bool // the row "fencing" and the words about watchdogs in the status; disarm-ha
	idleCommands bool // the CRM consumes commands although there is no resource
}

func featuresOf(r cluster.Release) features {
	f := features{rules: r.Major() >= 9, idleCommands: !less(numbers(r.Version), []int{8, 3})}
	for _, p := range r.Packages {
		if p.Name == "pve-ha-manager" {
			f.fencing = !less(numbers(p.Version), []int{5, 1, 3})
		}
	}
	return f
}

// numbers are the leading numbers of a version such as "9.1.4" or "5.2.0+1".
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}

// less compares two versions number by number; a missing number is 0.
func less(a, b []int) bool {
	for i := range max(len(a), len(b)) {
		x, y := 0, 0
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return x < y
		}
	}
	return false
}
