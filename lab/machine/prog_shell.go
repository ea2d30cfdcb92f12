package machine

import (
	"context"
	"io"
	"strings"
)

// runTest is /usr/bin/test.
func runTest(_ context.Context, p *Proc) int {
	argv := append([]string{p.Name()}, p.Args()...)
	ok, err := evalTest(argv, p.view, func(fd int) bool { return p.TTY && fd < 3 })
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	return boolStatus(ok)
}

// runPrintf is /usr/bin/printf.
func runPrintf(_ context.Context, p *Proc) int {
	args := p.Args()
	if len(args) == 0 {
		return p.Fail(1, "missing operand")
	}
	text, problems := format(args[0], args[1:])
	io.WriteString(p.Stdout, text)
	for _, problem := range problems {
		p.Errorf("%s", problem)
	}
	return boolStatus(len(problems) == 0)
}

// runEcho is /usr/bin/echo: unlike the shell's it leaves backslashes alone unless told.
func runEcho(_ context.Context, p *Proc) int {
	args, newline, escapes := p.Args(), "\n", false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
		for _, c := range args[0][1:] {
			switch c {
			case 'n':
				newline = ""
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			}
		}
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		var stop bool
		if text, stop = echoEscapes(text); stop {
			newline = ""
		}
	}
	io.WriteString(p.Stdout, text+newline)
	return 0
}
