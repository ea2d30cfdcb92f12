package ha

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pxrun/pxrun/lab/pvetool"
)

func sortedKeys(row object) []string { return slices.Sorted(maps.Keys(row)) }

func groupOptions(update bool) map[string]pvetool.Option {
	o := map[string]pvetool.Option{
		"nodes": {Check: nodeList}, "restricted": {Kind: pvetool.Bool}, "nofailback": {Kind: pvetool.Bool}, "comment": {Check: atMost(4096)},
		"type": {Check: oneOf("group")},
	}
	if update {
		o["delete"], o["digest"] = pvetool.Option{}, pvetool.Option{}
	}
	return o
}

// noGroups refuses what concerns groups once they have become rules.
func (c *call) noGroups(what string) error {
	if c.groupsMigrated() {
		return refuse(pvetool.ExitNoEntry, "cannot %s: ha groups have been migrated to rules", what)
	}
	return nil
}

// addGroup is `ha-manager groupadd`.
func (c *call) addGroup(ctx context.Context) error {
	if err := c.noGroups("create group"); err != nil {
		return err
	}
	if err := c.checkQuorum(); err != nil {
		return err
	}
	return c.locked(ctx, "create ha group failed", func() error {
		sections, _, err := c.sections(groupsFile)
		if err != nil {
			return err
		}
		id := c.value("group")
		if index(sections, "group", id) >= 0 {
			return fmt.Errorf("ha group ID '%s' already defined", id)
		}
		values := map[string]string{}
		if err := c.apply(values, groupOptions(false), nil); err != nil {
			return err
		}
		delete(values, "type")
		return c.write(groupsFile, append(sections, pvetool.Section{Type: "group", ID: id, Values: values}))
	})
}

// setGroup is `ha-manager groupset`.
func (c *call) setGroup(ctx context.Context) error {
	if err := c.noGroups("update group"); err != nil {
		return err
	}
	return c.locked(ctx, "update ha group failed", func() error {
		sections, now, err := c.sections(groupsFile)
		if err != nil {
			return err
		}
		if err := c.checkDigest(now); err != nil {
			return err
		}
		at := index(sections, "group", c.value("group"))
		if at < 0 {
			return fmt.Errorf("no such ha group '%s'", c.value("group"))
		}
		if err := c.apply(sections[at].Values, groupOptions(true), []string{"nodes"}); err != nil {
			return err
		}
		delete(sections[at].Values, "type")
		return c.write(groupsFile, sections)
	})
}

// removeGroup is `ha-manager groupremove`. Removing what is not there succeeds.
func (c *call) removeGroup(ctx context.Context) error {
	if err := c.noGroups("delete group"); err != nil {
		return err
	}
	return c.locked(ctx, "delete ha group failed", func() error {
		resources, _, err := c.sections(resourcesFile)
		if err != nil {
			return err
		}
		id := c.value("group")
		for _, s := range resources {
			if s.Values["group"] == id {
				return fmt.Errorf("ha group is used by service '%s:%s'", s.Type, s.ID)
			}
		}
		sections, _, err := c.sections(groupsFile)
		if err != nil {
			return err
		}
		return c.write(groupsFile, slices.DeleteFunc(sections, func(s pvetool.Section) bool { return s.ID == id }))
	})
}

// groups is /cluster/ha/groups.
func (c *call) groups() ([]object, error) {
	if err := c.noGroups("index groups"); err != nil {
		return nil, err
	}
	sections, now, err := c.sections(groupsFile)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, s := range sections {
		out = append(out, groupRow(s, now))
	}
	return out, nil
}

func groupRow(s pvetool.Section, digest string) object {
	row := typed(s.Values, nil, []string{"restricted", "nofailback"})
	row["group"], row["type"], row["digest"] = s.ID, "group", digest
	return row
}

// group is /cluster/ha/groups/GROUP.
func (c *call) group() (object, error) {
	if err := c.noGroups("read group"); err != nil {
		return nil, err
	}
	sections, now, err := c.sections(groupsFile)
	if err != nil {
		return nil, err
	}
	at := index(sections, "group", c.value("group"))
	if at < 0 {
		return nil, refuse(pvetool.ExitDie, "no such ha group '%s'", c.value("group"))
	}
	return groupRow(sections[at], now), nil
}
