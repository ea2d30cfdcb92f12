package ha

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// What follows is env, by which the manager acts.

func (c *crm) now() time.Duration { return c.stack.clock.Elapsed() }

// fence takes the agent lock of a node.
func (c *crm) fence(node string) bool {
	if c.fences[node] == nil {
		c.fences[node] = &lock{id: agentLock(node)}
	}
	return c.take(c.fences[node])
}

// removableLocks are locks of guests that mean nothing once their node is dead.
var removableLocks = []string{"backup", "mounted", "migrate", "clone", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"}

func (c *crm) steal(sid, from, to string) error {
	old, ok := guestFile(sid, from)
	if !ok {
		return fmt.Errorf("unable to parse service id '%s'", sid)
	}
	text, err := read(c.view, old)
	if err != nil {
		return err
	}
	if clean, removed := withoutLock(string(text)); removed != "" {
		c.log(fmt.Sprintf("removed leftover lock '%s' from recovered service '%s' to allow its start.", removed, sid))
		if err := replace(c.view, old, []byte(clean)); err != nil {
			return err
		}
	}
	if from == to {
		return nil
	}
	there, _ := guestFile(sid, to)
	if err := c.view.Rename(pve+old, pve+there); err != nil {
		return errors.New("rename '" + pve + old + "' failed: " + err.Error())
	}
	return nil
}

// guestFile is the config of a service's guest on a node, below /etc/pve.
func guestFile(sid, node string) (path string, ok bool) {
	kind, id, ok := parseSID(sid)
	folder := map[string]string{"vm": "qemu-server", "ct": "lxc"}[kind]
	return "nodes/" + node + "/" + folder + "/" + id + ".conf", ok
}

// withoutLock takes a removable lock out of a guest's config. Snapshots, which follow in sections, have none.
func withoutLock(text string) (clean, removed string) {
	var out []string
	section := false
	for line := range strings.SplitSeq(text, "\n") {
		section = section || strings.HasPrefix(line, "[")
		if value, ok := strings.CutPrefix(line, "lock:"); ok && !section {
			value = strings.TrimSpace(value)
			if slices.Contains(removableLocks, value) {
				removed = value
				continue
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"), removed
}

func (c *crm) change(sid string, set map[string]string, remove ...string) error {
	return c.locked(func() error {
		text, err := read(c.view, resourcesFile)
		if err != nil {
			return err
		}
		sections := pvetool.ParseSections(string(text))
		for _, s := range sections {
			if s.Type+":"+s.ID != sid {
				continue
			}
			maps.Copy(s.Values, set)
			for _, key := range remove {
				delete(s.Values, key)
			}
		}
		return replace(c.view, resourcesFile, []byte(pvetool.FormatSections(sections, requiredKeys)))
	})
}

// migrateGroups writes the groups as rules, moves failback to the resources and removes the groups.
func (c *crm) migrateGroups(rules []*rule, failback map[string]bool) error {
	return c.locked(func() error {
		if err := replace(c.view, rulesFile, []byte(formatRules(rules))); err != nil {
			return err
		}
		c.log("ha groups migration: migration to rules config successful")
		text, err := read(c.view, resourcesFile)
		if err != nil {
			return err
		}
		sections := pvetool.ParseSections(string(text))
		for _, s := range sections {
			s.Values["failback"] = "0"
			if failback[s.Type+":"+s.ID] {
				s.Values["failback"] = "1"
			}
			delete(s.Values, "group")
		}
		if err := replace(c.view, resourcesFile, []byte(pvetool.FormatSections(sections, requiredKeys))); err != nil {
			return err
		}
		c.log("ha groups migration: migration to resources config successful")
		if err := c.view.Remove(pve + groupsFile); err != nil {
			return err
		}
		c.log("ha groups migration: group config deletion successful")
		return nil
	})
}

func formatRules(rules []*rule) string {
	var sections []pvetool.Section
	for _, r := range rules {
		sections = append(sections, r.section())
	}
	return pvetool.FormatSections(sections, requiredKeys)
}
