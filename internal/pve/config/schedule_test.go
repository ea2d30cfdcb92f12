package config_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/stretchr/testify/require"
)

func TestSchedules(t *testing.T) {
	for _, right := range []string{
		"*/15", "*/5", "02:30", "2:30", "21:00:30", "30", "*:0/15", "0/2:00", "8..17:00/15", "8,12,18:00", "mon", "sat", "Sun 01:00", "mon..fri 02:30", "mon,wed..fri 22:00", "monday..friday 2:00",
		"*-1..7", "sat *-1..7 15:00", "2026-1-1", "2026-12-24,25 00:00", "*-*-1 00:00", "daily", "hourly", "weekly", "monthly", "quarterly", "semi-annually", "yearly", "02:30 UTC", " 02:30 ",
	} {
		require.NoError(t, config.CheckSchedule(right), right)
	}
	for wrong, why := range map[string]string{
		"25:99":          `schedule "25:99": 25 is no hour: it must lie between 0 and 23`,
		"12:60":          "60 is no minute",
		"12:00:61":       "61 is no second",
		"60":             "60 is no minute",
		"":               "a schedule is empty",
		"  ":             "a schedule is empty",
		"noon":           `"noon" is neither a day of the week`,
		"mon..":          "is neither a day",
		"fri..mon":       "ends before it begins",
		"17..8:00":       "ends before it begins",
		"mon tue":        "stands in the wrong place",
		"02:30 mon":      "stands in the wrong place",
		"*/0":            "is no step for the minute",
		"*/x":            "is no step for the minute",
		"13-1":           "13 is no month",
		"2-32":           "32 is no day",
		"1900-1-1":       "1900 is no year",
		"1-2-3-4":        "is no date",
		"1:2:3:4":        "is no time",
		"12:":            `"" is no minute`,
		"12:+5":          `"+5" is no minute`,
		"12:5,":          `"" is no minute`,
		"daily 02:30":    "is neither a day of the week",
		"0 2 * * sun":    "stands in the wrong place",
		"every 5 minute": "is neither a day of the week",
	} {
		require.ErrorContains(t, config.CheckSchedule(wrong), why, wrong)
	}
}

func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"mon..fri 02:30", "*/15", "25:99", "", "2026-1-1 0:0", "\x00", "..", "/", ":::", "UTC", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if config.CheckSchedule(text) == nil {
			require.NoError(t, config.CheckSchedule(" "+text+"\t"), "space around it means nothing")
		}
	})
}
