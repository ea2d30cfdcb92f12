package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/runbooks"
)

// savedPlan is the file that plan --out writes: the plan, and how it was asked for, so that apply can make it again and
// compare.
type savedPlan struct {
	Type     string          `json:"type"` // pxrun plan
	Paths    []string        `json:"paths"`
	VarFiles []string        `json:"var_files,omitempty"`
	Vars     []string        `json:"vars,omitempty"`
	Limit    []string        `json:"limit,omitempty"`
	Tags     []string        `json:"tags,omitempty"`
	SkipTags []string        `json:"skip_tags,omitempty"`
	Lab      bool            `json:"lab,omitempty"`
	Plan     json.RawMessage `json:"plan"`
}

const savedPlanType = "pxrun plan"

// savePlan writes the plan with paths that hold wherever apply is started. Values of --var are kept unless the variable
// is sensitive: those must be given again.
func (s *session) savePlan(plan *engine.Plan, file string) error {
	var text bytes.Buffer
	if err := plan.Save(&text, s.app.redaction()); err != nil {
		return err
	}
	saved := savedPlan{
		Type: savedPlanType, Limit: s.options.limit, Tags: s.options.tags, SkipTags: s.options.skipTags,
		Lab: s.options.network.lab, Plan: text.Bytes(),
	}
	for _, v := range s.options.site.vars {
		if name, _, _ := strings.Cut(v, "="); !sensitive(s.doc, strings.TrimSpace(name)) {
			saved.Vars = append(saved.Vars, v)
		}
	}
	var err error
	if saved.Paths, err = absolute(s.options.site.files(s.app)); err != nil {
		return err
	}
	if saved.VarFiles, err = absolute(s.options.site.varFiles); err != nil {
		return err
	}
	content, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(file, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	if !s.app.global.json && !s.app.global.quiet {
		_, err = fmt.Fprintf(s.app.Out, "\nSaved. Apply exactly this with: pxrun apply %s\n", file)
	}
	return err
}

func sensitive(doc *runbooks.Document, name string) bool {
	for _, v := range doc.Variables {
		if v.Name == name {
			return v.Sensitive
		}
	}
	return false
}

// openSavedPlan reads a saved plan. ok is false when the file is something else, such as a site.
func (a *app) openSavedPlan(file string) (saved savedPlan, plan *engine.Plan, ok bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return saved, nil, false, nil //nolint:nilerr // the loader says what is wrong with the path
	}
	defer f.Close()
	head := make([]byte, 1)
	if _, err := io.ReadFull(f, head); err != nil || head[0] != '{' {
		return saved, nil, false, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return saved, nil, false, err
	}
	if err := json.NewDecoder(io.LimitReader(f, 256<<20)).Decode(&saved); err != nil || saved.Type != savedPlanType {
		return saved, nil, false, nil
	}
	plan, err = engine.LoadPlan(bytes.NewReader(saved.Plan))
	if err != nil {
		return saved, nil, true, invalid("%s: %w", file, err)
	}
	return saved, plan, true, nil
}

// digest identifies the files and values that a plan rests on. Its key stays in the state folder, so that a plan does
// not help in guessing secrets.
func (a *app) digest(doc *runbooks.Document) (string, error) {
	dir, err := a.stateDir()
	if err != nil {
		return "", err
	}
	key, err := digestKey(filepath.Join(dir, "plan.key"))
	if err != nil {
		return "", fmt.Errorf("key for plans: %w", err)
	}
	return doc.Digest(key), nil
}

// digestKey reads the key, or makes it. Of two processes that make it at once one wins, and both use what is there then.
func digestKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o600))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(key); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(file)
}

// redaction takes the secrets out of texts; nil while none is known, which saves looking for them.
func (a *app) redaction() func(string) string {
	if a.secrets.Empty() {
		return nil
	}
	return a.secrets.Redact
}
