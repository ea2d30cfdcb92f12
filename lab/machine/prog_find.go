package machine

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

// runFind supports the tests that scripts use: -name -path -type -maxdepth -mindepth -newer -mmin -size -empty -user, the
// actions -print -print0 -delete -exec, and ! and -o between them.
func runFind(ctx context.Context, p *Proc) int {
	args := p.Args()
	var paths []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" && args[0] != "(" {
		paths, args = append(paths, args[0]), args[1:]
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	f := &finder{p: p, ctx: ctx, max: -1}
	test, err := f.parse(args)
	if err != nil {
		return p.Fail(1, "%v", err)
	}
	for _, path := range paths {
		info, err := p.view.Lstat(path)
		if err != nil {
			f.status = p.Fail(1, "‘%s’: %s", path, Reason(err))
			continue
		}
		f.visit(path, info, 0, test)
	}
	f.flush()
	return f.status
}

type finder struct {
	p        *Proc
	ctx      context.Context //nolint:containedctx // lives as long as the program
	min, max int
	depth    bool
	acts     bool
	status   int
	batch    []string
	batches  []string
}

type findTest func(path string, i vfs.Info) bool

func (f *finder) parse(args []string) (findTest, error) {
	var any []findTest
	var all []findTest
	for len(args) > 0 {
		negate := false
		for len(args) > 0 && (args[0] == "!" || args[0] == "-not") {
			negate, args = !negate, args[1:]
		}
		if len(args) == 0 {
			return nil, fmt.Errorf("expected an expression after '!'")
		}
		word := args[0]
		args = args[1:]
		switch word {
		case "-o", "-or":
			any, all = append(any, both(all)), nil
			continue
		case "-a", "-and":
			continue
		case "(":
			depth, end := 1, -1
			for i, a := range args {
				if a == "(" {
					depth++
				} else if a == ")" {
					if depth--; depth == 0 {
						end = i
						break
					}
				}
			}
			if end < 0 {
				return nil, fmt.Errorf("invalid expression; I was expecting to find a ')' somewhere but did not see one.")
			}
			inner, err := f.parse(args[:end])
			if err != nil {
				return nil, err
			}
			all = append(all, not(inner, negate))
			args = args[end+1:]
			continue
		}
		test, rest, err := f.primary(word, args)
		if err != nil {
			return nil, err
		}
		args = rest
		if test != nil {
			all = append(all, not(test, negate))
		}
	}
	any = append(any, both(all))
	return func(path string, i vfs.Info) bool {
		return slices.ContainsFunc(any, func(t findTest) bool { return t(path, i) })
	}, nil
}

func both(all []findTest) findTest {
	return func(path string, i vfs.Info) bool {
		return !slices.ContainsFunc(all, func(t findTest) bool { return !t(path, i) })
	}
}

func not(t findTest, negate bool) findTest {
	if !negate {
		return t
	}
	return func(path string, i vfs.Info) bool { return !t(path, i) }
}

func (f *finder) primary(word string, args []string) (findTest, []string, error) {
	value := func() (string, error) {
		if len(args) == 0 {
			return "", fmt.Errorf("missing argument to `%s'", word)
		}
		v := args[0]
		args = args[1:]
		return v, nil
	}
	switch word {
	case "-print":
		f.acts = true
		return func(path string, _ vfs.Info) bool { f.p.Println(path); return true }, args, nil
	case "-print0":
		f.acts = true
		return func(path string, _ vfs.Info) bool { io.WriteString(f.p.Stdout, path+"\x00"); return true }, args, nil
	case "-delete":
		f.acts, f.depth = true, true
		return func(path string, _ vfs.Info) bool {
			if err := f.p.view.Remove(path); err != nil {
				f.status = f.p.Fail(1, "cannot delete ‘%s’: %s", path, Reason(err))
				return false
			}
			return true
		}, args, nil
	case "-empty":
		return func(path string, i vfs.Info) bool {
			if i.Mode.IsDir() {
				list, err := f.p.view.ReadDir(path)
				return err == nil && len(list) == 0
			}
			return i.Size == 0
		}, args, nil
	case "-depth", "-xdev", "-mount", "-follow", "-noleaf":
		f.depth = f.depth || word == "-depth"
		return nil, args, nil
	case "-true":
		return func(string, vfs.Info) bool { return true }, args, nil
	case "-exec", "-execdir", "-ok":
		f.acts = true
		end := slices.IndexFunc(args, func(a string) bool { return a == ";" || a == "+" })
		if end < 0 {
			return nil, nil, fmt.Errorf("missing argument to `%s'", word)
		}
		return f.exec(args[:end], args[end] == "+"), args[end+1:], nil
	}
	v, err := value()
	if err != nil {
		return nil, nil, err
	}
	test, err := f.valueTest(word, v)
	return test, args, err
}

func (f *finder) valueTest(word, v string) (findTest, error) {
	switch word {
	case "-name", "-iname":
		return func(path string, _ vfs.Info) bool {
			name := lastName(path)
			if word == "-iname" {
				return matches(strings.ToLower(v), strings.ToLower(name))
			}
			return matches(v, name)
		}, nil
	case "-path", "-wholename":
		return func(path string, _ vfs.Info) bool { return matches(v, path) }, nil
	case "-regex":
		re, err := regexp.Compile("^(?:" + v + ")$")
		return func(path string, _ vfs.Info) bool { return re.MatchString(path) }, err
	case "-type":
		return func(_ string, i vfs.Info) bool {
			return strings.Contains(v, modeText(i.Mode)[:1]) || v == "f" && i.Mode.IsRegular()
		}, nil
	case "-maxdepth", "-mindepth":
		n, err := strconv.Atoi(v)
		if word == "-maxdepth" {
			f.max = n
		} else {
			f.min = n
		}
		return nil, err
	case "-newer":
		ref, err := f.p.view.Stat(v)
		if err != nil {
			return nil, fmt.Errorf("‘%s’: %s", v, Reason(err))
		}
		return func(_ string, i vfs.Info) bool { return i.ModTime.After(ref.ModTime) }, nil
	case "-mmin", "-mtime":
		unit := time.Minute
		if word == "-mtime" {
			unit = 24 * time.Hour
		}
		n, err := strconv.Atoi(strings.TrimLeft(v, "+-"))
		return func(_ string, i vfs.Info) bool {
			age := int(f.p.Machine.Now().Sub(i.ModTime) / unit)
			return compareSigned(v, age, n)
		}, err
	case "-size":
		n, ok := parseSize(strings.TrimLeft(v, "+-"))
		if !ok {
			return nil, fmt.Errorf("invalid argument `%s' to `-size'", v)
		}
		return func(_ string, i vfs.Info) bool { return compareSigned(v, int(i.Size), int(n)) }, nil
	case "-user":
		return func(_ string, i vfs.Info) bool { return f.p.Machine.userName(i.UID) == v }, nil
	case "-group":
		return func(_ string, i vfs.Info) bool { return f.p.Machine.groupName(i.GID) == v }, nil
	case "-perm":
		n, err := strconv.ParseUint(strings.TrimLeft(v, "-/"), 8, 32)
		return func(_ string, i vfs.Info) bool {
			bits := uint64(modeBits(i.Mode))
			switch v[0] {
			case '-':
				return bits&n == n
			case '/':
				return bits&n != 0
			}
			return bits == n
		}, err
	case "-printf":
		f.acts = true
		return func(path string, i vfs.Info) bool {
			text, _ := echoEscapes(v)
			io.WriteString(f.p.Stdout, strings.NewReplacer("%p", path, "%f", lastName(path), "%s", strconv.FormatInt(i.Size, 10), "%m", strconv.FormatUint(uint64(modeBits(i.Mode)), 8),
				"%u", f.p.Machine.userName(i.UID), "%g", f.p.Machine.groupName(i.GID), "%y", modeText(i.Mode)[:1], "%l", i.Target, "%h", parentOf(path)).Replace(text))
			return true
		}, nil
	}
	return nil, fmt.Errorf("unknown predicate `%s'", word)
}

func compareSigned(spec string, have, want int) bool {
	switch spec[0] {
	case '+':
		return have > want
	case '-':
		return have < want
	}
	return have == want
}

func (f *finder) exec(argv []string, together bool) findTest {
	if together {
		f.batches = slices.DeleteFunc(slices.Clone(argv), func(a string) bool { return a == "{}" })
		return func(path string, _ vfs.Info) bool { f.batch = append(f.batch, path); return true }
	}
	return func(path string, _ vfs.Info) bool {
		run := make([]string, len(argv))
		for i, a := range argv {
			run[i] = strings.ReplaceAll(a, "{}", path)
		}
		return f.p.Run(f.ctx, run...) == 0
	}
}

func (f *finder) flush() {
	if len(f.batch) > 0 {
		if code := f.p.Run(f.ctx, append(f.batches, f.batch...)...); code != 0 {
			f.status = 1
		}
	}
}

func (f *finder) visit(path string, info vfs.Info, depth int, test findTest) {
	if ended(f.ctx) {
		return
	}
	act := func() {
		if depth >= f.min && test(path, info) && !f.acts {
			f.p.Println(path)
		}
	}
	if !f.depth {
		act()
	}
	if info.Mode.IsDir() && (f.max < 0 || depth < f.max) {
		list, err := f.p.view.ReadDir(path)
		if err != nil {
			f.status = f.p.Fail(1, "‘%s’: %s", path, Reason(err))
		}
		for _, entry := range list {
			f.visit(strings.TrimRight(path, "/")+"/"+entry.Name, entry, depth+1, test)
		}
	}
	if f.depth {
		act()
	}
}
