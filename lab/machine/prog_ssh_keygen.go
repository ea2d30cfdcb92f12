package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/crypto/ssh"
)

// runSSHKeygen makes keys and looks after known_hosts.
func runSSHKeygen(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("qt:b:N:f:C:lF:R:yP:E:Avo:m:a:HcpeiD:s:I:n:V:h")
	if !ok {
		return 1
	}
	c := p.newSSHClient()
	file := c.expand(opts.last("f"))
	switch {
	case opts.has("R"):
		return p.keygenRemove(cmp.Or(file, c.home()+"/.ssh/known_hosts"), opts.last("R"))
	case opts.has("F"):
		return p.keygenFind(cmp.Or(file, c.home()+"/.ssh/known_hosts"), opts.last("F"), opts.has("l"))
	case opts.has("l"):
		return p.keygenList(cmp.Or(file, strings.Join(rest, "")))
	case opts.has("y"):
		id, ok := readIdentity(p.view, cmp.Or(file, c.home()+"/.ssh/id_rsa"))
		if !ok {
			io.WriteString(p.Stderr, "Load key \""+file+"\": No such file or directory\n")
			return sshExit
		}
		p.Println(publicLine(id.public, ""))
		return 0
	case opts.has("A"):
		return p.keygenHostKeys()
	case opts.has("H"):
		return p.keygenHash(cmp.Or(file, c.home()+"/.ssh/known_hosts"))
	}
	return p.keygenNew(c, opts, file)
}

func (p *Proc) keygenNew(c *sshClient, opts flags, file string) int {
	kind := cmp.Or(opts.last("t"), "ed25519")
	switch kind {
	case "rsa", "ed25519", "ecdsa":
	default:
		fmt.Fprintf(p.Stderr, "unknown key type %s\n", kind)
		return sshExit
	}
	file = cmp.Or(file, c.home()+"/.ssh/id_"+kind)
	if !opts.has("q") {
		p.Printf("Generating public/private %s key pair.\n", kind)
	}
	if _, err := p.view.Lstat(file); err == nil {
		p.Printf("%s already exists.\nOverwrite (y/n)? ", file)
		answer, _ := p.readPassword()
		if !strings.HasPrefix(answer, "y") && !strings.HasPrefix(answer, "Y") {
			return 1
		}
	}
	if opts.last("N") != "" {
		fmt.Fprintln(p.Stderr, "keys with a passphrase are not simulated")
		return 1
	}
	comment := p.Machine.userName(p.UID) + "@" + p.Machine.Name()
	if opts.has("C") {
		comment = opts.last("C")
	}
	pair, err := newKeyPair(kind, comment, nil)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return sshExit
	}
	_ = p.view.Mkdir(parentOf(file), 0o700) // usually there; the next step tells
	if err := p.writeKeyPair(file, pair); err != nil {
		fmt.Fprintf(p.Stderr, "Saving key \"%s\" failed: %s\n", file, Reason(err))
		return 1
	}
	if !opts.has("q") {
		_, fingerprint := keyFingerprint(pair.public)
		p.Printf("Your identification has been saved in %s\nYour public key has been saved in %s.pub\nThe key fingerprint is:\n%s %s\n", file, file, fingerprint, comment)
	}
	return 0
}

func (p *Proc) writeKeyPair(file string, pair keyPair) error {
	_ = p.view.Remove(file) // a new key gets new permissions
	if err := p.view.WriteFile(file, pair.private, 0o600); err != nil {
		return err
	}
	return p.view.WriteFile(file+".pub", []byte(pair.public+"\n"), 0o644)
}

func (p *Proc) keygenHostKeys() int {
	for _, kind := range hostKeyKinds {
		path := "/etc/ssh/ssh_host_" + kind.file + "_key"
		if _, err := p.view.Stat(path); err == nil {
			continue
		}
		pair, err := newKeyPair(kind.file, "root@"+p.Machine.Name(), nil)
		if err == nil {
			err = p.writeKeyPair(path, pair)
		}
		if err != nil {
			return p.Fail(1, "%v", err)
		}
	}
	return 0
}

func (p *Proc) keygenRemove(file, host string) int {
	content, err := p.view.ReadFile(file)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Cannot stat %s: %s\n", file, Reason(err))
		return sshExit
	}
	var kept []string
	found := false
	for _, l := range parseKnownHosts(content) {
		if l.names != "" && l.covers(host) {
			p.Printf("# Host %s found: line %d\n", host, l.number)
			found = true
			continue
		}
		kept = append(kept, l.text)
	}
	if !found {
		fmt.Fprintf(p.Stderr, "Host %s not found in %s\n", host, file)
		return 0
	}
	text := strings.Join(kept, "\n")
	if text != "" {
		text += "\n"
	}
	_ = p.view.WriteFile(file+".old", content, 0o600) // a copy that nobody needs
	if err := p.view.WriteFile(file, []byte(text), 0o600); err != nil {
		return p.Fail(1, "%s: %s", file, Reason(err))
	}
	p.Printf("%s updated.\nOriginal contents retained as %s.old\n", file, file)
	return 0
}

func (p *Proc) keygenFind(file, host string, fingerprints bool) int {
	content, err := p.view.ReadFile(file)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Cannot stat %s: %s\n", file, Reason(err))
		return sshExit
	}
	status := 1
	for _, l := range parseKnownHosts(content) {
		if l.names == "" || !l.covers(host) {
			continue
		}
		status = 0
		p.Printf("# Host %s found: line %d\n", host, l.number)
		if fingerprints {
			kind, fingerprint := keyFingerprint(l.rest)
			p.Printf("%s %s %s\n", host, kind, fingerprint)
			continue
		}
		p.Println(l.text)
	}
	return status
}

func (p *Proc) keygenList(file string) int {
	content, err := p.ReadInput(file)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		if public, perr := p.ReadInput(file + ".pub"); perr == nil {
			content, err = public, nil
		}
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "ssh-keygen: %s: %s\n", file, Reason(err))
		return sshExit
	}
	status := sshExit
	show := func(key ssh.PublicKey, comment string) {
		bits := map[string]int{"RSA": rsaBits}[keyTypeName(key.Type())]
		p.Printf("%d %s %s (%s)\n", cmp.Or(bits, 256), ssh.FingerprintSHA256(key), cmp.Or(comment, "no comment"), keyTypeName(key.Type()))
		status = 0
	}
	if signer, err := ssh.ParsePrivateKey(content); err == nil {
		show(signer.PublicKey(), "")
		return status
	}
	for _, line := range lines(content) {
		key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			_, line, _ = strings.Cut(line, " ") // a line of known_hosts
			key, comment, _, _, err = ssh.ParseAuthorizedKey([]byte(line))
		}
		if err == nil {
			show(key, comment)
		}
	}
	if status != 0 {
		fmt.Fprintf(p.Stderr, "%s is not a public key file.\n", file)
	}
	return status
}

func (p *Proc) keygenHash(file string) int {
	content, err := p.view.ReadFile(file)
	if err != nil {
		return p.Fail(sshExit, "%s: %s", file, Reason(err))
	}
	var out strings.Builder
	for _, l := range parseKnownHosts(content) {
		if l.names == "" || strings.HasPrefix(l.names, "|1|") || strings.ContainsAny(l.names, "*?!") {
			out.WriteString(l.text + "\n")
			continue
		}
		for name := range strings.SplitSeq(l.names, ",") {
			out.WriteString(hashKnownHost(name) + " " + l.rest + "\n")
		}
	}
	if err := p.view.WriteFile(file, []byte(out.String()), 0o600); err != nil {
		return p.Fail(1, "%s: %s", file, Reason(err))
	}
	return 0
}
