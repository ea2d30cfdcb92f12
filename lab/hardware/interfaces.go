package hardware

import (
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// interfacesFile says what networking brings up at the start of a machine.
const interfacesFile = "/etc/network/interfaces"

// InstallInterfaces writes down the interfaces that a node has, as the installer does. What is done to them later, a new name of a
// card for one, is not written there.
func InstallInterfaces(m *machine.Machine) error {
	var b strings.Builder
	b.WriteString("auto lo\niface lo inet loopback\n")
	for i, one := range m.Interfaces() {
		fmt.Fprintf(&b, "\niface nic%d inet manual\n\nauto %s\niface %s inet ", i, one.Name, one.Name)
		if len(one.Addrs) == 0 {
			b.WriteString("manual\n")
		} else {
			b.WriteString("static\n")
		}
		for _, a := range one.Addrs {
			fmt.Fprintf(&b, "\taddress %s\n", a)
		}
		fmt.Fprintf(&b, "\tbridge-ports nic%d\n\tbridge-stp off\n\tbridge-fd 0\n", i)
	}
	b.WriteString("\nsource /etc/network/interfaces.d/*\n")
	if err := m.FS.MkdirAll("/etc/network/interfaces.d", 0o755); err != nil {
		return err
	}
	return m.FS.WriteFile(interfacesFile, []byte(b.String()), 0o644)
}
