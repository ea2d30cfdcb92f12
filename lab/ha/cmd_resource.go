package ha

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// oneOf checks a value against a list.
func oneOf(allowed ...string) func(string) string {
	return func(value string) string {
		if slices.Contains(allowed, value) {
			return ""
		}
		return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", value, strings.Join(allowed, ", "))
	}
}

// atMost checks the length of a text.
func atMost(length int) func(string) string {
	return func(value string) string {
		if len(value) > length {
			return fmt.Sprintf("value may only be %d characters long", length)
		}
		return ""
	}
}

func nodeName(value string) string {
	if !validNodeName(value) {
		return "invalid format - value does not look like a valid node name"
	}
	return ""
}

func configID(value string) string {
	if !validID(value) {
		return fmt.Sprintf("invalid format - invalid configuration ID '%s'", value)
	}
	return ""
}

func sidList(value string) string {
	for _, sid := range list(value) {
		if _, _, ok := parseSID(sid); !ok {
			return fmt.Sprintf("invalid format - value does not look like a valid HA resource ID: '%s'", sid)
		}
	}
	return ""
}

func nodeList(value string) string {
	if _, wrong := prioritised(value); wrong != "" {
		return fmt.Sprintf("invalid format - value does not look like a valid ha node list: '%s'", wrong)
	}
	return ""
}

// resourceOptions are those of add and set.
func (s *Stack) resourceOptions(update bool) map[string]pvetool.Option {
	o := map[string]pvetool.Option{
		"state":       {Check: oneOf(stateStarted, stateStopped, wantEnabled, wantDisabled, wantIgnored)},
		"max_restart": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)}, "max_relocate": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)},
		"group": {Check: configID}, "comment": {Check: atMost(4096)}, "type": {Check: oneOf("ct", "vm")},
	}
	if featuresOf(s.node.Release()).rules {
		o["failback"] = pvetool.Option{Kind: pvetool.Bool}
	}
	if update {
		o["delete"], o["digest"] = pvetool.Option{}, pvetool.Option{}
	}
	return o
}

// groupsMigrated reports whether the groups have become rules: then nothing may use them.
func (c *call) groupsMigrated() bool {
	if !featuresOf(c.stack.node.Release()).rules {
		return false
	}
	text, err := read(c.view, groupsFile)
	return err != nil || len(parseGroups(string(text))) == 0
}

func (c *call) checkGroup() error {
	if !c.has("group") {
		return nil
	}
	if c.groupsMigrated() {
		return refuse(pvetool.ExitDie, "invalid parameter 'group': ha groups have been migrated to rules")
	}
	sections, _, err := c.sections(groupsFile)
	if err != nil {
		return err
	}
	if index(sections, "group", c.value("group")) < 0 {
		return refuse(pvetool.ExitDie, "HA group '%s' does not exist", c.value("group"))
	}
	return nil
}

// addResource is `ha-manager add`.
func (c *call) addResource(ctx context.Context) error {
	if err := c.checkQuorum(); err != nil {
		return err
	}
	sid, kind, id, err := c.sid()
	if err != nil {
		return refuse(exitExists, "%s", err)
	}
	if err := c.checkGuest(sid, kind, id); err != nil {
		return err
	}
	if err := c.checkGroup(); err != nil {
		return err
	}
	return c.locked(ctx, "create resource failed", func() error {
		sections, _, err := c.sections(resourcesFile)
		if err != nil {
			return err
		}
		if index(sections, kind, id) >= 0 {
			return fmt.Errorf("resource ID '%s' already defined", sid)
		}
		values := map[string]string{}
		if err := c.apply(values, c.stack.resourceOptions(false), nil); err != nil {
			return err
		}
		delete(values, "type")
		return c.write(resourcesFile, append(sections, pvetool.Section{Type: kind, ID: id, Values: values}))
	})
}

// checkGuest refuses resources without a guest of that kind.
func (c *call) checkGuest(sid, kind, id string) error {
	if t := c.value("type"); t != "" && t != kind {
		return refuse(exitExists, "types does not match")
	}
	g, ok := c.guests()[id]
	switch {
	case !ok:
		return refuse(exitExists, "resource '%s' does not exist in cluster", sid)
	case g.sid(id) != sid:
		return refuse(exitExists, "resource '%s' does not exist in cluster - guest with ID %s is not a %s", sid, id, strings.ToUpper(kind))
	}
	return nil
}

// checkState refuses orders to a service in error: it has to be disabled first.
func (c *call) checkState(sid string) error {
	status, err := readManagerStatus(c.view)
	if err != nil {
		return err
	}
	s := status.Services[sid]
	if s == nil || s.State != stateError || c.value("state") == wantDisabled {
		return nil
	}
	return refuse(pvetool.ExitDie, "service '%s' in error state, must be disabled and fixed first", sid)
}

// setResource is `ha-manager set`.
func (c *call) setResource(ctx context.Context) error {
	sid, kind, id, err := c.sid()
	if err != nil {
		return err
	}
	if t := c.value("type"); t != "" && t != kind {
		return refuse(pvetool.ExitDie, "types does not match")
	}
	if err := c.checkGroup(); err != nil {
		return err
	}
	if err := c.checkState(sid); err != nil {
		return err
	}
	return c.locked(ctx, "update resource failed", func() error {
		sections, now, err := c.sections(resourcesFile)
		if err != nil {
			return err
		}
		if err := c.checkDigest(now); err != nil {
			return err
		}
		at := index(sections, kind, id)
		if at < 0 {
			return fmt.Errorf("no such resource '%s'", sid)
		}
		if err := c.apply(sections[at].Values, c.stack.resourceOptions(true), nil); err != nil {
			return err
		}
		delete(sections[at].Values, "type")
		return c.write(resourcesFile, sections)
	})
}

// removeResource is `ha-manager remove`. The guest goes on as it is.
func (c *call) removeResource(ctx context.Context) error {
	sid, kind, id, err := c.sid()
	if err != nil {
		return err
	}
	sections, _, err := c.sections(resourcesFile)
	if err != nil {
		return err
	}
	if index(sections, kind, id) < 0 {
		return refuse(pvetool.ExitDie, "cannot delete service '%s', not HA managed!", sid)
	}
	return c.locked(ctx, "delete resource failed", func() error {
		sections, _, err := c.sections(resourcesFile)
		if err != nil {
			return err
		}
		sections = slices.DeleteFunc(sections, func(s pvetool.Section) bool { return s.Type == kind && s.ID == id })
		if err := c.write(resourcesFile, sections); err != nil {
			return err
		}
		if !featuresOf(c.stack.node.Release()).rules || c.value("purge") == "0" {
			return nil
		}
		return c.purge(sid)
	})
}

// purge takes a resource out of all rules, and rules that have no other with it.
func (c *call) purge(sid string) error {
	sections, _, err := c.sections(rulesFile)
	if err != nil {
		return err
	}
	changed := false
	sections = slices.DeleteFunc(sections, func(s pvetool.Section) bool {
		members := list(s.Values["resources"])
		if !slices.Contains(members, sid) {
			return false
		}
		changed = true
		members = slices.DeleteFunc(members, func(one string) bool { return one == sid })
		slices.Sort(members)
		s.Values["resources"] = strings.Join(members, ",")
		return len(members) == 0
	})
	if !changed {
		return nil
	}
	return c.write(rulesFile, sections)
}

// resources is /cluster/ha/resources.
func (c *call) resources() ([]object, error) {
	sections, now, err := c.sections(resourcesFile)
	if err != nil {
		return nil, err
	}
	groups, _, err := c.sections(groupsFile)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, s := range sections {
		if t := c.value("type"); t != "" && t != s.Type {
			continue
		}
		row := resourceRow(s, now)
		if g := s.Values["group"]; g != "" && index(groups, "group", g) < 0 {
			row["errors"] = object{"group": fmt.Sprintf("group '%s' does not exist", g)}
		}
		out = append(out, row)
	}
	return out, nil
}

func resourceRow(s pvetool.Section, digest string) object {
	row := typed(s.Values, []string{"max_restart", "max_relocate"}, []string{"failback"})
	row["sid"], row["type"], row["digest"] = s.Type+":"+s.ID, s.Type, digest
	return row
}

// resource is /cluster/ha/resources/SID.
func (c *call) resource() (object, error) {
	sid, kind, id, err := c.sid()
	if err != nil {
		return nil, err
	}
	sections, now, err := c.sections(resourcesFile)
	if err != nil {
		return nil, err
	}
	at := index(sections, kind, id)
	if at < 0 {
		return nil, refuse(pvetool.ExitDie, "no such resource '%s'", sid)
	}
	return resourceRow(sections[at], now), nil
}

// listing prints entries as `ha-manager config` does: name in front, then a line for each value.
func listing(out io.Writer, rows []object, name func(object) string, hidden ...string) {
	slices.SortFunc(rows, func(a, b object) int { return strings.Compare(name(a), name(b)) })
	for _, row := range rows {
		fmt.Fprintln(out, name(row))
		for _, key := range sortedKeys(row) {
			if !slices.Contains(hidden, key) {
				fmt.Fprintf(out, "\t%s %v\n", key, row[key])
			}
		}
		fmt.Fprintln(out)
	}
}
