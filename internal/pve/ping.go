package pve

import (
	"strconv"
	"strings"
	"time"
)

// Ping is the summary of a ping.
type Ping struct {
	Sent, Received int
	// Average and Max are round trip times; Timed says whether they are known: no answer has none.
	Average, Max time.Duration
	Timed        bool
}

// Lost is the share of packets without an answer, in percent.
func (p Ping) Lost() float64 {
	if p.Sent == 0 {
		return 100
	}
	return 100 * float64(p.Sent-p.Received) / float64(p.Sent)
}

// ParsePing reads the last lines of ping, joined or not: "5 packets transmitted, 4 received" and
// "rtt min/avg/max/mdev = 0.034/0.045/0.061/0.010 ms". ok is false when nothing was sent.
func ParsePing(answer string) (p Ping, ok bool) {
	fields := strings.Fields(answer)
	for i := range fields {
		if i+4 < len(fields) && fields[i+1] == "packets" && fields[i+2] == "transmitted," && strings.HasPrefix(fields[i+4], "received") {
			sent, errSent := strconv.Atoi(fields[i])
			received, errReceived := strconv.Atoi(fields[i+3])
			p.Sent, p.Received, ok = sent, received, errSent == nil && errReceived == nil
			break
		}
	}
	_, rest, found := strings.Cut(answer, "min/avg/max")
	_, rest, equals := strings.Cut(rest, " = ")
	parts := strings.Split(rest, "/")
	if !found || !equals || len(parts) < 3 {
		return p, ok
	}
	average, isAverage := milliseconds(parts[1])
	longest, isMax := milliseconds(parts[2])
	if isAverage && isMax {
		p.Average, p.Max, p.Timed = average, longest, true
	}
	return p, ok
}

func milliseconds(text string) (time.Duration, bool) {
	ms, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || ms < 0 || ms > 1e6 {
		return 0, false
	}
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Microsecond), true
}
