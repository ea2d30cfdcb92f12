package ceph

import (
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
)

// releases are the names of Ceph's major versions that Proxmox VE ships (reference §0).
var releases = map[int]string{17: "quincy", 18: "reef", 19: "squid", 20: "tentacle"}

// ReleaseOf is the name of the release of a package's version such as "19.2.3-pve2"; "" if it is not known.
func ReleaseOf(version string) string { return releases[pve.Major(version)] }

// Offered are the releases that pveceph install knows on a major version of Proxmox VE, oldest first.
func Offered(major int) []string {
	switch {
	case major <= 0:
		return nil
	case major < 9:
		return []string{"quincy", "reef", "squid"}
	}
	return []string{"squid", "tentacle"}
}

// DefaultRelease is the one that every supported release of Proxmox VE can install.
const DefaultRelease = "squid"

// RepositoryOf is the component of the first source of Ceph that is switched on: "enterprise", "no-subscription" or "test"; ""
// if there is none.
func RepositoryOf(files pve.SourceFiles) string {
	for _, s := range files.Sources() {
		if !s.Enabled || !strings.HasPrefix(s.Product(), "ceph-") {
			continue
		}
		for _, component := range []string{"enterprise", "no-subscription", "test"} {
			if slices.Contains(s.Components, component) {
				return component
			}
		}
	}
	return ""
}
