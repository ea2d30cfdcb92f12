package machine

// A simulated program must not take this computer's memory, whatever it is told to do. These are the limits of one
// process; they are far above what scripts need.
const (
	// memoryLimit is how much a program may read into memory at once: /dev/zero has no end.
	memoryLimit = 256 << 20
	// captureLimit bounds the output of one command substitution, variableLimit one variable, argumentLimit the words of
	// one command.
	captureLimit  = 64 << 20
	variableLimit = 8 << 20
	argumentLimit = 32 << 20
	// patternLimit bounds sed's pattern space and what printf builds.
	patternLimit = 16 << 20
	// forkLimit is how many subshells of a machine may run at once.
	forkLimit = 2000
)

// fork counts a subshell that is to run beside others; false means there are too many. Pair it with unfork.
func (m *Machine) fork() bool {
	if m.forks.Add(1) > forkLimit {
		m.forks.Add(-1)
		return false
	}
	return true
}

func (m *Machine) unfork() { m.forks.Add(-1) }

// tooMany reports whether words are more than execve takes.
func tooMany(words []string) bool {
	total := 0
	for _, w := range words {
		total += len(w) + 16
	}
	return total > argumentLimit
}
