package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// command is one command of ha-manager.
type command struct {
	words      []string // "crm-command", "stop"
	positional []string // names of its arguments
	options    map[string]pvetool.Option
	required   []string // options that must be given
	checks     map[string]pvetool.Option
	do         func(ctx context.Context, c *call) error
}

// usage is the synopsis that follows a refusal of arguments.
func (cmd command) usage() string {
	var b strings.Builder
	b.WriteString("ha-manager " + strings.Join(cmd.words, " "))
	for _, name := range cmd.positional {
		b.WriteString(" <" + name + ">")
	}
	for _, name := range cmd.required {
		b.WriteString(" --" + name + " <string>")
	}
	if len(cmd.options) > len(cmd.required) {
		b.WriteString(" [OPTIONS]")
	}
	return b.String()
}

// commands are those that the node's version has.
func (s *Stack) commands() []command {
	f := featuresOf(s.node.Release())
	sid, group := []string{"sid"}, []string{"group"}
	remove := map[string]pvetool.Option{}
	if f.rules {
		remove["purge"] = pvetool.Option{Kind: pvetool.Bool}
	}
	list := []command{
		{words: []string{"status"}, options: map[string]pvetool.Option{"verbose": {Kind: pvetool.Bool}}, do: printStatus},
		{words: []string{"config"}, options: map[string]pvetool.Option{"type": {Check: oneOf("ct", "vm")}}, do: printConfig},
		{words: []string{"groupconfig"}, do: printGroups},
		{words: []string{"add"}, positional: sid, options: s.resourceOptions(false), do: func(ctx context.Context, c *call) error { return c.addResource(ctx) }},
		{words: []string{"set"}, positional: sid, options: s.resourceOptions(true), do: func(ctx context.Context, c *call) error { return c.setResource(ctx) }},
		{words: []string{"remove"}, positional: sid, options: remove, do: func(ctx context.Context, c *call) error { return c.removeResource(ctx) }},
		{
			words: []string{"groupadd"}, positional: group, options: groupOptions(false), required: []string{"nodes"},
			do: func(ctx context.Context, c *call) error { return c.addGroup(ctx) },
		},
		{words: []string{"groupset"}, positional: group, options: groupOptions(true), do: func(ctx context.Context, c *call) error { return c.setGroup(ctx) }},
		{words: []string{"groupremove"}, positional: group, do: func(ctx context.Context, c *call) error { return c.removeGroup(ctx) }},
	}
	list = append(list, s.crmCommands(f)...)
	if f.rules {
		list = append(list, ruleCommands()...)
	}
	return list
}

func (s *Stack) crmCommands(f features) []command {
	node := map[string]pvetool.Option{"node": {Check: nodeName}}
	var list []command
	for _, task := range []string{stateMigrate, stateRelocate} {
		do := func(ctx context.Context, c *call) error { return c.move(ctx, task) }
		list = append(list,
			command{words: []string{task}, positional: []string{"sid", "node"}, checks: node, do: do},
			command{words: []string{"crm-command", task}, positional: []string{"sid", "node"}, checks: node, do: do})
	}
	list = append(list, command{
		words: []string{"crm-command", "stop"}, positional: []string{"sid", "timeout"},
		checks: map[string]pvetool.Option{"timeout": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)}},
		do:     func(ctx context.Context, c *call) error { return c.stop(ctx) },
	})
	for _, word := range []string{"enable", "disable"} {
		list = append(list, command{
			words: []string{"crm-command", "node-maintenance", word}, positional: []string{"node"}, checks: node,
			do: func(ctx context.Context, c *call) error { return c.maintenance(ctx, word) },
		})
	}
	if !f.fencing {
		return list
	}
	return append(list,
		command{
			words: []string{"crm-command", "disarm-ha"}, positional: []string{"resource-mode"},
			checks: map[string]pvetool.Option{"resource-mode": {Check: oneOf("freeze", "ignore")}},
			do:     func(ctx context.Context, c *call) error { return c.queue(ctx, "disarm-ha "+c.value("resource-mode")) },
		},
		command{words: []string{"crm-command", "arm-ha"}, do: func(ctx context.Context, c *call) error { return c.queue(ctx, "arm-ha") }})
}

func ruleCommands() []command {
	named := []string{"type", "rule"}
	checks := map[string]pvetool.Option{"type": {Check: oneOf(nodeAffinity, resourceAffinity)}, "rule": {Check: configID}}
	index := map[string]pvetool.Option{
		"type": {Check: oneOf(nodeAffinity, resourceAffinity)}, "resource": {}, "output-format": {Check: oneOf("text", "json", "json-pretty", "yaml")},
		"quiet": {Kind: pvetool.Bool}, "human-readable": {Kind: pvetool.Bool}, "noheader": {Kind: pvetool.Bool}, "noborder": {Kind: pvetool.Bool},
	}
	return []command{
		{words: []string{"rules", "list"}, options: index, do: printRuleList},
		{words: []string{"rules", "config"}, options: index, do: printRules},
		{words: []string{"rules", "add"}, positional: named, options: ruleOptions("", false), checks: checks, do: func(ctx context.Context, c *call) error { return c.addRule(ctx) }},
		{words: []string{"rules", "set"}, positional: named, options: ruleOptions("", true), checks: checks, do: func(ctx context.Context, c *call) error { return c.setRule(ctx) }},
		{words: []string{"rules", "remove"}, positional: []string{"rule"}, checks: checks, do: func(ctx context.Context, c *call) error { return c.removeRule(ctx) }},
	}
}

// program is ha-manager.
func (s *Stack) program(ctx context.Context, p *machine.Proc) int {
	if s.clock.Sleep(ctx, perlStart) != nil {
		return pvetool.ExitDie
	}
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	if !s.node.Mounted() {
		for i := range 3 {
			fmt.Fprintf(p.Stderr, "ipcc_send_rec[%d] failed: Connection refused\n", i+1)
		}
		const refused = 111
		return pvetool.Die(p, refused, "Unable to load access control list: Connection refused")
	}
	cmd, args, ok := s.find(p.Args())
	if !ok {
		if len(p.Args()) == 0 {
			return pvetool.Die(p, pvetool.ExitDie, "ERROR: no command specified\nUSAGE: ha-manager <COMMAND> [ARGS] [OPTIONS]")
		}
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command 'ha-manager %s'\nUSAGE: ha-manager <COMMAND> [ARGS] [OPTIONS]", strings.Join(args, " "))
	}
	values, perr := cmd.parse(args)
	if perr != nil {
		return pvetool.Usage(p, perr, cmd.usage())
	}
	err := cmd.do(ctx, &call{stack: s, proc: p, view: p.View(), values: values})
	if err == nil {
		return 0
	}
	if perr, ok := errors.AsType[*pvetool.ParamError](err); ok {
		return pvetool.Usage(p, perr, cmd.usage())
	}
	code := pvetool.ExitDie
	if r, ok := errors.AsType[*refusal](err); ok {
		code = r.code
	}
	return pvetool.Die(p, code, "%s", err)
}

// find returns the command that the words begin with and what follows it. For an unknown one it returns the words that make
// it one.
func (s *Stack) find(args []string) (command, []string, bool) {
	depth := 1
	for _, cmd := range s.commands() {
		n := len(cmd.words)
		if len(args) >= n && slices.Equal(args[:n], cmd.words) {
			return cmd, args[n:], true
		}
		for d := 1; d < n; d++ {
			if len(args) > d && slices.Equal(args[:d], cmd.words[:d]) {
				depth = max(depth, d+1)
			}
		}
	}
	return command{}, args[:min(depth, len(args))], false
}

// parse reads arguments into values by name.
func (cmd command) parse(args []string) (map[string]string, *pvetool.ParamError) {
	o, perr := pvetool.Parse(args, cmd.options)
	if perr != nil {
		return nil, perr
	}
	switch {
	case len(o.Positional) < len(cmd.positional):
		return nil, &pvetool.ParamError{Head: "not enough arguments"}
	case len(o.Positional) > len(cmd.positional):
		return nil, &pvetool.ParamError{Head: "too many arguments"}
	}
	var lines []string
	for i, name := range cmd.positional {
		value, problem := cmd.checks[name].Normalise(o.Positional[i])
		o.Values[name] = value
		if problem != "" {
			lines = append(lines, name+": "+problem)
		}
	}
	for _, name := range cmd.required {
		if _, given := o.Values[name]; !given {
			lines = append(lines, name+": property is missing and it is not optional")
		}
	}
	if kind := o.Values["type"]; len(lines) == 0 && len(cmd.words) > 1 && cmd.words[0] == "rules" && len(cmd.positional) == 2 {
		known := ruleOptions(kind, true)
		for name := range o.Values {
			if _, ok := known[name]; !ok && name != "type" && name != "rule" {
				lines = append(lines, fmt.Sprintf("%s: unexpected property for type '%s'", name, kind))
			}
		}
	}
	if len(lines) > 0 {
		slices.Sort(lines)
		return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: lines}
	}
	return o.Values, nil
}
