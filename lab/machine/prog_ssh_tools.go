package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

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
	if err == nil && found && m.admitsByKey(u) && m.accepts(u, key) && !opts.has("f") {
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
		c := p.Machine.SSHDConfig()
		root := map[string]string{"": "without-password", "prohibit-password": "without-password"}
		p.Printf("port 22\npermitrootlogin %s\npubkeyauthentication %s\npasswordauthentication %s\nkbdinteractiveauthentication no\nmaxsessions 10\nmaxauthtries 6\n",
			cmp.Or(root[c["permitrootlogin"]], c["permitrootlogin"]), cmp.Or(c["pubkeyauthentication"], "yes"), cmp.Or(c["passwordauthentication"], "yes"))
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
