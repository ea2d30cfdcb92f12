package machine

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

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
