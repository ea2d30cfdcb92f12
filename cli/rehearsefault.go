package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab"
)

// faultPart is the beginning of a part of --fault that is not part of the value before it: phases have colons, too.
var faultPart = regexp.MustCompile(`^(value|match|phase|nth|chance|after)=|^every$`)

// parseFaults reads the values of --fault.
func (a *app) parseFaults(texts []string) ([]lab.Fault, error) {
	var out []lab.Fault
	for _, text := range texts {
		f, err := parseFault(text)
		if err != nil {
			return nil, invalid("--fault %s: %w\nWrite KIND:HOST[:VALUE][:after=5m][:match=PROGRAM][:phase=POINT][:nth=2][:every]; see docs/rehearse.md", text, err)
		}
		if err := a.checkFault(f); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// parseFault reads KIND:HOST[:VALUE][:WHEN…].
func parseFault(text string) (lab.Fault, error) {
	words := strings.Split(text, ":")
	f := lab.Fault{Kind: words[0]}
	if f.Kind == "" {
		return f, fmt.Errorf("the kind is missing")
	}
	var parts []string
	for i, word := range words[1:] {
		switch {
		case faultPart.MatchString(word) || len(parts) == 0 && i > 0:
			parts = append(parts, word)
		case i == 0:
			f.Target = word
		default:
			parts[len(parts)-1] += ":" + word
		}
	}
	for i, part := range parts {
		key, value, _ := strings.Cut(part, "=")
		if !faultPart.MatchString(part) {
			if i > 0 || f.Value != "" {
				return f, fmt.Errorf("%q is not understood", part)
			}
			key, value = "value", part
		}
		if err := setFault(&f, key, value); err != nil {
			return f, err
		}
	}
	return f, nil
}

func setFault(f *lab.Fault, key, value string) (err error) {
	switch key {
	case "value":
		f.Value = value
	case "match":
		f.Match = value
	case "phase":
		f.Phase = value
	case "every":
		f.Every = true
	case "nth":
		f.Nth, err = strconv.Atoi(value)
	case "chance":
		f.Chance, err = strconv.ParseFloat(value, 64)
	case "after":
		f.After, err = time.ParseDuration(value)
	}
	if err != nil {
		return fmt.Errorf("%s=%s is not understood", key, value)
	}
	return nil
}
