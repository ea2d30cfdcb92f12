package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// scheduleWords are the schedules that have a name.
var scheduleWords = []string{"minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "semi-annually", "yearly", "annually"}

var weekdayNames = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// CheckSchedule says what is wrong with a calendar event of Proxmox VE: "[DAYS] [[YEAR-]MONTH-DAY] [[HOUR:]MINUTE[:SECOND]]", or
// one word such as daily. Each part is *, a number, a range 1..5, a step */15 or 5/15, or several of these with commas.
func CheckSchedule(text string) error {
	words := strings.Fields(text)
	if len(words) == 1 && slices.Contains(scheduleWords, words[0]) {
		return nil
	}
	if n := len(words); n > 1 && words[n-1] == "UTC" {
		words = words[:n-1]
	}
	if len(words) == 0 {
		return fmt.Errorf(`a schedule is empty: write a time such as "02:30", or days and a time, "mon..fri 02:30"`)
	}
	checks := []func(string) error{checkWeekdays, checkDate, checkTime}
	step := 0
	for _, word := range words {
		kind := scheduleKind(word)
		if kind < step {
			return fmt.Errorf("schedule %q: %q stands in the wrong place; days come first, then a date, then a time", text, word)
		}
		if err := checks[kind](word); err != nil {
			return fmt.Errorf("schedule %q: %w", text, err)
		}
		step = kind + 1
	}
	return nil
}

// scheduleKind tells days of the week (0), dates (1) and times (2) apart.
func scheduleKind(word string) int {
	switch first := word[0]; {
	case first >= 'a' && first <= 'z' || first >= 'A' && first <= 'Z':
		return 0
	case strings.Contains(word, "-"):
		return 1
	}
	return 2
}

func checkWeekdays(word string) error {
	for part := range strings.SplitSeq(word, ",") {
		from, to, isRange := strings.Cut(part, "..")
		first, ok := weekday(from)
		last := first
		if ok && isRange {
			last, ok = weekday(to)
		}
		if !ok {
			return fmt.Errorf("%q is neither a day of the week (mon, tue, …) nor a word such as daily", part)
		}
		if last < first {
			return fmt.Errorf("%q ends before it begins", part)
		}
	}
	return nil
}

func weekday(name string) (int, bool) {
	name = strings.ToLower(name)
	i := slices.IndexFunc(weekdayNames, func(day string) bool { return name == day || name == day[:3] })
	return i, i >= 0
}

func checkDate(word string) error {
	parts := strings.Split(word, "-")
	limits := []limit{{"year", 1970, 2200}, {"month", 1, 12}, {"day", 1, 31}}
	if len(parts) > 3 {
		return fmt.Errorf("%q is no date: write MONTH-DAY or YEAR-MONTH-DAY", word)
	}
	return checkParts(parts, limits[3-len(parts):])
}

func checkTime(word string) error {
	parts := strings.Split(word, ":")
	switch len(parts) {
	case 1:
		return checkParts(parts, []limit{{"minute", 0, 59}})
	case 2, 3:
		return checkParts(parts, []limit{{"hour", 0, 23}, {"minute", 0, 59}, {"second", 0, 59}}[:len(parts)])
	}
	return fmt.Errorf("%q is no time: write HOUR:MINUTE", word)
}

type limit struct {
	name     string
	min, max int
}

func checkParts(parts []string, limits []limit) error {
	for i, part := range parts {
		for one := range strings.SplitSeq(part, ",") {
			if err := limits[i].check(one); err != nil {
				return err
			}
		}
	}
	return nil
}

// check takes *, N, N..M, and any of these with a step.
func (l limit) check(text string) error {
	value, step, stepped := strings.Cut(text, "/")
	if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1 || n > l.max) {
		return fmt.Errorf("%q is no step for the %s", text, l.name)
	}
	if value == "*" {
		return nil
	}
	from, to, isRange := strings.Cut(value, "..")
	first, err := l.number(from)
	if err != nil || !isRange {
		return err
	}
	last, err := l.number(to)
	if err == nil && last < first {
		err = fmt.Errorf("%q ends before it begins", value)
	}
	return err
}

func (l limit) number(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || text[0] == '+' {
		return 0, fmt.Errorf("%q is no %s", text, l.name)
	}
	if n < l.min || n > l.max {
		return 0, fmt.Errorf("%d is no %s: it must lie between %d and %d", n, l.name, l.min, l.max)
	}
	return n, nil
}
