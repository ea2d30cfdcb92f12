package ha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// ruleOptions are those of a type's rules.
func ruleOptions(kind string, update bool) map[string]pvetool.Option {
	o := map[string]pvetool.Option{
		"resources": {Check: sidList}, "disable": {Kind: pvetool.Bool}, "comment": {Check: atMost(4096)},
	}
	if kind != resourceAffinity {
		o["nodes"], o["strict"] = pvetool.Option{Check: nodeList}, pvetool.Option{Kind: pvetool.Bool}
	}
	if kind != nodeAffinity {
		o["affinity"] = pvetool.Option{Check: oneOf(positive, negative)}
	}
	if update {
		o["delete"], o["digest"] = pvetool.Option{}, pvetool.Option{}
	}
	return o
}

// notYet refuses rules while there are groups.
func (c *call) notYet(what string) error {
	if c.groupsMigrated() {
		return nil
	}
	return refuse(pvetool.ExitDie, "cannot %s ha rule: ha groups have not been migrated yet", what)
}

// addRule is `ha-manager rules add`.
func (c *call) addRule(ctx context.Context) error {
	if err := c.checkQuorum(); err != nil {
		return err
	}
	if err := c.notYet("create"); err != nil {
		return err
	}
	if err := c.checkRequired(); err != nil {
		return err
	}
	return c.locked(ctx, "create ha rule failed", func() error {
		rules, _, err := c.rules()
		if err != nil {
			return err
		}
		id := c.value("rule")
		if findRule(rules, id) != nil {
			return fmt.Errorf("HA rule '%s' already defined", id)
		}
		r := &rule{ID: id, Type: c.value("type")}
		return c.saveRule(append(rules, r), r)
	})
}

// checkRequired refuses rules without what they are about.
func (c *call) checkRequired() error {
	var lines []string
	need := func(name string) {
		if !c.has(name) {
			lines = append(lines, name+": property is missing and it is not optional")
		}
	}
	if c.value("type") == resourceAffinity {
		need("affinity")
	} else {
		need("nodes")
	}
	need("resources")
	if len(lines) > 0 {
		return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: lines}
	}
	return nil
}

// setRule is `ha-manager rules set`.
func (c *call) setRule(ctx context.Context) error {
	if err := c.notYet("update"); err != nil {
		return err
	}
	return c.locked(ctx, "update HA rules failed", func() error {
		rules, now, err := c.rules()
		if err != nil {
			return err
		}
		if err := c.checkDigest(now); err != nil {
			return err
		}
		r := findRule(rules, c.value("rule"))
		if r == nil {
			return fmt.Errorf("HA rule '%s' does not exist", c.value("rule"))
		}
		if t := c.value("type"); t != "" && t != r.Type {
			return errors.New("types does not match")
		}
		return c.saveRule(rules, r)
	})
}

// saveRule takes the given options over into a rule and writes all rules, if they can be followed.
func (c *call) saveRule(rules []*rule, r *rule) error {
	for _, key := range list(c.value("delete")) {
		switch key {
		case "comment":
			r.Comment = ""
		case "disable":
			r.Disabled = false
		case "strict":
			r.Strict = false
		case "nodes", "resources", "affinity":
			return fmt.Errorf("unable to delete required option '%s'", key)
		default:
			return fmt.Errorf("no such option '%s'", key)
		}
	}
	if c.has("resources") {
		r.Resources = slices.Sorted(slices.Values(list(c.value("resources"))))
		if len(r.Resources) == 0 {
			return errors.New("no resources were specified")
		}
		if err := c.checkManaged(r.Resources); err != nil {
			return err
		}
	}
	if c.has("nodes") {
		if r.Nodes, _ = prioritised(c.value("nodes")); len(r.Nodes) == 0 {
			return errors.New("no nodes were specified")
		}
		if err := c.checkNodes(r.Nodes); err != nil {
			return err
		}
	}
	for key, into := range map[string]*bool{"strict": &r.Strict, "disable": &r.Disabled} {
		if c.has(key) {
			*into = c.value(key) == "1"
		}
	}
	for key, into := range map[string]*string{"affinity": &r.Affinity, "comment": &r.Comment} {
		if c.has(key) {
			*into = c.value(key)
		}
	}
	if err := c.checkFeasible(rules, r); err != nil {
		return err
	}
	return c.writeRules(rules)
}

func (c *call) checkManaged(resources []string) error {
	sections, _, err := c.sections(resourcesFile)
	if err != nil {
		return err
	}
	var unknown []string
	for _, sid := range resources {
		kind, id, _ := parseSID(sid)
		if index(sections, kind, id) < 0 {
			unknown = append(unknown, sid)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("cannot use unmanaged resource(s) %s.", strings.Join(unknown, ", ")) //nolint:revive,staticcheck // Proxmox's words
	}
	return nil
}

func (c *call) checkNodes(nodes map[string]int) error {
	members := append(c.stack.node.Members(), c.stack.node.Name())
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if !slices.Contains(members, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("cannot use non-existent node(s) %s.", strings.Join(unknown, ", ")) //nolint:revive,staticcheck // Proxmox's words
	}
	return nil
}

// conflicts checks rules against each other. The nodes that there are come from the master's status, which is empty until
// one has run (reference §5.2).
func (c *call) conflicts(rules []*rule) (all []*rule, bad conflicts, err error) {
	config, err := readConfig(c.view)
	if err != nil {
		return nil, nil, err
	}
	status, err := readManagerStatus(c.view)
	if err != nil {
		return nil, nil, err
	}
	all, _ = withGroups(rules, config.groups, config.conf)
	return all, infeasible(all, slices.Sorted(maps.Keys(status.Nodes))), nil
}

func (c *call) checkFeasible(rules []*rule, r *rule) error {
	_, bad, err := c.conflicts(rules)
	if err != nil || bad[r.ID] == nil {
		return err
	}
	text := fmt.Sprintf("400 Rule '%s' is invalid.", r.ID)
	for _, option := range slices.Sorted(maps.Keys(bad[r.ID])) {
		text += "\n" + option + ": " + strings.Join(bad[r.ID][option], ", ")
	}
	return errors.New(text)
}

// removeRule is `ha-manager rules remove`. Removing what is not there succeeds.
func (c *call) removeRule(ctx context.Context) error {
	return c.locked(ctx, "delete ha rule failed", func() error {
		rules, _, err := c.rules()
		if err != nil {
			return err
		}
		return c.writeRules(slices.DeleteFunc(rules, func(r *rule) bool { return r.ID == c.value("rule") }))
	})
}

func (c *call) rules() ([]*rule, string, error) {
	text, err := read(c.view, rulesFile)
	if err != nil {
		return nil, "", err
	}
	return parseRules(string(text)), digest(text), nil
}

func (c *call) writeRules(rules []*rule) error {
	var sections []pvetool.Section
	for _, r := range rules {
		sections = append(sections, r.section())
	}
	return c.write(rulesFile, sections)
}

func findRule(rules []*rule, id string) *rule {
	for _, r := range rules {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// ruleRows is /cluster/ha/rules, with the groups that have not been migrated, and the reasons for which rules are ignored.
func (c *call) ruleRows() ([]object, error) {
	rules, now, err := c.rules()
	if err != nil {
		return nil, err
	}
	all, bad, err := c.conflicts(rules)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, r := range all {
		if t := c.value("type"); t != "" && t != r.Type {
			continue
		}
		if sid := c.value("resource"); sid != "" && !slices.Contains(r.Resources, sid) {
			continue
		}
		out = append(out, ruleRow(r, now, bad[r.ID]))
	}
	return out, nil
}

func ruleRow(r *rule, digest string, bad map[string][]string) object {
	row := object{"rule": r.ID, "type": r.Type, "order": r.Order, "digest": digest, "resources": strings.Join(r.Resources, ",")}
	if r.Type == nodeAffinity {
		row["nodes"] = formatNodes(r.Nodes)
		if r.Strict {
			row["strict"] = 1
		}
	} else {
		row["affinity"] = r.Affinity
	}
	if r.Disabled {
		row["disable"] = 1
	}
	if r.Comment != "" {
		row["comment"] = r.Comment
	}
	if len(bad) > 0 {
		row["errors"] = bad
	}
	return row
}

// rule is /cluster/ha/rules/RULE.
func (c *call) rule() (object, error) {
	rows, err := c.ruleRows()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row["rule"] == c.value("rule") {
			return row, nil
		}
	}
	return nil, refuse(pvetool.ExitDie, "no such ha rule '%s'", c.value("rule"))
}
