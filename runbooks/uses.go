package runbooks

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// uses is what a set of expressions takes from the moment and place of their evaluation. Expressions that use nothing
// are evaluated once for all hosts.
type uses struct {
	self, facts, each bool
	tasks             []taskUse
}

// taskUse is one reference to the result of a task.
type taskUse struct {
	name    string // "" for a reference to all tasks: task[…]
	results bool   // its results on all hosts are needed
	written string // "task.members.changed"
}

func usesOf(traversals []hcl.Traversal) uses {
	var u uses
	for _, t := range traversals {
		switch t.RootName() {
		case "self":
			u.self = true
			if attr, ok := step(t, 1); !ok || attr == "facts" {
				u.facts = true
			}
		case "each":
			u.each = true
		case "task":
			name, _ := step(t, 1)
			attr, ok := step(t, 2)
			u.tasks = append(u.tasks, taskUse{name: name, results: !ok || attr == "results", written: written(t[:min(len(t), 3)])})
		}
	}
	return u
}

// constant reports whether the expressions have one value for all hosts, items and times.
func (u uses) constant() bool { return !u.self && !u.each && len(u.tasks) == 0 }

// reason says in words what a value that is not known yet waits for.
func (u uses) reason(known func(taskUse) bool, facts bool) string {
	var why []string
	for _, t := range u.tasks {
		if !known(t) {
			why = append(why, "uses "+t.written+", which is known after that task ran")
		}
	}
	if u.facts && !facts {
		why = append(why, "uses self.facts, which are read from the host first")
	}
	if len(why) == 0 {
		return "uses a value that is not known yet"
	}
	return strings.Join(why, "; ")
}
