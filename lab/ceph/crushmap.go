package ceph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pxrun/pxrun/lab/machine"
)

// compiled is what a CRUSH map begins with that crushtool has compiled. What follows is its text: the lab needs no other form.
const compiled = "CRUSHMAP\x00"

const rulesMark = "\n# rules\n"

// crushText is the map as crushtool -d prints it.
func (c *Cluster) crushText() string {
	var b strings.Builder
	b.WriteString("# begin crush map\ntunable choose_local_tries 0\ntunable choose_local_fallback_tries 0\ntunable choose_total_tries 50\ntunable chooseleaf_descend_once 1\ntunable chooseleaf_vary_r 1\ntunable chooseleaf_stable 1\ntunable straw_calc_version 1\ntunable allowed_bucket_algs 54\n\n# devices\n")
	for _, o := range c.sortedOSDs() {
		fmt.Fprintf(&b, "device %d osd.%d", o.number, o.number)
		if o.class != "" {
			b.WriteString(" class " + o.class)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n# types\n")
	for i, kind := range bucketKinds {
		fmt.Fprintf(&b, "type %d %s\n", i, kind)
	}
	b.WriteString("\n# buckets\n")
	var write func(x *bucket)
	write = func(x *bucket) {
		for _, child := range x.children {
			write(child)
		}
		fmt.Fprintf(&b, "%s %s {\n\tid %d\t\t# do not change unnecessarily\n\t# weight %.5f\n\talg straw2\n\thash 0\t# rjenkins1\n", x.kind, x.name, x.id, c.weightOf(x.name))
		for _, id := range x.osds {
			fmt.Fprintf(&b, "\titem osd.%d weight %.5f\n", id, c.osds[id].weight)
		}
		for _, child := range x.children {
			fmt.Fprintf(&b, "\titem %s weight %.5f\n", child.name, c.weightOf(child.name))
		}
		b.WriteString("}\n")
	}
	for _, x := range c.crush.buckets {
		if x.parent == nil {
			write(x)
		}
	}
	b.WriteString(rulesMark)
	for _, r := range c.crush.rules {
		b.WriteString(r.text())
	}
	b.WriteString("\n# end crush map\n")
	return b.String()
}

func (r *rule) text() string {
	kind, order, take := "replicated", "firstn", r.root
	if r.erasure {
		kind, order = "erasure", "indep"
	}
	if r.class != "" {
		take += " class " + r.class
	}
	op := "chooseleaf"
	if r.domain == "osd" || r.per > 0 {
		op = "choose"
	}
	steps := []string{"take " + take, fmt.Sprintf("%s %s 0 type %s", op, order, r.domain)}
	if r.per > 0 {
		steps = append(steps, fmt.Sprintf("chooseleaf %s %d type host", order, r.per))
	}
	return fmt.Sprintf("rule %s {\n\tid %d\n\ttype %s\n\tstep %s\n}\n", r.name, r.id, kind, strings.Join(append(steps, "emit"), "\n\tstep "))
}

// crushVersion counts the changes of the map.
func (c *Cluster) crushVersion() int {
	if now := c.crushText(); now != c.crush.seen {
		c.crush.seen = now
		c.crush.version++
	}
	return c.crush.version
}

func (k *call) getMap() error {
	k.out.WriteString(compiled + k.c.crushText())
	return k.say("%d", k.c.crushVersion())
}

// setMap takes a new map. The lab takes other rules; devices and buckets must be as they are.
func (k *call) setMap() error {
	if prior, err := strconv.Atoi(k.arg(0)); err == nil && prior != k.c.crushVersion() {
		return refuse(syscall.EPERM, "prior_version %d != crush version %d", prior, k.c.crushVersion())
	}
	text, ok := bytes.CutPrefix(k.input, []byte(compiled))
	if !ok {
		return refuse(syscall.EINVAL, "Failed to parse crushmap: buffer::end_of_buffer")
	}
	head, rules, err := parseMap(string(text))
	switch now, _, _ := strings.Cut(k.c.crushText(), rulesMark); {
	case err != nil:
		return refuse(syscall.EINVAL, "Failed to parse crushmap: %v", err)
	case strings.TrimSpace(head) != strings.TrimSpace(now):
		return refuse(syscall.EINVAL, "Failed crushmap test: the lab takes new rules, and no other devices or buckets")
	}
	for _, p := range k.c.pools {
		at := slices.IndexFunc(rules, func(r *rule) bool { return r.id == p.rule.id })
		if at < 0 {
			return refuse(syscall.EINVAL, "pool %d references crush_rule %d but it is not present", p.id, p.rule.id)
		}
	}
	for _, p := range k.c.pools {
		p.rule = rules[slices.IndexFunc(rules, func(r *rule) bool { return r.id == p.rule.id })]
	}
	k.c.crush.rules = rules
	for _, r := range rules {
		k.c.crush.lastRul = max(k.c.crush.lastRul, r.id+1)
	}
	k.c.osdChanged(k.c.model.now())
	return k.say("%d", k.c.crushVersion())
}

// parseMap reads the text of a map: all before the rules as it stands, and the rules.
func parseMap(text string) (head string, rules []*rule, err error) {
	head, rest, _ := strings.Cut(text, rulesMark)
	var r *rule
	for i, line := range strings.Split(rest, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case r == nil && len(f) == 3 && f[0] == "rule" && f[2] == "{":
			r = &rule{name: f[1], id: -1}
		case r == nil:
			return "", nil, fmt.Errorf("line %d: parse error at '%s'", i+1, f[0])
		case f[0] == "}":
			if r.id < 0 || r.root == "" || r.domain == "" || slices.ContainsFunc(rules, func(x *rule) bool { return x.id == r.id || x.name == r.name }) {
				return "", nil, fmt.Errorf("rule '%s' is incomplete, or there is another of its name or id", r.name)
			}
			rules, r = append(rules, r), nil
		default:
			if err := r.read(f); err != nil {
				return "", nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	if r != nil {
		return "", nil, errors.New("parse error at end of file")
	}
	return head, rules, nil
}

// read takes one line of a rule.
func (r *rule) read(f []string) error {
	bad := fmt.Errorf("parse error at '%s'", strings.Join(f, " "))
	number := func(i int) (int, error) {
		if i >= len(f) {
			return 0, bad
		}
		return strconv.Atoi(f[i])
	}
	var err error
	switch {
	case f[0] == "id" && len(f) == 2:
		r.id, err = number(1)
	case f[0] == "type" && len(f) == 2:
		r.erasure = f[1] == "erasure"
	case f[0] != "step" || len(f) < 2:
		return bad
	case f[1] == "emit", strings.HasPrefix(f[1], "set_"):
	case f[1] == "take" && (len(f) == 3 || len(f) == 5 && f[3] == "class"):
		r.root, r.class = f[2], strings.Join(f[min(4, len(f)):], "")
	case (f[1] == "choose" || f[1] == "chooseleaf") && len(f) == 6 && f[4] == "type" && slices.Contains(bucketKinds, f[5]):
		count := 0
		if count, err = number(3); err != nil {
			return bad
		}
		switch {
		case r.domain == "":
			r.domain = f[5]
		case f[1] == "chooseleaf" && f[5] == "host" && count > 0:
			r.per = count
		default:
			return bad
		}
	default:
		return bad
	}
	return err
}

// crushtool compiles and decompiles maps.
func crushtool(_ context.Context, p *machine.Proc) int {
	mode, in, out := "", "", ""
	args := p.Args()
	for i := 0; i < len(args); i++ {
		next := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		switch args[i] {
		case "-d", "--decompile":
			mode, in = "d", next()
		case "-c", "--compile":
			mode, in = "c", next()
		case "-o", "--outfn":
			out = next()
		default:
			return p.Fail(1, "unrecognized argument: '%s'", args[i])
		}
	}
	if mode == "" {
		return p.Fail(1, "no action specified; -h for help")
	}
	text, err := p.View().ReadFile(in)
	if err != nil {
		return p.Fail(1, "error reading '%s': can't open %s: (2) No such file or directory", in, in)
	}
	if mode == "d" {
		plain, ok := bytes.CutPrefix(text, []byte(compiled))
		if !ok {
			return p.Fail(1, "unable to decode %s", in)
		}
		return crushOut(p, out, plain)
	}
	if _, _, err := parseMap(string(text)); err != nil {
		return p.Fail(1, "%s: %v", in, err)
	}
	return crushOut(p, or2(out, "crushmap"), append([]byte(compiled), text...))
}

func crushOut(p *machine.Proc, name string, text []byte) int {
	if name == "" {
		p.Println(strings.TrimRight(string(text), "\n"))
		return 0
	}
	if err := p.View().WriteFile(name, text, 0o644); err != nil {
		return p.Fail(1, "error writing '%s': %v", name, err)
	}
	return 0
}
