package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pxrun/pxrun/internal/secret"
)

// errNobody is the answer to a question when no person is there.
var errNobody = errors.New("nobody is there to answer: standard input is no terminal")

// confirm asks a yes/no question. Anything but yes is no.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if !a.InTerminal {
		return false, errNobody
	}
	if _, err := fmt.Fprintf(a.Err, "%s [y/N] ", question); err != nil {
		return false, err
	}
	line, err := a.readLine(ctx)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	default:
		return false, nil
	}
}

// readLine reads a line from the terminal, or gives up when ctx ends. The read itself cannot be interrupted: its line goes to
// whoever asks next.
func (a *app) readLine(ctx context.Context) (string, error) {
	if a.typed == nil {
		typed := make(chan typedLine, 1)
		a.typed = typed
		go func() {
			line, err := bufio.NewReader(a.In).ReadString('\n')
			if errors.Is(err, io.EOF) && line != "" {
				err = nil
			}
			typed <- typedLine{line, err}
		}()
	}
	select {
	case got := <-a.typed:
		a.typed = nil
		return got.line, got.err
	case <-ctx.Done():
		_, _ = fmt.Fprintln(a.Err)
		return "", context.Cause(ctx)
	}
}

// typedLine is a line from the terminal.
type typedLine struct {
	line string
	err  error
}

// askSecret asks for something that must not be shown.
func (a *app) askSecret(question string) (string, error) {
	if !a.InTerminal {
		return "", errNobody
	}
	if _, err := fmt.Fprintf(a.Err, "%s ", strings.TrimSpace(question)); err != nil {
		return "", err
	}
	line, err := a.ReadSecret()
	_, _ = fmt.Fprintln(a.Err)
	if err == nil {
		a.secrets.Add(secret.New(line))
	}
	return line, err
}
