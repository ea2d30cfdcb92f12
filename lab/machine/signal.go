package machine

import (
	"strconv"
	"strings"
)

// Signal is a Unix signal. As an error it is why a process's context ended.
type Signal int

// The signals that programs and shells know here.
const (
	SIGHUP  Signal = 1
	SIGINT  Signal = 2
	SIGQUIT Signal = 3
	SIGABRT Signal = 6
	SIGKILL Signal = 9
	SIGUSR1 Signal = 10
	SIGSEGV Signal = 11
	SIGUSR2 Signal = 12
	SIGPIPE Signal = 13
	SIGALRM Signal = 14
	SIGTERM Signal = 15
	SIGCHLD Signal = 17
	SIGCONT Signal = 18
	SIGSTOP Signal = 19
)

var signalNames = map[Signal]string{
	SIGHUP: "HUP", SIGINT: "INT", SIGQUIT: "QUIT", SIGABRT: "ABRT", SIGKILL: "KILL", SIGUSR1: "USR1", SIGSEGV: "SEGV",
	SIGUSR2: "USR2", SIGPIPE: "PIPE", SIGALRM: "ALRM", SIGTERM: "TERM", SIGCHLD: "CHLD", SIGCONT: "CONT", SIGSTOP: "STOP",
}

// String is the name without SIG.
func (s Signal) String() string {
	if name := signalNames[s]; name != "" {
		return name
	}
	return strconv.Itoa(int(s))
}

func (s Signal) Error() string { return "killed by SIG" + s.String() }

// fatal reports whether an unhandled signal ends a process.
func (s Signal) fatal() bool { return s != SIGCHLD && s != SIGCONT && s != SIGSTOP && s != 0 }

// ParseSignal reads a signal's number or name, with or without SIG.
func ParseSignal(text string) (Signal, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return Signal(n), n >= 0 && n < 65
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for s, known := range signalNames {
		if known == name {
			return s, true
		}
	}
	return 0, false
}
