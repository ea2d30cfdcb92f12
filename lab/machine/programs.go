package machine

import (
	"context"
	"maps"
)

// programTable is what the base system can run. Each family of programs adds its own.
func programTable() map[string]Program {
	table := map[string]Program{}
	for _, family := range []map[string]Program{
		shellPrograms(), textPrograms(), filePrograms(), listPrograms(), systemPrograms(), processPrograms(), systemdPrograms(), sshPrograms(), netPrograms(), opensslPrograms(), packagePrograms(),
		{"awk": runAwk, "mawk": runAwk, "gawk": runAwk, "grep": runGrep, "egrep": runGrep, "fgrep": runGrep, "sed": runSed},
	} {
		maps.Copy(table, family)
	}
	return table
}

func shellPrograms() map[string]Program {
	return map[string]Program{
		"sh": runShell, "dash": runShell, "bash": runShell,
		"true":  func(context.Context, *Proc) int { return 0 },
		"false": func(context.Context, *Proc) int { return 1 },
		"test":  runTest, "[": runTest, "printf": runPrintf, "echo": runEcho,
	}
}
