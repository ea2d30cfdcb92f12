package machine

import (
	"slices"
	"strings"
)

// flags are a program's options as getopt_long reads them.
type flags struct {
	values map[string][]string // by letter or long name; "" for those without a value
	order  []string
}

func (f flags) has(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return f.values[n] != nil })
}

// last returns the value given last for a name.
func (f flags) last(name string) string {
	if v := f.values[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func (f flags) all(name string) []string { return f.values[name] }

func (f *flags) add(name, value string) {
	f.values[name] = append(f.values[name], value)
	f.order = append(f.order, name)
}

// getopt parses arguments. spec is getopt's ("n:q"; a leading + stops at the first operand); long names are given as
// "quiet=q" (the same as -q) or "retries=" (takes a value) or "collect". A problem is reported as GNU programs do.
func (p *Proc) getopt(spec string, long ...string) (flags, []string, bool) {
	return p.getoptOf(p.Args(), spec, long...)
}

func (p *Proc) getoptOf(args []string, spec string, long ...string) (flags, []string, bool) {
	f := flags{values: map[string][]string{}}
	inOrder := strings.HasPrefix(spec, "+")
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return f, append(rest, args...), true
		case strings.HasPrefix(arg, "--"):
			var ok bool
			if args, ok = p.longOption(&f, arg[2:], args, spec, long); !ok {
				return f, nil, false
			}
		case len(arg) > 1 && arg[0] == '-':
			var ok bool
			if args, ok = p.shortOptions(&f, arg[1:], args, spec); !ok {
				return f, nil, false
			}
		case inOrder:
			return f, append([]string{arg}, args...), true
		default:
			rest = append(rest, arg)
		}
	}
	return f, rest, true
}

func (p *Proc) shortOptions(f *flags, letters string, args []string, spec string) ([]string, bool) {
	for i := 0; i < len(letters); i++ {
		at := strings.IndexByte(spec, letters[i])
		if at < 0 || letters[i] == ':' || letters[i] == '+' {
			p.Errorf("invalid option -- '%c'", letters[i])
			return nil, false
		}
		name := letters[i : i+1]
		if at+1 >= len(spec) || spec[at+1] != ':' {
			f.add(name, "")
			continue
		}
		if rest := letters[i+1:]; rest != "" {
			f.add(name, rest)
			return args, true
		}
		if len(args) == 0 {
			p.Errorf("option requires an argument -- '%s'", name)
			return nil, false
		}
		f.add(name, args[0])
		return args[1:], true
	}
	return args, true
}

func (p *Proc) longOption(f *flags, arg string, args []string, spec string, long []string) ([]string, bool) {
	name, value, given := strings.Cut(arg, "=")
	for _, l := range long {
		known, short, mapped := strings.Cut(l, "=")
		if known != name {
			continue
		}
		as, wants := known, false
		if mapped && short != "" {
			at := strings.Index(spec, short)
			as, wants = short, at >= 0 && at+1 < len(spec) && spec[at+1] == ':'
		} else if mapped {
			wants = true
		}
		if wants && !given {
			if len(args) == 0 {
				p.Errorf("option '--%s' requires an argument", name)
				return nil, false
			}
			value, args = args[0], args[1:]
		}
		f.add(as, value)
		return args, true
	}
	p.Errorf("unrecognized option '--%s'", name)
	return nil, false
}
