package lua

import (
	"fmt"
	"time"
)

// Limits bound one call of a script. Reaching one ends the script, whatever it catches.
type Limits struct {
	// Time is how long the call may take, waiting included.
	Time time.Duration
	// Steps is how many instructions it may perform, those of library functions on long texts and tables included.
	Steps int64
	// Memory is how many bytes it may allocate from beginning to end, whether they are freed in between or not.
	Memory int64
	// Output is how many bytes it may print and log.
	Output int64
	// Depth is how many calls may be nested.
	Depth int
}

// DefaultLimits are those of gates and hooks.
func DefaultLimits() Limits {
	return Limits{Time: 5 * time.Minute, Steps: 100_000_000, Memory: 128 << 20, Output: 1 << 20, Depth: 200}
}

// withDefaults fills in what is not set.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.Time <= 0 {
		l.Time = d.Time
	}
	if l.Steps <= 0 {
		l.Steps = d.Steps
	}
	if l.Memory <= 0 {
		l.Memory = d.Memory
	}
	if l.Output <= 0 {
		l.Output = d.Output
	}
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	return l
}

// LimitError is a limit that a script has reached.
type LimitError struct {
	// Limit is the name of the field of Limits: "time", "steps", "memory", "output".
	Limit string
	// Text says what the script did and how much it may.
	Text string
}

func (e *LimitError) Error() string { return e.Text }

func (l Limits) timeError() error {
	return &LimitError{"time", fmt.Sprintf("the script took longer than the %s that it may", l.Time)}
}

func (l Limits) stepsError() error {
	return &LimitError{"steps", fmt.Sprintf("the script made more than the %d steps that it may", l.Steps)}
}

func (l Limits) memoryError() error {
	return &LimitError{"memory", fmt.Sprintf("the script asked for more than the %s of memory that it may", size(l.Memory))}
}

func (l Limits) outputError() error {
	return &LimitError{"output", fmt.Sprintf("the script printed more than the %s that it may", size(l.Output))}
}

// size shows a number of bytes.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
