package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sourcegraph/conc/pool"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// bare is the yardstick: a client that does nothing but the work, with x/crypto as it comes.
func bare(ctx context.Context, f *farm, w workload, form string) error {
	raw, err := os.ReadFile(f.Identity)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return err
	}
	check, err := knownhosts.New(f.KnownHosts)
	if err != nil {
		return err
	}
	cfg := &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: check, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}
	p := pool.New().WithContext(ctx)
	steps := w.steps(f)
	for _, address := range f.Addresses[:w.hosts] {
		p.Go(func(context.Context) error {
			client, err := ssh.Dial("tcp", fmt.Sprintf("%s:%d", address, f.Port), cfg)
			if err != nil {
				return err
			}
			defer client.Close()
			return forms[form](client, steps)
		})
	}
	return p.Wait()
}

var forms = map[string]func(*ssh.Client, []string) error{"session": inSessions, "shell": inShell, "batch": inBatch}

// inSessions opens a session for each step.
func inSessions(client *ssh.Client, steps []string) error {
	for _, step := range steps {
		s, err := client.NewSession()
		if err != nil {
			return err
		}
		err = s.Run(step)
		_ = s.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// inShell writes the steps to one shell, each after the last one's status.
func inShell(client *ssh.Client, steps []string) error {
	s, err := client.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	in, err := s.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.Start("exec /bin/sh"); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for _, step := range steps {
		if _, err := io.WriteString(in, "( "+step+" )</dev/null; echo @@done $?\n"); err != nil {
			return err
		}
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			if status, ok := strings.CutPrefix(line, "@@done "); ok {
				if status != "0\n" {
					return fmt.Errorf("%s: status %s", step, status)
				}
				break
			}
		}
	}
	return nil
}

// inBatch sends everything as one command.
func inBatch(client *ssh.Client, steps []string) error {
	s, err := client.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Run("set -e; " + strings.Join(steps, "; "))
}
