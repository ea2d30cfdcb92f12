package packages

import (
	"fmt"
	"slices"
	"strings"
)

// The modes of a decision about a restart.
const (
	RebootAuto   = "auto"   // when there is a reason
	RebootAlways = "always" // also without one
	RebootNever  = "never"  // whatever the reasons
)

// Reason is why a host should be restarted.
type Reason struct {
	// Code is kernel, microcode or libraries; flag for what others say, which alone decides nothing.
	Code string `json:"code"`
	Text string `json:"text"`
}

// Reasons are why the host should be restarted, the strongest first.
func (b Boot) Reasons() []Reason {
	var out []Reason
	add := func(code, format string, args ...any) { out = append(out, Reason{code, fmt.Sprintf(format, args...)}) }
	if next := b.Next(); next != "" && next != b.Running {
		add("kernel", "it runs kernel %s, and the next start takes %s%s", b.Running, next, b.because())
	}
	switch {
	case len(b.Since) > 0:
		add("microcode", "%s came after the last start: the processors still run the microcode of then", strings.Join(b.Since, ", "))
	case b.Needrestart != nil && b.Needrestart.Microcode == 2:
		add("microcode", "needrestart says that newer microcode waits for the next start")
	}
	for _, s := range b.Stale {
		add("libraries", "%s still uses libraries that were replaced: %s", s.Process, strings.Join(s.Libraries, ", "))
	}
	if b.Needrestart != nil {
		for _, service := range b.Needrestart.Services {
			name := strings.TrimSuffix(service, ".service")
			if (name == "corosync" || name == "pve-cluster") && !b.isStale(name) {
				add("libraries", "needrestart says that %s still uses libraries that were replaced", name)
			}
		}
	}
	return out
}

func (b Boot) isStale(service string) bool {
	if service == "pve-cluster" {
		service = "pmxcfs"
	}
	return slices.ContainsFunc(b.Stale, func(s Stale) bool { return s.Process == service })
}

func (b Boot) because() string {
	switch {
	case b.OneShotPin != "":
		return ", to which it is pinned once"
	case b.Pin != "":
		return ", to which it is pinned"
	}
	return ""
}

// Signals are what speaks for a restart and alone decides nothing.
func (b Boot) Signals() []Reason {
	var out []Reason
	if b.Flag {
		text := "/var/run/reboot-required is there"
		if len(b.FlaggedBy) > 0 {
			text += ", made for " + strings.Join(b.FlaggedBy, ", ")
		}
		out = append(out, Reason{"flag", text})
	}
	if b.Needrestart != nil {
		if b.Needrestart.Kernel > 1 && b.Next() == b.Running {
			out = append(out, Reason{"flag", "needrestart sees a newer kernel, and the next start takes " + b.Next() + b.because()})
		}
		var others []string
		for _, s := range b.Needrestart.Services {
			if name := strings.TrimSuffix(s, ".service"); name != "corosync" && name != "pve-cluster" {
				others = append(others, name)
			}
		}
		if len(others) > 0 {
			out = append(out, Reason{"flag", "needrestart says that services use replaced libraries and can be restarted alone: " + strings.Join(others, ", ")})
		}
	}
	if b.Pin != "" && len(b.Kernels) > 0 && b.Pin != b.Kernels[len(b.Kernels)-1] {
		out = append(out, Reason{"flag", fmt.Sprintf("kernel %s is installed, and the start is pinned to %s", b.Kernels[len(b.Kernels)-1], b.Pin)})
	}
	return out
}

// Doubt is why the next start cannot be relied on; "" if it can.
func (b Boot) Doubt() string {
	next := b.Next()
	switch {
	case next == "":
		return "no kernel is in /boot"
	case !slices.Contains(b.Kernels, next):
		return fmt.Sprintf("the next start is pinned to kernel %s, which is not in /boot", next)
	case !slices.Contains(b.Initramfs, next):
		return fmt.Sprintf("kernel %s, which the next start takes, has no initramfs in /boot", next)
	}
	return ""
}

// Reboot decides by a mode and the reasons.
func (b Boot) Reboot(mode string) (needed bool, reasons []Reason) {
	reasons = b.Reasons()
	switch mode {
	case RebootNever:
		return false, reasons
	case RebootAlways:
		if len(reasons) == 0 {
			reasons = []Reason{{"always", "a restart is asked for in any case"}}
		}
		return true, reasons
	}
	return len(reasons) > 0, reasons
}

// Texts are the sentences of reasons.
func Texts(reasons []Reason) []string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = r.Text
	}
	return out
}
