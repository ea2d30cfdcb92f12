package sshx

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	// inlineStdin is how much standard input travels inside the shell's own input; more gets a session of its own.
	inlineStdin = 64 << 10
	// maxExec bounds the command line of a session: Linux takes at most 128 KiB in one argument.
	maxExec = 120 << 10
)

// reserved are the words that a shell takes for its own grammar when they stand unquoted in front.
var reserved = []string{"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "in", "function", "select", "time"}

// quote makes one word of any text for a POSIX shell. Nothing else in pxrun quotes for a remote shell.
func quote(s string) string {
	q := shellescape.Quote(s)
	if q == s && (strings.Contains(s, "=") || slices.Contains(reserved, s)) {
		return "'" + s + "'"
	}
	return q
}

// check refuses what no shell can be told.
func check(c transport.Command) error {
	if len(c.Argv) == 0 && c.Script == "" {
		return fmt.Errorf("the command is empty")
	}
	for _, word := range append([]string{c.Script}, c.Argv...) {
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("the command %q holds a NUL byte", c.String())
		}
	}
	for name, value := range c.Env {
		if !isName(name) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("the environment variable %q cannot be set in a shell", name)
		}
	}
	return nil
}

func isName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// needsSession reports whether a command cannot go through a shared shell.
func needsSession(c transport.Command) bool {
	return c.Own || len(c.Stdin) > inlineStdin || bytes.IndexByte(c.Stdin, 0) >= 0
}

// body is the command as shell text, to stand inside parentheses.
func body(c transport.Command) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		b.WriteString("export " + name + "=" + quote(c.Env[name]) + ";")
	}
	words := make([]string, len(c.Argv))
	for i, w := range c.Argv {
		words[i] = quote(w)
	}
	args := strings.Join(words, " ")
	switch {
	case c.Script == "":
		b.WriteString(args)
	case strings.Contains(c.Script, "$$") || strings.Contains(c.Script, "${$}"):
		// In a subshell $$ is the process id of the shared shell, which a script must neither see nor kill.
		b.WriteString("/bin/sh -c " + quote(c.Script) + " sh " + args)
	default:
		// eval keeps a syntax error inside the subshell. It saves the start of a shell for each script.
		b.WriteString("set -- " + args + ";eval " + quote(c.Script))
	}
	return b.String()
}

// prologue prepares every shell: messages in English, and the programs of root for other users too.
const prologue = "LC_ALL=C;export LC_ALL;case :$PATH: in *:/usr/sbin:*);;*)PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin;export PATH;;esac;"

// mark prints a marker and a status (shell text) on both streams.
func mark(marker, status string) string {
	line := `printf '\001%s %s\n' ` + marker + " " + status
	return line + ";" + line + " >&2"
}

// definition gives a shared shell the function that ends each frame.
const definition = `__pxrun(){ set -- "$1" "$?";printf '\001%s %s\n' "$1" "$2";printf '\001%s %s\n' "$1" "$2" >&2;};`

// shellStart is the first line of a shared shell: it reports the shell's process id behind the first marker.
func shellStart(ready string) string {
	return prologue + definition + mark(ready, `"$$"`) + "\n"
}

// shellAfterSudo is what sudo runs when it has to ask for a password first. The shell that takes its place keeps the
// environment and the process id, but not the function.
func shellAfterSudo(ready string) string {
	return prologue + mark(ready, `"$$"`) + ";exec /bin/sh"
}

// plain is a script of one line without anything that a shell would expand or obey.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=+,@% -]+$`)

// builtin gives the text of a command that is a test or nothing at all: it runs inside the shell and cannot change it,
// so it needs no subshell. Guards are of this kind, and a fork costs a small host more than all the rest of them.
func builtin(c transport.Command) (text string, ok bool) {
	words := c.Argv
	switch {
	case len(c.Env) > 0 || len(c.Stdin) > 0:
		return "", false
	case c.Script != "":
		if len(c.Argv) > 0 || !plain.MatchString(c.Script) {
			return "", false
		}
		words = strings.Fields(c.Script)
	}
	if len(words) == 0 || words[0] != "test" && words[0] != "true" && words[0] != "false" {
		return "", false
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " "), true
}

// shellLine is one command as it is written to a shared shell.
func shellLine(c transport.Command, marker string) string {
	if text, ok := builtin(c); ok {
		return text + " </dev/null;__pxrun " + marker + "\n"
	}
	if len(c.Stdin) == 0 {
		return "( " + body(c) + " )</dev/null;__pxrun " + marker + "\n"
	}
	return "printf %s " + quote(string(c.Stdin)) + " 2>/dev/null|( " + body(c) + " );__pxrun " + marker + "\n"
}

// sessionText is one command as the argument of "sh -c" in a session of its own. With input it reads the session's.
func sessionText(c transport.Command, marker string, input bool) string {
	text := prologue + mark(marker, `"$$"`) + ";( " + body(c) + " )"
	if !input {
		text += "</dev/null"
	}
	return text
}

// newMarker makes a word that no output can hold by chance or by intent.
func newMarker() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return "pxrun-" + hex.EncodeToString(b[:])
}
