package ceph

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/transport"
)

var crushName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// checkCrushName accepts what Ceph takes as names in CRUSH maps.
func checkCrushName(name string) error {
	if !crushName.MatchString(name) {
		return fmt.Errorf("%q is no name in a CRUSH map: letters, digits, _, . and -", name)
	}
	return nil
}

// ruleWanted is the CRUSH rule that the settings describe.
func (s poolSettings) ruleWanted() ceph.Rule {
	r := ceph.Rule{Name: s.CrushRule, Root: "default", Class: s.DeviceClass, Domain: orDefault(s.FailureDomain, "host")}
	if s.PerDomain != nil {
		r.Per = *s.PerDomain
	}
	return r
}

// describes reports whether the settings say what a rule is, not only its name.
func (s poolSettings) describes() bool {
	return s.DeviceClass != "" || s.FailureDomain != "" || s.PerDomain != nil
}

// rule plans a CRUSH rule that does not exist, if the runbook says what it is. One that exists is never changed: pools that
// use it would move.
func (w *world) rule(gate string, s poolSettings) []module.Change {
	if s.CrushRule == "" || w.will.rules[s.CrushRule] {
		return nil
	}
	want := s.ruleWanted()
	if r, ok := w.Rule(s.CrushRule); ok {
		if s.DeviceClass != "" && r.Class != want.Class || s.FailureDomain != "" && (r.Domain != want.Domain || r.Per != want.Per) {
			w.refuse("", gate, fmt.Sprintf("CRUSH rule %s takes class %q over %s", r.Name, r.Class, r.Over()), fmt.Sprintf("class %q over %s", want.Class, want.Over()), "ceph osd crush rule dump "+r.Name,
				"name another rule; one that is there is not changed, since all its pools would move")
		}
		return nil
	}
	if !s.describes() {
		if !w.Answers && s.CrushRule == "replicated_rule" {
			return nil // every new cluster has it
		}
		names := make([]string, len(w.Rules))
		for i, r := range w.Rules {
			names[i] = r.Name
		}
		w.refuse("", gate, fmt.Sprintf("there is no CRUSH rule %q; there are %s", s.CrushRule, strings.Join(names, ", ")), "a rule that exists", "ceph osd crush rule ls",
			"say device_class or failure_domain, and it is made")
		return nil
	}
	actor := w.actor()
	after := map[string]any{"rule": want.Name, "failure domain": want.Domain}
	if want.Class != "" {
		after["device class"] = want.Class
	}
	if want.Per > 0 {
		after["copies"] = want.Over()
	}
	return w.plan([]module.Change{{
		ID: actor + "/" + kindRule + "/" + want.Name, Host: actor, Action: module.Create, Summary: "make CRUSH rule " + want.Name, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return makeRule(ctx, t, actor, want) },
	}})
}

func makeRule(ctx context.Context, t module.Target, actor string, want ceph.Rule) error {
	if err := writeRule(ctx, t, actor, want); err != nil {
		return err
	}
	return await(ctx, t, "CRUSH rule "+want.Name+" is there", actor, quickTimeout, func(c *ceph.Cluster) string {
		switch r, ok := c.Rule(want.Name); {
		case !ok:
			return "ceph osd crush rule ls does not list it"
		case r.Class != want.Class || r.Domain != want.Domain || r.Per != want.Per:
			return fmt.Sprintf("it takes class %q over %s", r.Class, r.Over())
		}
		return ""
	})
}

func writeRule(ctx context.Context, t module.Target, actor string, want ceph.Rule) error {
	if want.Per > 0 {
		return editMap(ctx, t, actor, want)
	}
	argv := []string{"osd", "crush", "rule", "create-replicated", want.Name, want.Root, want.Domain}
	if want.Class != "" {
		argv = append(argv, want.Class)
	}
	return tell(ctx, t, actor, argv...)
}

// mapScript adds text to the CRUSH map. Commands of ceph make no rule of several steps, so that the map itself is edited, as its
// manual does it. The version that was read is handed back: when somebody else has changed the map meanwhile, nothing is
// written. Parameters: the text.
const mapScript = `# add a rule to the CRUSH map
cd / && umask 077 && d=$(mktemp -d) || exit 1
trap 'rm -rf "$d"' EXIT
ask() { timeout -k 2 30 ceph --connect-timeout 10 "$@"; }
ask osd getcrushmap -o "$d/map" >"$d/said" 2>&1 || { cat "$d/said" >&2; exit 1; }
version=$(grep -x '[0-9][0-9]*' "$d/said" | tail -n 1)
if [ -z "$version" ]; then echo "ceph osd getcrushmap did not say the map's version" >&2; exit 1; fi
crushtool -d "$d/map" -o "$d/text" || exit 1
printf '\n%s' "$1" >>"$d/text"
crushtool -c "$d/text" -o "$d/new" || exit 1
ask osd setcrushmap "$version" -i "$d/new"`

// editMap writes a rule into the map. Another change of the map at that time is no failure: it is tried again.
func editMap(ctx context.Context, t module.Target, actor string, want ceph.Rule) error {
	const tries = 3
	for n := 1; ; n++ {
		c, err := readCluster(ctx, t, actor)
		if err != nil {
			return err
		}
		if _, there := c.Rule(want.Name); there {
			return nil
		}
		id := 0
		for slices.ContainsFunc(c.Rules, func(r ceph.Rule) bool { return r.ID == id }) {
			id++
		}
		_, err = output(ctx, t, actor, transport.Command{Script: mapScript, Argv: []string{ruleText(want, id)}, Mutates: true, Timeout: daemonTimeout})
		if err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "prior_version") || n == tries {
			return fmt.Errorf("%s: write CRUSH rule %s into the map: %s (look: ceph osd getcrushmap -o /tmp/map; crushtool -d /tmp/map)", actor, want.Name, said(err))
		}
	}
}

// ruleText is a rule as the text of a CRUSH map has it.
func ruleText(r ceph.Rule, id int) string {
	take := r.Root
	if r.Class != "" {
		take += " class " + r.Class
	}
	lines := []string{
		"id " + strconv.Itoa(id), "type replicated", "step take " + take, "step choose firstn 0 type " + r.Domain,
		fmt.Sprintf("step chooseleaf firstn %d type host", r.Per), "step emit",
	}
	return fmt.Sprintf("rule %s {\n\t%s\n}\n", r.Name, strings.Join(lines, "\n\t"))
}
