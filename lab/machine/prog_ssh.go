package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// sshPrograms are the clients of SSH and what handles their keys.
func sshPrograms() map[string]Program {
	return map[string]Program{
		"ssh": runSSH, "scp": runScp, "rsync": runRsync, "ssh-copy-id": runSSHCopyID, "ssh-keygen": runSSHKeygen, "ssh-keyscan": runSSHKeyscan, "ssh-add": runSSHAdd, "/usr/sbin/sshd": runSshd,
	}
}

// sshExit is the status of everything that is ssh's own failure.
const sshExit = 255

// sshClient is one connection attempt of the simulated ssh.
type sshClient struct {
	p          *Proc
	user, host string
	port       int
	identities []string
	options    map[string]string
	quiet      bool
	tty        bool
}

func (p *Proc) newSSHClient() *sshClient {
	c := &sshClient{p: p, port: 22, options: map[string]string{}}
	return c
}

// option returns an -o value by its name without regard to case.
func (c *sshClient) option(name, fallback string) string {
	if v, ok := c.options[strings.ToLower(name)]; ok {
		return v
	}
	return fallback
}

// set takes -o KEY=VALUE or "KEY VALUE"; the first value counts.
func (c *sshClient) set(text string) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		key, value, _ = strings.Cut(strings.TrimSpace(text), " ")
	}
	key = strings.ToLower(strings.TrimSpace(key))
	if _, set := c.options[key]; !set {
		c.options[key] = strings.TrimSpace(value)
	}
}

// target splits [user@]host and ssh://user@host:port.
func (c *sshClient) target(text string) {
	if rest, ok := strings.CutPrefix(text, "ssh://"); ok {
		text = rest
		if host, port, ok := strings.Cut(text, ":"); ok {
			text = host
			c.port, _ = strconv.Atoi(port)
		}
	}
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		c.user, text = text[:at], text[at+1:]
	}
	c.host = text
	if c.user == "" {
		c.user = c.option("user", c.p.Machine.userName(c.p.UID))
	}
	if port, err := strconv.Atoi(c.option("port", "")); err == nil {
		c.port = port
	}
}

func runSSH(ctx context.Context, p *Proc) int {
	c := p.newSSHClient()
	args := p.Args()
	host := ""
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" || len(arg) < 2 || arg[0] != '-' {
			if host != "" || arg == "--" && host == "" && len(args) < 2 {
				break
			}
			if arg == "--" {
				args = args[1:]
				arg = args[0]
			}
			host, args = arg, args[1:]
			continue
		}
		args = args[1:]
		var ok bool
		if args, ok = c.flag(arg, args); !ok {
			return sshExit
		}
	}
	if host == "" {
		io.WriteString(p.Stderr, "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] destination [command [argument ...]]\n")
		return sshExit
	}
	c.target(host)
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return c.run(ctx, strings.Join(args, " "))
}

// flag reads one word of letters.
func (c *sshClient) flag(word string, args []string) ([]string, bool) {
	const withValue = "bcDEeFIiJLlmOoPpQRSWw"
	for i := 1; i < len(word); i++ {
		letter := word[i]
		if letter == 'V' {
			io.WriteString(c.p.Stderr, "OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1 1 Jul 2025\n")
			return nil, false
		}
		if strings.IndexByte(withValue, letter) < 0 {
			switch letter {
			case 'q':
				c.quiet = true
			case 't':
				c.tty = true
			case 'n':
				c.p.Stdin = eofReader{}
			}
			continue
		}
		value := word[i+1:]
		if value == "" {
			if len(args) == 0 {
				fmt.Fprintf(c.p.Stderr, "option requires an argument -- %c\n", letter)
				return nil, false
			}
			value, args = args[0], args[1:]
		}
		switch letter {
		case 'o':
			c.set(value)
		case 'i':
			c.identities = append(c.identities, value)
		case 'l':
			c.user = value
			c.set("User=" + value)
		case 'p':
			c.set("Port=" + value)
		}
		return args, true
	}
	return args, true
}

// complain prints unless -q.
func (c *sshClient) complain(format string, args ...any) int {
	if !c.quiet {
		fmt.Fprintf(c.p.Stderr, format+"\r\n", args...)
	}
	return sshExit
}

// run connects, checks the host key, logs in and runs a command.
func (c *sshClient) run(ctx context.Context, command string) int {
	m, u, code := c.login(ctx)
	if code != 0 {
		return code
	}
	from, at := c.addresses()
	l := Login{User: u, Command: command, TTY: c.tty && c.p.TTY, Tag: c.p.Tag, Peer: netip.AddrPortFrom(from, 40000+uint16(c.p.pid%20000)), Local: netip.AddrPortFrom(at, 22)}
	proc := m.LoginProc(l)
	proc.Stdin, proc.Stdout, proc.Stderr = c.p.Stdin, c.p.Stdout, c.p.Stderr
	proc.Tag = c.p.Tag
	sctx, _ := m.NewSession(ctx)
	code = m.Exec(sctx, proc)
	if ctx.Err() == nil && !m.Up() {
		c.complain("Connection to %s closed by remote host.", c.host)
		return sshExit
	}
	return code
}

func (c *sshClient) addresses() (from, at netip.Addr) {
	_, from, at, _ = c.p.Machine.reach(c.option("hostname", c.host))
	return from, at
}

// login does all that precedes the command.
func (c *sshClient) login(ctx context.Context) (*Machine, User, int) {
	if c.user == "" {
		c.user = c.p.Machine.userName(c.p.UID)
	}
	host := c.option("hostname", c.host)
	if len(c.p.Machine.Resolve(host)) == 0 {
		return nil, User{}, c.complain("ssh: Could not resolve hostname %s: Name or service not known", host)
	}
	m, _, _, path := c.p.Machine.reach(host)
	if m == nil || !path.Reachable || !m.Up() && m != c.p.Machine {
		wait := 130 * time.Second
		if s, ok := duration(c.option("connecttimeout", "")); ok && s > 0 {
			wait = s
		}
		if c.p.Machine.Sleep(ctx, wait) != nil {
			return nil, User{}, sshExit
		}
		return nil, User{}, c.complain("ssh: connect to host %s port %d: Connection timed out", host, c.port)
	}
	if c.p.Machine.Sleep(ctx, 3*path.RTT) != nil {
		return nil, User{}, sshExit
	}
	if c.port != 22 || !m.Accepting() {
		return nil, User{}, c.complain("ssh: connect to host %s port %d: Connection refused", host, c.port)
	}
	if code := c.checkHost(m); code != 0 {
		return nil, User{}, code
	}
	u, ok := m.User(c.user)
	if !ok || !c.authenticate(m, u) {
		return nil, User{}, c.complain("%s@%s: Permission denied (publickey,password).", c.user, host)
	}
	return m, u, 0
}

// home is the home folder of the user who runs ssh.
func (c *sshClient) home() string {
	if u, ok := c.p.Machine.UserByID(c.p.UID); ok {
		return u.Home
	}
	return "/"
}

func (c *sshClient) expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return c.home() + "/" + rest
	}
	return path
}

// appendLine adds a line to a file, after the newline that its last line may lack.
func (p *Proc) appendLine(path, line string, mode fs.FileMode) error {
	content, err := p.view.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		line = "\n" + line
	}
	f, err := p.view.Open(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, line+"\n")
	return errors.Join(err, f.Close())
}

// authenticate tries the client's keys, then (on a terminal) a password.
func (c *sshClient) authenticate(m *Machine, u User) bool {
	paths := c.identities
	if id := c.option("identityfile", ""); id != "" {
		paths = append(paths, id)
	}
	if len(paths) == 0 || c.option("identitiesonly", "no") != "yes" && len(c.identities) == 0 {
		for _, name := range []string{"id_rsa", "id_ecdsa", "id_ed25519"} {
			paths = append(paths, "~/.ssh/"+name)
		}
	}
	for _, path := range paths {
		path = c.expand(path)
		if info, err := c.p.view.Stat(path); err == nil && info.Mode.Perm()&0o077 != 0 {
			c.complain("@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\r\n@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\nPermissions %04o for '%s' are too open.", info.Mode.Perm(), path)
			continue
		}
		if id, ok := readIdentity(c.p.view, path); ok && m.admitsByKey(u) && m.accepts(u, id.public) {
			m.Log(Entry{Unit: "ssh.service", Ident: "sshd-session", Priority: 6, Text: fmt.Sprintf("Accepted publickey for %s from %s port 40000 ssh2", u.Name, c.p.Machine.Name())})
			return true
		}
	}
	if !c.p.TTY || c.option("batchmode", "no") == "yes" || c.option("passwordauthentication", "yes") == "no" {
		return false
	}
	for range 3 {
		fmt.Fprintf(c.p.Stderr, "%s@%s's password: ", c.user, c.host)
		password, ok := c.p.readPassword()
		if !ok {
			return false
		}
		if m.CheckPassword(u.Name, password) {
			return true
		}
		c.complain("Permission denied, please try again.")
	}
	return false
}
