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

// RepositoryOf is the component that an APT source of Ceph names: "enterprise", "no-subscription" or "test"; "" if there is
// none. It reads one-line and deb822 forms.
func RepositoryOf(source []byte) string {
	for line := range strings.Lines(string(source)) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") || words[0] != "deb" && words[0] != "Components:" {
			continue
		}
		for _, component := range []string{"enterprise", "no-subscription", "test"} {
			if slices.Contains(words[1:], component) {
				return component
			}
		}
	}
	return ""
}
