package sshd

import (
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// config is the part of sshd_config that is honoured. The first value of a keyword counts.
type config map[string]string

// readConfig reads /etc/ssh/sshd_config with its Include.
func readConfig(m *machine.Machine) config {
	c := config{}
	c.read(m, "/etc/ssh/sshd_config")
	return c
}

func (c config) read(m *machine.Machine, path string) {
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
					c.read(m, dir+"/"+entry.Name)
				}
			}
			continue
		}
		if _, set := c[key]; !set {
			c[key] = strings.Join(f[1:], " ")
		}
	}
}

func (c config) get(key, fallback string) string {
	if v, ok := c[key]; ok {
		return v
	}
	return fallback
}

func (c config) yes(key string, fallback bool) bool {
	switch strings.ToLower(c[key]) {
	case "yes":
		return true
	case "no":
		return false
	}
	return fallback
}
