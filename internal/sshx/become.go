package sshx

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

// become turns the login user into root for a whole session, so that single commands need no sudo.
type become struct {
	sudo     bool
	password bool
	secret   secret.String
}

func newBecome(b inventory.Become) become {
	return become{sudo: b.Method == "sudo", password: b.Method == "sudo" && !b.Password.Empty(), secret: b.Password}
}

// prefix stands before the program of an exec request. The login shell reads it, so it is plain enough for any.
func (b become) prefix(prompt string) string {
	switch {
	case b.password:
		return "exec sudo -S -H -p " + quote(prompt) + " -- "
	case b.sudo:
		return "exec sudo -n -H -- "
	default:
		return "exec "
	}
}

// answer gives sudo the password when its prompt, a word nobody can forge, appears on the error stream, and hangs up
// when it appears again: the password was wrong, and sudo locks accounts that guess.
func (b become) answer(prompt string, session io.WriteCloser) func([]byte) {
	var seen []byte
	var once sync.Once
	return func(p []byte) {
		seen = append(seen, p...)
		switch bytes.Count(seen, []byte(prompt)) {
		case 0:
			seen = bytes.Clone(seen[max(0, len(seen)-len(prompt)):])
		case 1:
			once.Do(func() { _, _ = io.WriteString(session, b.secret.Reveal()+"\n") })
		default:
			_ = session.Close()
		}
	}
}

// explainSudo says what to do about sudo's refusal.
func explainSudo(said string) string {
	for _, known := range []struct{ text, hint string }{
		{"a password is required", "set become { password = … }, or allow the user to run sudo without one (NOPASSWD)"},
		{"try again", "the become password is wrong"},
		{"incorrect password", "the become password is wrong"},
		{"not in the sudoers file", "add the user to the group sudo on the host"},
		{"not allowed to execute", "allow the user to run /bin/sh as root in sudoers"},
		{"must have a tty", "remove requiretty for this user from sudoers"},
		{"not found", "install sudo on the host, or log in as root without become"},
	} {
		if strings.Contains(said, known.text) {
			return known.hint
		}
	}
	return "run sudo by hand as this user to see what it wants"
}
