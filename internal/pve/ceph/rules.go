package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Rule is a CRUSH rule.
type Rule struct {
	ID      int
	Name    string
	Erasure bool
	// Root and Class are what it takes from ("default", "ssd"); Domain is what it spreads copies over ("host").
	Root, Class, Domain string
	// Per is how many copies each of the domains gets, on hosts of their own: 0 for one, which is what most rules do.
	Per int
}

// Over says what the rule spreads copies over: "host", "2 hosts of each datacenter".
func (r Rule) Over() string {
	if r.Per > 0 {
		return fmt.Sprintf("%d hosts of each %s", r.Per, r.Domain)
	}
	return r.Domain
}

const ruleErasure = 3

// ParseRules reads the output of ceph osd crush rule dump -f json.
func ParseRules(text []byte) ([]Rule, error) {
	var raw []struct {
		ID    int    `json:"rule_id"`
		Name  string `json:"rule_name"`
		Type  int    `json:"type"`
		Steps []struct {
			Op   string `json:"op"`
			Item string `json:"item_name"`
			Type string `json:"type"`
			Num  int    `json:"num"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ceph osd crush rule dump: %w", err)
	}
	rules := make([]Rule, 0, len(raw))
	for _, r := range raw {
		rule := Rule{ID: r.ID, Name: r.Name, Erasure: r.Type == ruleErasure}
		for _, s := range r.Steps {
			switch {
			case s.Op == "take":
				rule.Root, rule.Class, _ = strings.Cut(s.Item, "~")
			case strings.HasPrefix(s.Op, "choose") && rule.Domain == "":
				rule.Domain = s.Type
			case strings.HasPrefix(s.Op, "choose") && s.Type == "host":
				rule.Per = s.Num
			case strings.HasPrefix(s.Op, "choose"):
				rule.Domain = s.Type // of other steps the last says where copies lie
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Filesystem is a CephFS.
type Filesystem struct {
	Name      string   `json:"name"`
	Metadata  string   `json:"metadata_pool"`
	DataPools []string `json:"data_pools"`
}

// Pools are all pools of the file system, that of its metadata first.
func (f Filesystem) Pools() []string { return append([]string{f.Metadata}, f.DataPools...) }

// ParseFilesystems reads the output of ceph fs ls -f json.
func ParseFilesystems(text []byte) ([]Filesystem, error) {
	var list []Filesystem
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("ceph fs ls: %w", err)
	}
	slices.SortFunc(list, func(a, b Filesystem) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
