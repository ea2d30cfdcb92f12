package machine

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseDate reads the dates that scripts give to date -d and touch -d.
func parseDate(text string, now time.Time) (time.Time, bool) {
	if sec, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseFloat(sec, 64)
		whole := int64(n)
		return time.Unix(whole, int64((n-float64(whole))*1e9)), err == nil
	}
	switch text {
	case "now", "":
		return now, true
	case "today":
		return now, true
	case "yesterday":
		return now.AddDate(0, 0, -1), true
	case "tomorrow":
		return now.AddDate(0, 0, 1), true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02", "Jan _2 15:04:05 2006 MST", time.RFC1123, "2006-01-02 15:04:05 MST"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return relativeDate(text, now)
}

func relativeDate(text string, now time.Time) (time.Time, bool) {
	fields := strings.Fields(strings.Replace(text, "+", "", 1))
	ago := len(fields) == 3 && fields[2] == "ago"
	if len(fields) != 2 && !ago {
		return time.Time{}, false
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		return time.Time{}, false
	}
	if ago {
		n = -n
	}
	switch strings.TrimSuffix(fields[1], "s") {
	case "second", "sec":
		return now.Add(time.Duration(n) * time.Second), true
	case "minute", "min":
		return now.Add(time.Duration(n) * time.Minute), true
	case "hour":
		return now.Add(time.Duration(n) * time.Hour), true
	case "day":
		return now.AddDate(0, 0, n), true
	case "week":
		return now.AddDate(0, 0, 7*n), true
	case "month":
		return now.AddDate(0, n, 0), true
	case "year":
		return now.AddDate(n, 0, 0), true
	}
	return time.Time{}, false
}

func runDate(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("uRd:r:I::s:f:", "utc=u", "date=d", "rfc-email=R", "iso-8601=", "rfc-3339=", "reference=r", "universal=u")
	if !ok {
		return 1
	}
	t := p.Machine.Now().UTC()
	if d := opts.last("d"); opts.has("d") {
		parsed, valid := parseDate(d, t)
		if !valid {
			return p.Fail(1, "invalid date ‘%s’", d)
		}
		t = parsed.UTC()
	}
	if r := opts.last("r"); r != "" {
		info, err := p.view.Stat(r)
		if err != nil {
			return p.Fail(1, "%s: %s", r, Reason(err))
		}
		t = info.ModTime.UTC()
	}
	layout := "%a %b %e %H:%M:%S UTC %Y"
	switch {
	case len(rest) > 0 && strings.HasPrefix(rest[0], "+"):
		layout = rest[0][1:]
	case len(rest) > 0:
		return p.Fail(1, "invalid date ‘%s’", rest[0])
	case opts.has("R"):
		layout = "%a, %d %b %Y %H:%M:%S +0000"
	case opts.has("I", "iso-8601"):
		layout = map[string]string{"": "%Y-%m-%d", "date": "%Y-%m-%d", "seconds": "%Y-%m-%dT%H:%M:%S+00:00", "s": "%Y-%m-%dT%H:%M:%S+00:00", "ns": "%Y-%m-%dT%H:%M:%S,%N+00:00"}[cmp.Or(opts.last("I"), opts.last("iso-8601"))]
	case opts.has("rfc-3339"):
		layout = "%Y-%m-%d %H:%M:%S+00:00"
	}
	p.Println(strftime(layout, t))
	return 0
}

// strftime formats a time as date does.
func strftime(layout string, t time.Time) string {
	simple := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'I': "03", 'p': "PM",
		'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'Z': "MST", 'z': "-0700", 'j': "002", 'c': "Mon Jan _2 15:04:05 2006", 'r': "03:04:05 PM",
	}
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			b.WriteByte(layout[i])
			continue
		}
		i++
		pad := byte(0)
		if layout[i] == '-' && i+1 < len(layout) {
			pad = '-'
			i++
		}
		digits := 0
		for i+1 < len(layout) && isDigit(layout[i]) {
			digits = digits*10 + int(layout[i]-'0')
			i++
		}
		c := layout[i]
		text := ""
		switch c {
		case 's':
			text = strconv.FormatInt(t.Unix(), 10)
		case 'N':
			text = fmt.Sprintf("%09d", t.Nanosecond())
			if digits > 0 && digits < 9 {
				text = text[:digits]
			}
		case 'u':
			text = strconv.Itoa((int(t.Weekday())+6)%7 + 1)
		case 'w':
			text = strconv.Itoa(int(t.Weekday()))
		case 'V':
			_, week := t.ISOWeek()
			text = fmt.Sprintf("%02d", week)
		case 'n':
			text = "\n"
		case 't':
			text = "\t"
		case '%':
			text = "%"
		default:
			if l := simple[c]; l != "" {
				text = t.Format(l)
			} else {
				text = "%" + string(c)
			}
		}
		if pad == '-' {
			text = strings.TrimLeft(text, "0 ")
			if text == "" {
				text = "0"
			}
		}
		b.WriteString(text)
	}
	return b.String()
}
