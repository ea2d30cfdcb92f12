package runbooks

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

var dnsLabel = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// checkAddress says what is wrong with an address to connect to, or "".
func checkAddress(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return fmt.Sprintf("%s is the address of no single host.", text)
		}
		return ""
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return fmt.Sprintf("%q is a network. Write the address without the part from the slash on.", text)
	}
	if _, err := netip.ParseAddrPort(text); err == nil {
		return fmt.Sprintf("%q holds a port. Write the address alone, and ssh { port = … } beside it.", text)
	}
	if text == "" {
		return "The address is empty."
	}
	name := strings.TrimSuffix(text, ".")
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !dnsLabel.MatchString(label) {
			return fmt.Sprintf("%q is neither an IP address nor a DNS name.", text)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Sprintf("%q is no valid IP address, and no DNS name ends in a number.", text)
	}
	if len(name) > 253 {
		return fmt.Sprintf("A DNS name has up to 253 characters; this one has %d.", len(name))
	}
	return ""
}

// checkLink says what is wrong with the address of a corosync link, or "".
func checkLink(text string) (netip.Addr, string) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		if why := checkAddress(text); why != "" {
			return netip.Addr{}, why
		}
		return netip.Addr{}, fmt.Sprintf("%q is a name. Corosync links need IP addresses: a name that does not resolve during a failure would take the cluster down with it.", text)
	case a.IsUnspecified(), a.IsMulticast():
		return netip.Addr{}, fmt.Sprintf("%s is the address of no single host.", text)
	case a.IsLoopback():
		return netip.Addr{}, fmt.Sprintf("%s is a loopback address, which other nodes cannot reach.", text)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Sprintf("%s holds a zone. Corosync needs an address that is valid on its own.", text)
	}
	return a, ""
}
