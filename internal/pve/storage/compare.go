package storage

import (
	"maps"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/config"
)

// Difference is one option that is not as wanted. Want "" stands for an option that should not be there.
type Difference struct {
	Option     string
	Have, Want string
	// Fixed cannot be changed once the storage is there.
	Fixed bool
}

// lists are options whose order means nothing, booleans those whose value has many spellings, properties those with parts.
var (
	lists      = []string{"content", "nodes"}
	booleans   = []string{"disable", "shared", "sparse", "krbd", "fuse", "saferemove", "tagged_only", "mkdir", "create-base-path", "create-subdirs", "snapshot-as-volume-chain"}
	properties = []string{"prune-backups", "bwlimit", "content-dirs"}
	normalOn   = []string{"mkdir", "create-base-path", "create-subdirs"}
)

// Compare says in which of the wanted options a storage differs. What is not wanted stays as it is, but for the options
// named in remove. Options that were left to Proxmox at creation count as what Proxmox takes then.
func Compare(have config.Section, want map[string]string, remove []string) []Difference {
	k := kinds[have.Type]
	var out []Difference
	for _, option := range slices.Sorted(maps.Keys(want)) {
		if !sameOption(have, option, want[option]) {
			out = append(out, Difference{Option: option, Have: shown(have, option), Want: want[option], Fixed: slices.Contains(k.Fixed, option)})
		}
	}
	for _, option := range slices.Sorted(slices.Values(remove)) {
		if _, there := have.Values[option]; there {
			out = append(out, Difference{Option: option, Have: shown(have, option), Fixed: slices.Contains(k.Fixed, option)})
		}
	}
	return out
}

func sameOption(have config.Section, option, want string) bool {
	value, given := have.Values[option]
	switch {
	case option == "content":
		return slices.Equal(Content(have), config.SplitList(want))
	case slices.Contains(lists, option):
		return slices.Equal(have.List(option), config.SplitList(want))
	case slices.Contains(booleans, option):
		on := have.Is(option)
		if !given {
			on = slices.Contains(normalOn, option)
		}
		return on == config.Bool(want)
	case slices.Contains(properties, option):
		return maps.Equal(config.ParseProperties(value, ""), config.ParseProperties(want, ""))
	case !given && option == "path" && have.Type != "dir":
		return want == "/mnt/pve/"+have.ID
	case !given && option == "pool" && have.Type == "rbd":
		return want == "rbd"
	}
	return given && value == want
}

// shown is an option's value for people.
func shown(s config.Section, option string) string {
	value, given := s.Values[option]
	if given && value == "" {
		return "1" // a bare flag
	}
	return value
}
