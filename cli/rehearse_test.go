package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/internal/snapshot"
	"github.com/pxrun/pxrun/lab"
)

// differs are what is another in every cluster, and what depends on when it is asked: a storage on Ceph is as large as what
// its OSDs have left and what is used of it.
var differs = regexp.MustCompile(`"(taken|used|lists_age|health|active_manager|(?:vm|cephfs)": \{\s*"total)":.*`)

// copiedSite is a site whose files lie somewhere else and whose lab is the copy of a snapshot.
func (s *site) copiedSite(file string) *site {
	s.t.Helper()
	dir := s.t.TempDir()
	require.NoError(s.t, os.CopyFS(filepath.Join(dir, "site"), os.DirFS(s.path)))
	again := *s
	again.path, again.state = filepath.Join(dir, "site"), filepath.Join(dir, "state")
	s.t.Cleanup(func() { endLabs(again.state) })
	again.must("lab", "up", "-i", again.path, "--detach", "--speed", "80", "--snapshot", file)
	return &again
}

// taken takes a snapshot, which must write nothing, and returns it without what differs.
func (s *site) taken(file string) string {
	s.t.Helper()
	s.resetWrites()
	s.must("snapshot", "-i", s.path, "--lab", "-o", file)
	require.Empty(s.t, s.written(), "a snapshot only reads")
	text, err := os.ReadFile(file)
	require.NoError(s.t, err)
	read, err := snapshot.Parse(text)
	require.NoError(s.t, err)
	require.Empty(s.t, read.Notes)
	return differs.ReplaceAllString(string(text), `"$1"`)
}

func (s *site) lab() lab.Access {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.state, "lab", "*", "lab.json"))
	require.NoError(s.t, err)
	require.Len(s.t, found, 1)
	access, err := lab.LoadAccess(filepath.Dir(found[0]))
	require.NoError(s.t, err)
	return access
}

func (s *site) resetWrites() {
	s.t.Helper()
	_, err := s.lab().Ask(s.t.Context(), lab.Request{Op: "writes-reset"})
	require.NoError(s.t, err)
}

// written are the changes that somebody who logged in has made.
func (s *site) written() []lab.Write {
	s.t.Helper()
	answer, err := s.lab().Ask(s.t.Context(), lab.Request{Op: "writes"})
	require.NoError(s.t, err)
	var out []lab.Write
	for _, w := range answer.Writes {
		if w.Session != "" {
			out = append(out, w)
		}
	}
	return out
}

// TestSnapshotsAreTrue forms each example with its runbook, copies it through a snapshot, and compares: the copy is read as the
// original is, and is written down as the same site.
func TestSnapshotsAreTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("it forms three clusters")
	}
	binary := swift()
	for _, e := range exampleSites {
		if e.folder != "three-nodes-ceph" && e.folder != "two-nodes-qdevice" && e.folder != "four-nodes-pve8" {
			continue
		}
		t.Run(e.folder, func(t *testing.T) {
			t.Parallel()
			s := e.start(t, binary)
			s.must(s.args("apply", "--auto-approve")...)
			s.healthy()
			dir := t.TempDir()
			first := filepath.Join(dir, "first.json")
			original := s.taken(first)
			again := s.copiedSite(first)
			again.healthy()
			require.Equal(t, original, again.taken(filepath.Join(dir, "second.json")))
			address := firstAddress(t, first)
			require.Equal(t, s.must("import", "root@"+address, "--lab", "-i", s.path), again.must("import", "root@"+address, "--lab", "-i", again.path))
			out, code := again.run(again.args("plan", "--detailed-exitcode")...)
			require.Zero(t, code, "the copy is what the site wants: %s", out)
		})
	}
}

// firstAddress is the address of the first node of a snapshot.
func firstAddress(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var s struct {
		Nodes []struct{ Address string }
	}
	require.NoError(t, json.NewDecoder(strings.NewReader(string(text))).Decode(&s))
	return s.Nodes[0].Address
}
