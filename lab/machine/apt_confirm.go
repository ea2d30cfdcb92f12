package machine

import (
	"slices"
	"strings"
)

// setting takes one of apt's options, of -o or of a configuration file.
func (a *apt) setting(key, value string) {
	on := slices.Contains([]string{"1", "true", "yes", "on", "with", "enable"}, strings.ToLower(value))
	switch strings.ToLower(key) {
	case "dpkg::lock::timeout":
		a.lockWait, _ = duration(value)
		if value == "-1" {
			a.lockWait = 1 << 62
		}
	case "debug::nolocking":
		a.noLock = on
	case "apt::get::assume-yes":
		a.yes = on
	case "dpkg::options::":
		a.dpkg = append(a.dpkg, value)
	}
}

// configure reads the file that APT_CONFIG names: `Key "value";` one after the other.
func (a *apt) configure() {
	name := a.p.Env["APT_CONFIG"]
	if name == "" {
		return
	}
	text, err := a.p.view.ReadFile(name)
	if err != nil {
		return
	}
	for entry := range strings.SplitSeq(string(text), ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(entry), " ")
		a.setting(key, strings.Trim(strings.TrimSpace(value), `"`))
	}
}

// confirmed asks before a change, unless it was told not to: to install exactly what was named needs no question.
func (a *apt) confirmed(c *change, verb string) bool {
	named := 0
	for _, x := range c.install {
		if slices.Contains(c.manual, x.to.Name) {
			named++
		}
	}
	if a.yes || verb == "install" && len(c.remove) == 0 && named == len(c.install) {
		return true
	}
	a.p.Printf("Do you want to continue? [Y/n] ")
	var answer []byte
	one := make([]byte, 1)
	for {
		n, err := a.p.Stdin.Read(one)
		if n == 1 && one[0] != '\n' {
			answer = append(answer, one[0])
		}
		if err != nil && len(answer) == 0 {
			break
		}
		if err != nil || n == 1 && one[0] == '\n' {
			if len(answer) == 0 || answer[0] == 'y' || answer[0] == 'Y' {
				return true
			}
			break
		}
	}
	a.p.Println("Abort.")
	return false
}
