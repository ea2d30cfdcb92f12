package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
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

func (c *sshClient) knownFiles() (own, all []string) {
	own = strings.Fields(c.option("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
	for i := range own {
		own[i] = c.expand(own[i])
	}
	global := strings.Fields(c.option("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"))
	return own, append(slices.Clone(own), global...)
}

// checkHost compares the server's keys with what is known.
func (c *sshClient) checkHost(m *Machine) int {
	host := c.option("hostname", c.host)
	name := c.option("hostkeyalias", knownName(host, c.port))
	_, files := c.knownFiles()
	names := []string{name}
	if _, at := c.addresses(); c.options["hostkeyalias"] == "" && c.option("checkhostip", "no") == "yes" {
		names = append(names, knownName(at.String(), c.port))
	}
	offered := m.hostKeyLines(false)
	mismatch, at := "", knownLine{}
	var knownTypes []string
	for _, file := range files {
		content, err := c.p.view.ReadFile(file)
		if err != nil {
			continue
		}
		for _, l := range parseKnownHosts(content) {
			if l.names == "" || !slices.ContainsFunc(names, l.covers) {
				continue
			}
			f := strings.Fields(l.rest)
			key := f[0] + " " + f[1]
			if f[0] == ssh.KeyAlgoRSA {
				offered = m.hostKeyLines(true)
			}
			switch {
			case l.revoked && slices.Contains(offered, key):
				return c.complain("@@@ REVOKED HOST KEY DETECTED! @@@\r\nHost key verification failed.")
			case l.revoked:
			case slices.Contains(offered, key):
				return 0
			default:
				knownTypes = append(knownTypes, f[0])
				mismatch, at = file, l
			}
		}
	}
	if mismatch != "" {
		return c.changedKey(name, mismatch, at, offered)
	}
	return c.unknownHost(name, offered)
}

func (c *sshClient) changedKey(name, file string, l knownLine, offered []string) int {
	fingerprint := ""
	kind := "ED25519"
	for _, key := range offered {
		if strings.Fields(key)[0] == strings.Fields(l.rest)[0] || fingerprint == "" {
			kind, fingerprint = keyFingerprint(key)
		}
	}
	c.complain("@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"+
		"IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\nSomeone could be eavesdropping on you right now (man-in-the-middle attack)!\r\nIt is also possible that a host key has just been changed.\r\n"+
		"The fingerprint for the %s key sent by the remote host is\n%s.\r\nPlease contact your system administrator.\r\nAdd correct host key in %s to get rid of this message.\r\nOffending %s key in %s:%d\r\n  remove with:\r\n  ssh-keygen -f '%s' -R '%s'",
		kind, fingerprint, file, strings.ToUpper(strings.TrimPrefix(strings.Fields(l.rest)[0], "ssh-")), file, l.number, file, name)
	if strict := c.option("stricthostkeychecking", "ask"); strict == "no" || strict == "off" {
		return 0
	}
	c.complain("Host key for %s has changed and you have requested strict checking.", c.host)
	return c.complain("Host key verification failed.")
}

// keyFingerprint returns the type and SHA256 fingerprint of a public key line.
func keyFingerprint(line string) (kind, fingerprint string) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", ""
	}
	return keyTypeName(key.Type()), ssh.FingerprintSHA256(key)
}

func keyTypeName(algorithm string) string {
	switch {
	case algorithm == ssh.KeyAlgoRSA:
		return "RSA"
	case strings.HasPrefix(algorithm, "ecdsa-"):
		return "ECDSA"
	default:
		return "ED25519"
	}
}

func (c *sshClient) unknownHost(name string, offered []string) int {
	strict := c.option("stricthostkeychecking", "ask")
	accept := strict == "no" || strict == "off" || strict == "accept-new"
	if !accept && strict == "ask" && c.p.TTY && c.option("batchmode", "no") != "yes" && len(offered) > 0 {
		kind, fingerprint := keyFingerprint(offered[0])
		fmt.Fprintf(c.p.Stderr, "The authenticity of host '%s' can't be established.\r\n%s key fingerprint is %s.\r\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ", name, kind, fingerprint)
		answer, _ := c.p.readPassword()
		accept = answer == "yes"
	}
	if !accept || len(offered) == 0 {
		if strict == "yes" && len(offered) > 0 {
			kind, _ := keyFingerprint(offered[0])
			c.complain("No %s host key is known for %s and you have requested strict checking.", kind, name)
		}
		return c.complain("Host key verification failed.")
	}
	own, _ := c.knownFiles()
	if len(own) == 0 || own[0] == "/dev/null" {
		return 0
	}
	kind, _ := keyFingerprint(offered[0])
	entry := name
	if c.option("hashknownhosts", "yes") == "yes" {
		entry = hashKnownHost(name)
	}
	_ = c.p.view.MkdirAll(parentOf(own[0]), 0o700) // the next step tells
	if err := c.p.appendLine(own[0], entry+" "+offered[0], 0o600); err != nil {
		c.complain("Failed to add the host to the list of known hosts (%s).", own[0])
		return 0
	}
	c.complain("Warning: Permanently added '%s' (%s) to the list of known hosts.", name, kind)
	return 0
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
		if id, ok := readIdentity(c.p.view, path); ok && m.accepts(u, id.public) {
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

func runSSHCopyID(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("i:fno:p:sx")
	if !ok || len(rest) == 0 {
		io.WriteString(p.Stderr, "Usage: /usr/bin/ssh-copy-id [-h|-?|-f|-n|-s|-x] [-i [identity_file]] [-t target_path] [-F ssh_config] [[-o ssh_option] ...] [-p port] [user@]hostname\n")
		return 1
	}
	path := opts.last("i")
	if path == "" {
		path = "~/.ssh/id_rsa"
	}
	c := p.newSSHClient()
	path = c.expand(path)
	if !strings.HasSuffix(path, ".pub") {
		path += ".pub"
	}
	public, err := p.view.ReadFile(path)
	if err != nil {
		fmt.Fprintf(p.Stderr, "\n/usr/bin/ssh-copy-id: ERROR: failed to open ID file '%s': %s\n", path, Reason(err))
		return 1
	}
	fmt.Fprintf(p.Stderr, "/usr/bin/ssh-copy-id: INFO: Source of key(s) to be installed: \"%s\"\n", path)
	for _, o := range opts.all("o") {
		c.set(o)
	}
	c.target(rest[0])
	c.quiet = true
	fmt.Fprintf(p.Stderr, "/usr/bin/ssh-copy-id: INFO: attempting to log in with the new key(s), to filter out any that are already installed\n")
	if code := c.preflight(ctx, p); code != 0 {
		return 1
	}
	m, _, _, _ := p.Machine.reach(c.host)
	u, found := m.User(c.user)
	key, _, _, _, err := ssh.ParseAuthorizedKey(public)
	if err == nil && found && m.accepts(u, key) && !opts.has("f") {
		fmt.Fprintf(p.Stderr, "\n/usr/bin/ssh-copy-id: WARNING: All keys were skipped because they already exist on the remote system.\n\t\t(if you think this is a mistake, you may want to use -f option)\n\n")
		return 0
	}
	fmt.Fprintf(p.Stderr, "/usr/bin/ssh-copy-id: INFO: 1 key(s) remain to be installed -- if you are prompted now it is to install the new keys\n")
	c.quiet = false
	if !found || !c.authenticate(m, u) {
		c.complain("%s@%s: Permission denied (publickey,password).", c.user, c.host)
		return 1
	}
	sctx, _ := m.NewSession(ctx)
	proc := m.LoginProc(Login{User: u, Command: "cd ; umask 077 ; mkdir -p .ssh && cat >> .ssh/authorized_keys", Tag: p.Tag})
	proc.Stdin, proc.Stdout, proc.Stderr, proc.Tag = strings.NewReader(string(public)), p.Stdout, p.Stderr, p.Tag
	if m.Exec(sctx, proc) != 0 {
		return 1
	}
	fmt.Fprintf(p.Stderr, "\nNumber of key(s) added: 1\n\nNow try logging into the machine, with: \"ssh '%s'\"\nand check to make sure that only the key(s) you wanted were added.\n\n", rest[0])
	return 0
}

// preflight is the part of a login up to the host key, with ssh-copy-id's wording of its errors.
func (c *sshClient) preflight(ctx context.Context, p *Proc) int {
	shown := &strings.Builder{}
	probe := *p
	probe.Stderr = shown
	c.p = &probe
	c.quiet = false
	defer func() { c.p = p }()
	m, _, code := c.login(ctx)
	if m == nil && code != 0 && !strings.Contains(shown.String(), "Permission denied") {
		for line := range strings.SplitSeq(strings.TrimSpace(shown.String()), "\n") {
			fmt.Fprintf(p.Stderr, "\n/usr/bin/ssh-copy-id: ERROR: %s\n", strings.TrimSpace(line))
		}
		io.WriteString(p.Stderr, "\n")
		return 1
	}
	return 0
}

func runSSHAdd(_ context.Context, p *Proc) int {
	io.WriteString(p.Stderr, "Could not open a connection to your authentication agent.\n")
	return 2
}

// runSshd is sshd -t and -T.
func runSshd(_ context.Context, p *Proc) int {
	if slices.Contains(p.Args(), "-T") {
		p.Println("port 22\npermitrootlogin yes\npubkeyauthentication yes\npasswordauthentication yes\nkbdinteractiveauthentication no\nmaxsessions 10\nmaxauthtries 6")
	}
	return 0
}

func runSSHKeyscan(ctx context.Context, p *Proc) int {
	opts, hosts, ok := p.getopt("46cDHqvf:O:p:T:t:")
	if !ok {
		return 1
	}
	status := 1
	for _, host := range hosts {
		m, _, _, path := p.Machine.reach(host)
		if m == nil || !path.Reachable || !m.Accepting() {
			if len(p.Machine.Resolve(host)) == 0 {
				fmt.Fprintf(p.Stderr, "getaddrinfo %s: Name or service not known\n", host)
			} else if m != nil && path.Reachable && m.Up() {
				fmt.Fprintf(p.Stderr, "%s: Connection refused\n", host)
			}
			continue
		}
		if p.Machine.Sleep(ctx, 3*path.RTT) != nil {
			return 1
		}
		types := splitList(opts.last("t"))
		withRSA := len(types) == 0 || slices.Contains(types, "rsa")
		for _, line := range m.hostKeyLines(withRSA) {
			short := strings.ToLower(keyTypeName(strings.Fields(line)[0]))
			if len(types) > 0 && !slices.Contains(types, short) && !slices.Contains(types, strings.Fields(line)[0]) {
				continue
			}
			fmt.Fprintf(p.Stderr, "# %s:22 SSH-2.0-OpenSSH_10.0p2 Debian-7\n", host)
			name := host
			if opts.has("H") {
				name = hashKnownHost(host)
			}
			p.Println(name + " " + line)
			status = 0
		}
	}
	return status
}
