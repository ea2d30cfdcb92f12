package cluster

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

func checkNodeName(value string) string {
	if !nodeName.MatchString(value) {
		return "value does not look like a valid node name"
	}
	return ""
}

func checkClusterName(value string) string {
	if problem := checkNodeName(value); problem != "" {
		return problem
	}
	if len(value) > 15 {
		return "value may only be 15 characters long"
	}
	return ""
}

var fingerprint = regexp.MustCompile(`^([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}$`)

func checkFingerprint(value string) string {
	if !fingerprint.MatchString(value) {
		return "value does not match the regex pattern"
	}
	return ""
}

// withLinks adds --link0 to --link7.
func withLinks(known map[string]pvetool.Option) map[string]pvetool.Option {
	for link := range maxLinks {
		known[fmt.Sprintf("link%d", link)] = pvetool.Option{Check: checkLink}
	}
	return known
}

// parseLink splits "10.0.0.1,priority=20" or "address=10.0.0.1".
func parseLink(value string) (addr string, priority int, err error) {
	for part := range strings.SplitSeq(value, ",") {
		key, v, named := strings.Cut(part, "=")
		switch {
		case !named:
			addr = part
		case key == "address":
			addr = v
		case key == "priority":
			if priority, err = strconv.Atoi(v); err != nil || priority < 0 || priority > 255 {
				return "", 0, fmt.Errorf("priority %s", v)
			}
		default:
			return "", 0, fmt.Errorf("property is not defined in schema and the schema does not allow additional properties")
		}
	}
	return addr, priority, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func checkLink(value string) string {
	addr, _, err := parseLink(value)
	switch {
	case err != nil:
		return "invalid format - format error\n" + err.Error()
	case addr == "":
		return "invalid format - format error\naddress: property is missing and it is not optional"
	case !isAddr(addr) && !hostName.MatchString(addr):
		return "invalid format - format error\naddress: value does not look like a valid address: " + addr
	}
	return ""
}

// linksOf returns the addresses and priorities that --linkN options name.
func linksOf(o pvetool.Options) (addrs map[int]string, priorities map[int]int) {
	addrs, priorities = map[int]string{}, map[int]int{}
	for link := range maxLinks {
		if value, ok := o.Values[fmt.Sprintf("link%d", link)]; ok {
			addr, priority, _ := parseLink(value)
			addrs[link] = addr
			if priority != 0 {
				priorities[link] = priority
			}
		}
	}
	return addrs, priorities
}
