package ha

import (
	"context"
	"encoding/json"
	"fmt"
)

// printStatus is `ha-manager status`.
func printStatus(_ context.Context, c *call) error {
	rows, err := c.stack.current(c.view)
	if err != nil {
		return err
	}
	for _, row := range rows {
		c.proc.Printf("%s %s\n", row["type"], row["status"])
	}
	if c.value("verbose") != "1" {
		return nil
	}
	full, err := c.stack.fullStatus(c.view)
	if err != nil {
		return err
	}
	c.proc.Printf("full cluster state:\n%s", pretty(full))
	return nil
}

// printConfig is `ha-manager config`.
func printConfig(_ context.Context, c *call) error {
	rows, err := c.resources()
	if err != nil {
		return err
	}
	listing(c.proc.Stdout, rows, func(row object) string { return fmt.Sprint(row["sid"]) }, "digest", "sid", "type", "errors")
	for _, row := range rows {
		if bad, ok := row["errors"].(object); ok {
			for _, key := range sortedKeys(bad) {
				fmt.Fprintf(c.proc.Stderr, "error: property '%s' - %v\n", key, bad[key])
			}
		}
	}
	return nil
}

// printGroups is `ha-manager groupconfig`.
func printGroups(_ context.Context, c *call) error {
	rows, err := c.groups()
	if err != nil {
		return err
	}
	listing(c.proc.Stdout, rows, func(row object) string { return fmt.Sprintf("group: %s", row["group"]) }, "digest", "group", "type")
	return nil
}

// printRuleList is `ha-manager rules list`.
func printRuleList(_ context.Context, c *call) error {
	rows, err := c.ruleRows()
	if err != nil {
		return err
	}
	return c.print(rows, "rule")
}

// printRules is `ha-manager rules config`.
func printRules(_ context.Context, c *call) error {
	rows, err := c.ruleRows()
	if err != nil {
		return err
	}
	for _, row := range rows {
		row["enabled"], row["state"] = flag(row["disable"] == nil), "in use"
		if row["errors"] != nil {
			row["state"] = "ignored (conflicts)"
		}
	}
	return c.print(rows, "enabled", "state", "rule", "type", "resources", "comment")
}

// print prints rows as the output options want them.
func (c *call) print(rows []object, columns ...string) error {
	if c.value("quiet") == "1" {
		return nil
	}
	switch c.value("output-format") {
	case "json":
		text, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		c.proc.Println(string(text))
		return nil
	case "json-pretty":
		c.proc.Printf("%s", pretty(rows))
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	var lines [][]string
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, name := range columns {
			if row[name] != nil {
				line[i] = fmt.Sprint(row[name])
			}
		}
		lines = append(lines, line)
	}
	c.proc.Printf("%s", table(columns, lines))
	return nil
}
