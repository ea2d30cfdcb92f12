package lab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

const (
	oldKernel = "6.17.2-1-pve"
	newKernel = "6.17.4-1-pve"
	install   = "touch /boot/vmlinuz-" + newKernel
	pinBoth   = "proxmox-boot-tool kernel pin " + oldKernel + " && proxmox-boot-tool kernel pin " + newKernel + " --next-boot"
)

// restart restarts pve1 in order, or by its power, and waits until it is up again. It gives the kernel that runs then.
func restart(t *testing.T, l *lab.Lab, byPower bool) string {
	t.Helper()
	m := l.Machine("pve1")
	boot := m.BootID()
	if byPower {
		m.PowerOff()
		m.PowerOn()
	} else {
		_, errs, code := sh(t, l, "pve1", "systemctl reboot")
		require.Zero(t, code, errs)
	}
	eventually(t, l, "pve1 is up again", func() bool {
		unit, _ := m.Unit("pve-guests")
		return m.Up() && m.BootID() != boot && unit.Active == "active"
	})
	out, _, _ := sh(t, l, "pve1", "uname -r")
	return out
}

func TestKernelAfterABoot(t *testing.T) {
	for name, test := range map[string]struct {
		prepare string
		fault   *lab.Fault
		esp     bool
		want    []string // after each restart
	}{
		"the newest":                           {prepare: install, want: []string{newKernel, newKernel}},
		"the newest, by number":                {prepare: "touch /boot/vmlinuz-6.17.10-1-pve; " + install, want: []string{"6.17.10-1-pve"}},
		"a pin":                                {prepare: install + "; proxmox-boot-tool kernel pin " + oldKernel, want: []string{oldKernel, oldKernel}},
		"a pin that was taken back":            {prepare: install + "; proxmox-boot-tool kernel pin " + oldKernel + "; proxmox-boot-tool kernel unpin", want: []string{newKernel}},
		"a pin for one start":                  {prepare: install + "; " + pinBoth, want: []string{newKernel, oldKernel}},
		"pins without refresh":                 {prepare: install + "; " + pinBoth, esp: true, want: []string{newKernel, oldKernel}},
		"an old pin without refresh":           {prepare: install + "; proxmox-boot-tool kernel pin " + oldKernel, esp: true, want: []string{newKernel}},
		"an old pin and a refresh":             {prepare: install + "; proxmox-boot-tool kernel pin " + oldKernel + "; proxmox-boot-tool refresh", esp: true, want: []string{oldKernel}},
		"a boot loader that was not updated":   {prepare: install, fault: &lab.Fault{Kind: "old-kernel", Target: "pve1"}, want: []string{oldKernel, oldKernel}},
		"another kernel hangs, this one comes": {prepare: "true", fault: &lab.Fault{Kind: "kernel-hang", Target: "pve1"}, want: []string{oldKernel}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := threeNodes()
			spec.Hosts[0].ESP = test.esp
			l := start(t, spec)
			_, errs, code := sh(t, l, "pve1", test.prepare)
			require.Zero(t, code, errs)
			if test.fault != nil {
				addFault(t, l, *test.fault)
			}
			for _, want := range test.want {
				require.Equal(t, want+"\n", restart(t, l, false))
			}
		})
	}
}

// What is pinned for one start is taken back by a unit and not by the boot loader: a kernel that does not get as far as that
// is started again and again.
func TestKernelThatHangs(t *testing.T) {
	for name, test := range map[string]struct {
		value string
		back  bool
	}{
		"at once":                         {"", false},
		"after the first units have run":  {":late", true},
		"by its name, and at once":        {newKernel, false},
		"by its name, and after the pins": {newKernel + ":late", true},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, threeNodes())
			sh(t, l, "pve1", install+"; "+pinBoth)
			addFault(t, l, lab.Fault{Kind: "kernel-hang", Target: "pve1", Value: test.value})
			m := l.Machine("pve1")
			sh(t, l, "pve1", "systemctl reboot")
			eventually(t, l, "pve1 is down", func() bool { return !m.Up() })
			require.NoError(t, l.Clock().Sleep(t.Context(), 5*time.Minute))
			require.False(t, m.Up())
			require.True(t, m.Powered())
			if test.back {
				require.Equal(t, oldKernel+"\n", restart(t, l, true))
				return
			}
			m.PowerOff()
			m.PowerOn()
			require.NoError(t, l.Clock().Sleep(t.Context(), 5*time.Minute))
			require.False(t, m.Up(), "the boot loader still takes the new one")
		})
	}
}

func TestFaultsWhileANodeComesUp(t *testing.T) {
	for name, test := range map[string]struct {
		fault lab.Fault
		look  string
	}{
		"a link":        {lab.Fault{Kind: "link-down", Value: "10.0.2.1"}, "ip -o addr | grep -q 10.0.1.1 && ! ping -c 1 -W 1 -I 10.0.2.1 10.0.2.2"},
		"its clock":     {lab.Fault{Kind: "skew", Value: "90s"}, "chronyc tracking >/dev/null"},
		"a unit":        {lab.Fault{Kind: "unit-fails", Value: "pvestatd"}, "systemctl is-failed pvestatd && systemctl list-units --failed --plain --no-legend | grep -q pvestatd && ! systemctl start pvestatd"},
		"a card":        {lab.Fault{Kind: "nic-renamed", Value: "vmbr2=enp5s0"}, "grep -q enp5s0: /proc/net/dev && ! grep -q vmbr2 /proc/net/dev"},
		"it takes long": {lab.Fault{Kind: "slow", Value: "90s"}, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, threeNodes())
			test.fault.Target, test.fault.Phase = "pve1", "boot:start"
			addFault(t, l, test.fault)
			before := l.Clock().Elapsed()
			restart(t, l, false)
			if test.fault.Kind == "slow" {
				require.Greater(t, l.Clock().Elapsed()-before, 2*time.Minute)
			}
			if test.fault.Kind == "skew" {
				require.Equal(t, 90*time.Second, l.Machine("pve1").Skew())
			}
			_, errs, code := sh(t, l, "pve1", test.look)
			require.Zero(t, code, errs)
		})
	}
}

func TestANodeThatNeverComesUp(t *testing.T) {
	l := start(t, threeNodes())
	id := addFault(t, l, lab.Fault{Kind: "hang", Target: "pve1", Phase: "boot:start", Every: true})
	m := l.Machine("pve1")
	sh(t, l, "pve1", "systemctl reboot")
	eventually(t, l, "pve1 is down", func() bool { return !m.Up() })
	require.NoError(t, l.Clock().Sleep(t.Context(), 10*time.Minute))
	require.False(t, m.Up())
	require.NoError(t, l.ClearFault(id))
	require.Equal(t, oldKernel+"\n", restart(t, l, true))
}
