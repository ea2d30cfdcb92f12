package storage

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The scheduler counts in model time: a lab that runs twenty times faster than time also replicates twenty times as often.
// For that a schedule is reduced to how often it comes round. What nodes show as the time of the next run is the time of day.

var (
	everyMinutes = regexp.MustCompile(`^(?:\*:)?(?:\*|\d{1,2})/(\d{1,4})$`)
	everyHours   = regexp.MustCompile(`^(?:\*|\d{1,2})/(\d{1,2}):\d{1,2}$`)
	clockTime    = regexp.MustCompile(`^\d{1,2}(?:,\d{1,2})*:\d{1,2}(?::\d{1,2})?$|^\d{1,2}$`)
	weekdays     = regexp.MustCompile(`(?i)^(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*(?:(?:\.\.|-|,)|$))+$`)
)

// period is how often a calendar event comes round, roughly.
func period(text string) (time.Duration, error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) == 0 {
		return 0, fmt.Errorf("unable to parse calendar event '%s'", text)
	}
	switch words[0] {
	case "minutely":
		return time.Minute, nil
	case "hourly":
		return time.Hour, nil
	case "daily":
		return 24 * time.Hour, nil
	case "weekly":
		return 7 * 24 * time.Hour, nil
	case "monthly":
		return 30 * 24 * time.Hour, nil
	case "yearly", "annually":
		return 365 * 24 * time.Hour, nil
	}
	days := 24 * time.Hour
	if weekdays.MatchString(words[0]) {
		if !strings.ContainsAny(words[0], ".,-") {
			days = 7 * 24 * time.Hour
		}
		if words = words[1:]; len(words) == 0 {
			return days, nil
		}
	}
	last := words[len(words)-1]
	if match := everyMinutes.FindStringSubmatch(last); match != nil {
		n, _ := strconv.Atoi(match[1])
		return time.Duration(max(n, 1)) * time.Minute, nil
	}
	if match := everyHours.FindStringSubmatch(last); match != nil {
		n, _ := strconv.Atoi(match[1])
		return time.Duration(max(n, 1)) * time.Hour, nil
	}
	if strings.HasPrefix(last, "*:") {
		if n, err := strconv.Atoi(last[2:]); err == nil && n < 60 {
			return time.Hour, nil
		}
	}
	if clockTime.MatchString(last) {
		return days, nil
	}
	return 0, fmt.Errorf("unable to parse calendar event '%s'", text)
}

// run is what the scheduler remembers of a job.
type run struct {
	tried   time.Duration // model time of the last start
	known   bool          // it has been tried
	created time.Duration // model time at which it was first seen
}

// schedule is what pvescheduler does each minute.
func (n *Node) schedule() {
	n.replicateDue()
	n.backUpDue()
}

// next is when a schedule comes round again after a time of day, as nodes show it.
func next(schedule string, last int64) int64 {
	d, err := period(schedule)
	if err != nil {
		return 0
	}
	seconds := int64(d / time.Second)
	return (last/seconds + 1) * seconds
}
