package runbooks

import (
	"fmt"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
)

var (
	// What Proxmox VE accepts as the name of a node or a cluster (reference §1.1).
	nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	// Other hosts may also bear the name that DNS knows them by.
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// reserved are the words that have a meaning of their own where the name of a cluster or node may stand: cluster.nodes
// and cluster.lab.name.
var reserved = map[string]bool{"name": true, "nodes": true, "all": true}

func checkName(kind, name string, at hcl.Range) diag.List {
	wrong := func(format string, args ...any) diag.List {
		return diag.Error("Invalid name", fmt.Sprintf(format, args...), at)
	}
	const rule = "letters, digits and hyphens, and begins and ends with a letter or a digit"
	switch {
	case kind == "host" && !hostName.MatchString(name):
		return wrong("%q is no valid name for a host: a name consists of letters, digits, dots, hyphens and underscores, and begins and ends with a letter or a digit.", name)
	case kind != "host" && !nodeName.MatchString(name):
		return wrong("%q is no valid name for a %s: Proxmox VE wants a name that consists of %s.", name, kind, rule)
	case kind == "cluster" && len(name) > 15:
		return wrong("%q has %d characters; Proxmox VE accepts up to 15 in the name of a cluster.", name, len(name))
	case len(name) > 63:
		return wrong("%q has %d characters; a host name may have up to 63.", name, len(name))
	case reserved[name]:
		return wrong("The name %q has a meaning of its own in expressions and in --limit. Choose another.", name)
	}
	return nil
}
