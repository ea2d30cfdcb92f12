package bmc

import (
	"hash/fnv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// lan prints the network settings of a controller's channel. It has one, number 1, which is taken when none is named.
func (c *Controller) lan(p *machine.Proc, channel []string) int {
	if len(channel) > 0 && channel[0] != "1" {
		return fail(p.Stderr, "Invalid channel: "+channel[0])
	}
	address := c.view().Address
	gateway := "0.0.0.0"
	if i := strings.LastIndexByte(address, '.'); i > 0 {
		gateway = address[:i] + ".1"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.machine.Name())) // never fails
	sum := h.Sum(nil)
	p.Printf("Set in Progress         : Set Complete\n")
	p.Printf("Auth Type Support       : MD5 \n")
	for i, level := range []string{"Callback", "User", "Operator", "Admin", "OEM"} {
		title := ""
		if i == 0 {
			title = "Auth Type Enable"
		}
		p.Printf("%-23s : %-8s : MD5 \n", title, level)
	}
	p.Printf("IP Address Source       : Static Address\n")
	p.Printf("IP Address              : %s\n", address)
	p.Printf("Subnet Mask             : 255.255.255.0\n")
	p.Printf("MAC Address             : 02:00:%02x:%02x:%02x:%02x\n", sum[0], sum[1], sum[2], sum[3])
	p.Printf("SNMP Community String   : public\n")
	p.Printf("BMC ARP Control         : ARP Responses Enabled, Gratuitous ARP Disabled\n")
	p.Printf("Default Gateway IP      : %s\n", gateway)
	p.Printf("802.1q VLAN ID          : Disabled\n")
	p.Printf("802.1q VLAN Priority    : 0\n")
	p.Printf("RMCP+ Cipher Suites     : 3,17\n")
	p.Printf("Cipher Suite Priv Max   : Not Available\n")
	p.Printf("Bad Password Threshold  : Not Available\n")
	return 0
}
