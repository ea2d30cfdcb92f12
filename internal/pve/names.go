package pve

import (
	"fmt"
	"regexp"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

// CheckNodeName says what is wrong with the name of a node.
func CheckNodeName(name string) error {
	switch {
	case !nodeName.MatchString(name):
		return fmt.Errorf("%q is no valid node name: only letters, digits and inner hyphens are allowed", name)
	case len(name) > 63:
		return fmt.Errorf("%q is no valid node name: it is longer than 63 characters", name)
	}
	return nil
}

// CheckClusterName says what is wrong with the name of a cluster. It cannot be changed later.
func CheckClusterName(name string) error {
	switch {
	case !nodeName.MatchString(name):
		return fmt.Errorf("%q is no valid cluster name: only letters, digits and inner hyphens are allowed", name)
	case len(name) > 15:
		return fmt.Errorf("%q is no valid cluster name: it has %d characters, Proxmox VE allows 15", name, len(name))
	}
	return nil
}
