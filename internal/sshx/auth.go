package sshx

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// login is one attempt to log in: the methods, and what was tried for the message of its failure.
type login struct {
	ctx    context.Context
	ep     endpoint
	offers []offer
	ask    ask

	mu    sync.Mutex
	last  *offer // the key that signed last: if the login succeeds, it was this one
	asked bool
}

// methods lists the ways to prove who we are, silent ones first.
func (l *login) methods() []ssh.AuthMethod {
	var list []ssh.AuthMethod
	if len(l.offers) > 0 {
		signers := make([]ssh.Signer, len(l.offers))
		for i := range l.offers {
			signers[i] = l.watched(&l.offers[i])
		}
		list = append(list, ssh.PublicKeys(signers...))
	}
	if !l.ep.password.Empty() {
		list = append(list, ssh.Password(l.ep.password.Reveal()))
	}
	if !l.ep.password.Empty() || l.ask != nil {
		list = append(list, ssh.KeyboardInteractive(l.challenge))
	}
	if l.ep.password.Empty() && l.ask != nil {
		list = append(list, ssh.PasswordCallback(func() (string, error) {
			word, err := l.ask(l.ctx, fmt.Sprintf("Password for %s@%s: ", l.ep.user, l.ep.name))
			return word.Reveal(), err
		}))
	}
	return list
}

// challenge answers keyboard-interactive questions: the first hidden one with the password if there is one, everything
// else by asking the user.
func (l *login) challenge(_, instruction string, questions []string, echos []bool) ([]string, error) {
	answers := make([]string, len(questions))
	for i, q := range questions {
		if !echos[i] && !l.ep.password.Empty() && !l.asked {
			l.asked = true
			answers[i] = l.ep.password.Reveal()
			continue
		}
		if l.ask == nil {
			return nil, fmt.Errorf("the server asks %q and nobody is there to answer", strings.TrimSpace(q))
		}
		prompt := fmt.Sprintf("%s@%s: %s", l.ep.user, l.ep.name, q)
		if instruction != "" {
			prompt = instruction + "\n" + prompt
		}
		word, err := l.ask(l.ctx, prompt)
		if err != nil {
			return nil, err
		}
		answers[i] = word.Reveal()
	}
	return answers, nil
}

// watched notes when a key signs.
func (l *login) watched(o *offer) ssh.Signer {
	note := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.last = o
	}
	switch s := o.Signer.(type) {
	case ssh.MultiAlgorithmSigner:
		return &watchedMulti{MultiAlgorithmSigner: s, note: note}
	case ssh.AlgorithmSigner:
		return &watchedSigner{AlgorithmSigner: s, note: note}
	default:
		return s
	}
}

// accepted is the key that opened the host; nil if it was none.
func (l *login) accepted() *offer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// tried lists what the server did not accept.
func (l *login) tried() string {
	var parts []string
	for _, o := range l.offers {
		parts = append(parts, o.fingerprint()+" ("+o.source+")")
	}
	if !l.ep.password.Empty() {
		parts = append(parts, "a password")
	}
	if len(parts) == 0 {
		return "nothing: there is no key, agent or password"
	}
	return strings.Join(parts, ", ")
}

type watchedSigner struct {
	ssh.AlgorithmSigner
	note func()
}

// SignWithAlgorithm notes the use of the key.
func (w *watchedSigner) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	w.note()
	return w.AlgorithmSigner.SignWithAlgorithm(random, data, algorithm)
}

type watchedMulti struct {
	ssh.MultiAlgorithmSigner
	note func()
}

// SignWithAlgorithm notes the use of the key.
func (w *watchedMulti) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	w.note()
	return w.MultiAlgorithmSigner.SignWithAlgorithm(random, data, algorithm)
}
