package sshd

import (
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// config is the part of sshd_config that is honoured. The first value of a keyword counts.
type config map[string]string

// readConfig reads /etc/ssh/sshd_config with its Include.
func readConfig(m *machine.Machine) config { return m.SSHDConfig() }

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
