package pve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Guest is an entry of .vmlist. Type is qemu or lxc.
type Guest struct {
	ID   string
	Node string `json:"node"`
	Type string `json:"type"`
}

// ParseGuests reads .vmlist: every guest of the cluster, in the order of the ids.
func ParseGuests(text []byte) ([]Guest, error) {
	guests, ok := guestLines(string(text))
	if !ok {
		var err error
		if guests, err = guestObjects(text); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(guests, func(a, b Guest) int {
		return cmp.Or(cmp.Compare(atoi(a.ID), atoi(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return guests, nil
}

// guestObjects reads it as the JSON that it is.
func guestObjects(text []byte) ([]Guest, error) {
	var raw struct {
		IDs map[string]Guest `json:"ids"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf(".vmlist: %w", err)
	}
	guests := make([]Guest, 0, len(raw.IDs))
	for id, g := range raw.IDs {
		g.ID = id
		guests = append(guests, g)
	}
	return guests, nil
}

// guestLines reads it as pmxcfs writes it, a guest to a line. Every node of a cluster is asked, and each tells of all guests: read as
// JSON these files took more time than all else of a plan. Whatever looks different in the least is not ok, and read as JSON.
func guestLines(text string) (guests []Guest, ok bool) {
	text, headed := strings.CutPrefix(text, "{\n\"version\": ")
	version, text, begun := strings.Cut(text, ",\n\"ids\": {\n")
	text, ended := strings.CutSuffix(text, "}\n\n}\n")
	if !headed || !begun || !ended || !isNumber(version) {
		return nil, false
	}
	guests = make([]Guest, 0, 1+strings.Count(text, "\n"))
	seen := make(map[string]bool, cap(guests))
	for line := range strings.SplitSeq(text, ",\n") {
		g, ok := guestLine(line)
		if !ok || seen[g.ID] {
			return nil, false
		}
		seen[g.ID] = true
		guests = append(guests, g)
	}
	return guests, true
}

// guestLine reads `"100": { "node": "pve2", "type": "qemu", "version": 4 }`.
func guestLine(line string) (g Guest, ok bool) {
	rest, quoted := strings.CutPrefix(line, `"`)
	id, rest, named := strings.Cut(rest, `": { "node": "`)
	node, rest, placed := strings.Cut(rest, `", "type": "`)
	kind, rest, typed := strings.Cut(rest, `", "version": `)
	version, rest, closed := strings.Cut(rest, ` }`)
	ok = quoted && named && placed && typed && closed && rest == "" && isNumber(id) && isNumber(version) && isName(node) && isName(kind)
	return Guest{ID: id, Node: node, Type: kind}, ok
}

// isNumber reports whether a text is a number as JSON has it, without a sign.
func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// isName reports whether a text has only letters, digits and hyphens, which mean themselves in JSON.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != ""
}
