package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
)

// runSudo checks the rule and the password and runs a command as another user.
func runSudo(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+nSp:u:g:HEikvlsbKA", "non-interactive=n", "stdin=S", "prompt=p", "user=u", "group=g", "set-home=H", "preserve-env=E", "login=i", "reset-timestamp=k", "validate=v", "list=l", "shell=s")
	if !ok {
		return 1
	}
	m := p.Machine
	me := m.userName(p.UID)
	target, found := m.User(cmp.Or(opts.last("u"), "root"))
	if !found {
		return p.Fail(1, "unknown user %s", opts.last("u"))
	}
	rule := m.sudoRule(me)
	if rule == SudoPassword && p.UID != 0 {
		if opts.has("n") {
			return p.Fail(1, "a password is required")
		}
		if code := p.sudoPassword(me, opts); code != 0 {
			return code
		}
	}
	if rule == SudoNone {
		if opts.has("n") {
			return p.Fail(1, "a password is required")
		}
		if code := p.sudoPassword(me, opts); code != 0 {
			return code
		}
		fmt.Fprintf(p.Stderr, "%s is not in the sudoers file.\n", me)
		return 1
	}
	env := map[string]string{"PATH": defaultPath, "SUDO_USER": me, "SUDO_UID": strconv.Itoa(p.UID), "USER": target.Name, "LOGNAME": target.Name, "HOME": target.Home, "SHELL": target.Shell}
	for _, name := range []string{"LANG", "LC_ALL", "TERM", "DISPLAY"} {
		if v, ok := p.Env[name]; ok {
			env[name] = v
		}
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") && !strings.HasPrefix(rest[0], "/") {
		name, value, _ := strings.Cut(rest[0], "=")
		env[name] = value
		rest = rest[1:]
	}
	if opts.has("E") {
		for k, v := range p.Env {
			if _, set := env[k]; !set {
				env[k] = v
			}
		}
	}
	if len(rest) == 0 {
		if !opts.has("i", "s") {
			return 0
		}
		rest = []string{target.Shell}
	}
	child := p.child(rest)
	child.Env, child.UID = env, target.UID
	if opts.has("i") {
		child.Dir = target.Home
	}
	if _, err := lookup(m.FS.View, rest[0], env["PATH"]); err != nil {
		return p.Fail(1, "%s: command not found", rest[0])
	}
	m.Log(Entry{Ident: "sudo", PID: p.pid, Priority: 5, Text: fmt.Sprintf("%8s : PWD=%s ; USER=%s ; COMMAND=%s", me, p.Dir, target.Name, strings.Join(rest, " "))})
	return m.exec(ctx, child, p.files, nil)
}

// sudoPassword asks up to three times.
func (p *Proc) sudoPassword(user string, opts flags) int {
	if !opts.has("S") && !p.TTY {
		fmt.Fprintf(p.Stderr, "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required\n")
		return 1
	}
	prompt := "[sudo] password for " + user + ": "
	if opts.has("p") {
		prompt = strings.NewReplacer("%u", user, "%p", user, "%h", p.Machine.Name()).Replace(opts.last("p"))
	}
	for try := 1; try <= 3; try++ {
		io.WriteString(p.Stderr, prompt)
		line, ok := p.readPassword()
		if !ok {
			break
		}
		if p.Machine.CheckPassword(user, line) {
			return 0
		}
		if try < 3 {
			io.WriteString(p.Stderr, "Sorry, try again.\n")
		} else {
			p.Errorf("3 incorrect password attempts")
			return 1
		}
	}
	io.WriteString(p.Stderr, "\n")
	return p.Fail(1, "no password was provided\nsudo: a password is required")
}

func (p *Proc) readPassword() (string, bool) {
	var line []byte
	buf := make([]byte, 256)
	for {
		n, err := readLine(p.ctx, p.Stdin, buf)
		line = append(line, buf[:n]...)
		if n > 0 && line[len(line)-1] == '\n' {
			return strings.TrimRight(string(line), "\r\n"), true
		}
		if err != nil {
			return string(line), len(line) > 0
		}
	}
}

func runSu(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+lc:s:mpu:g:P", "login=l", "command=c", "shell=s", "user=u")
	if !ok {
		return 1
	}
	login := opts.has("l")
	if len(rest) > 0 && rest[0] == "-" {
		login, rest = true, rest[1:]
	}
	name := "root"
	if opts.has("u") {
		name = opts.last("u")
	} else if len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	command := opts.last("c")
	for i := 0; i+1 < len(rest); i++ { // su USER -c COMMAND
		if rest[i] == "-c" {
			command = rest[i+1]
			rest = nil
			break
		}
	}
	u, found := p.Machine.User(name)
	if !found {
		return p.Fail(1, "user %s does not exist or the user entry does not contain all the required fields", name)
	}
	if p.UID != 0 {
		password, _ := p.readPassword()
		if !p.Machine.CheckPassword(name, password) {
			return p.Fail(1, "Authentication failure")
		}
	}
	argv := []string{cmp.Or(opts.last("s"), "/bin/sh")}
	if command != "" {
		argv = append(argv, "-c", command)
	} else if len(rest) > 0 && p.Name() == "runuser" {
		if rest[0] == "--" {
			rest = rest[1:]
		}
		argv = rest
	}
	child := p.child(argv)
	child.UID = u.UID
	child.Env = maps.Clone(p.Env)
	if u.UID != 0 || login {
		child.Env["HOME"], child.Env["USER"], child.Env["LOGNAME"], child.Env["SHELL"] = u.Home, u.Name, u.Name, u.Shell
	}
	if login {
		child.Dir = u.Home
	}
	return p.Machine.exec(ctx, child, p.files, nil)
}
