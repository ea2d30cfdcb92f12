package machine

import "strings"

// SSHDConfig is /etc/ssh/sshd_config with its Include, by keyword in lower case. The first value of a keyword counts;
// what follows a Match is left out.
func (m *Machine) SSHDConfig() map[string]string {
	c := map[string]string{}
	m.readSSHDConfig(c, "/etc/ssh/sshd_config")
	return c
}

func (m *Machine) readSSHDConfig(c map[string]string, path string) {
	content, err := m.FS.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) < 2 || strings.HasPrefix(f[0], "#") {
			continue
		}
		key := strings.ToLower(f[0])
		if key == "match" {
			return // conditions are not simulated
		}
		if key == "include" {
			dir, pattern, _ := strings.Cut(f[1], "/*")
			list, _ := m.FS.ReadDir(dir) // there may be none
			for _, entry := range list {
				if strings.HasSuffix(entry.Name, pattern) {
					m.readSSHDConfig(c, dir+"/"+entry.Name)
				}
			}
			continue
		}
		if _, set := c[key]; !set {
			c[key] = strings.Join(f[1:], " ")
		}
	}
}

// admitsByKey reports whether sshd lets a user in by a key at all.
func (m *Machine) admitsByKey(u User) bool {
	c := m.SSHDConfig()
	if strings.EqualFold(c["pubkeyauthentication"], "no") {
		return false
	}
	switch strings.ToLower(c["permitrootlogin"]) {
	case "no", "forced-commands-only":
		return u.UID != 0
	}
	return true
}
