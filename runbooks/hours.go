package runbooks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const hoursForm = `such as "22:00-05:00", "sat,sun 01:00-06:00" or "mon-fri 22:00-05:00 Europe/Berlin"`

// hoursOf reads the hours of a rolling block: [days] from-to [time zone].
func hoursOf(v cty.Value, at hcl.Range) (*engine.Hours, diag.List) {
	plain, _ := v.Unmark()
	if plain.Type() != cty.String {
		return nil, wrongType("window", "hours "+hoursForm, v, at)
	}
	text := plain.AsString()
	wrong := func(why string) diag.List {
		return diag.Error("Invalid window", fmt.Sprintf("%s in %q. window is hours %s; those that do not end later begin on one day and end on the next.", why, text, hoursForm), at)
	}
	words := strings.Fields(text)
	h := &engine.Hours{Location: time.Local}
	if len(words) > 1 && strings.Contains(words[1], ":") {
		days, ok := daysOf(words[0])
		if !ok {
			return nil, wrong(fmt.Sprintf("%q is no day of the week", words[0]))
		}
		h.Days, words = days, words[1:]
	}
	if len(words) == 0 || len(words) > 2 {
		return nil, wrong("No hours can be read")
	}
	from, to, ok := strings.Cut(words[0], "-")
	var good bool
	if h.From, good = clockOf(from); !ok || !good {
		return nil, wrong(fmt.Sprintf("%q is no time of day", from))
	}
	if h.To, good = clockOf(to); !good {
		return nil, wrong(fmt.Sprintf("%q is no time of day", to))
	}
	if len(words) == 2 {
		zone, err := time.LoadLocation(words[1])
		if err != nil {
			return nil, wrong(fmt.Sprintf("%q is no time zone", words[1]))
		}
		h.Location = zone
	}
	return h, nil
}

// clockOf reads 22:00; 24:00 is the end of the day.
func clockOf(text string) (time.Duration, bool) {
	if text == "24:00" {
		return 0, true
	}
	at, err := time.Parse("15:04", text)
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, err == nil
}

// daysOf reads sat,sun or mon-fri.
func daysOf(text string) ([]time.Weekday, bool) {
	var days []time.Weekday
	for _, part := range strings.Split(strings.ToLower(text), ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, last := slices.Index(weekdays, from), slices.Index(weekdays, to)
		if !isRange {
			last = first
		}
		if first < 0 || last < 0 {
			return nil, false
		}
		for day := first; ; day = (day + 1) % len(weekdays) {
			if !slices.Contains(days, time.Weekday(day)) {
				days = append(days, time.Weekday(day))
			}
			if day == last {
				break
			}
		}
	}
	return days, true
}
