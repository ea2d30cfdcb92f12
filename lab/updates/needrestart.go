package updates

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// needrestart is the package of that name, which no node has from its installation.
func needrestart() machine.Package {
	return machine.Package{Name: "needrestart", Version: "3.11-1", Section: "admin", Origin: "Debian", Programs: map[string]machine.Program{"/usr/sbin/needrestart": checkRestart}}
}

// checkRestart is needrestart -b: which kernel is the newest, whatever is pinned, and which services use replaced libraries.
func checkRestart(_ context.Context, p *machine.Proc) int {
	m := p.Machine
	if !slices.Contains(p.Args(), "-b") {
		return 0
	}
	newest := m.Kernel()
	list, _ := m.FS.ReadDir("/boot") // it is always there
	for _, entry := range list {
		if k, ok := strings.CutPrefix(entry.Name, "vmlinuz-"); ok && machine.CompareVersions(k, newest) > 0 {
			newest = k
		}
	}
	state := 1
	if newest != m.Kernel() {
		state = 3
	}
	p.Printf("NEEDRESTART-VER: 3.11\nNEEDRESTART-KCUR: %s\nNEEDRESTART-KEXP: %s\nNEEDRESTART-KSTA: %d\n", m.Kernel(), newest, state)
	for _, u := range m.Units() {
		if u.MainPID == 0 {
			continue
		}
		if text, err := m.FS.ReadFile("/proc/" + strconv.Itoa(u.MainPID) + "/maps"); err == nil && strings.Contains(string(text), "(deleted)") {
			p.Printf("NEEDRESTART-SVC: %s\n", u.Name)
		}
	}
	return 0
}
