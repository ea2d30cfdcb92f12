package apt_test

import (
	"os"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/apt"
	"github.com/stretchr/testify/require"
)

func FuzzWhatAptSays(f *testing.F) {
	f.Add("interrupted\nage 99\ndpkg installed curl 8.14.1-2\ncurl:\n  Installed: 8\n  Candidate: (none)\n")
	f.Add("Inst pve-manager [9.1.8] (9.1.9 localhost [all])\nRemv x [1]\nConf y\nInst z\nInst a [1]\n")
	f.Fuzz(func(t *testing.T, out string) {
		if s, err := apt.ParseState(out); err == nil && s.ListAge < 0 {
			t.Errorf("lists from the future: %v", s.ListAge)
		}
		e := apt.ParseSimulation(out)
		_ = e.Refuse("h", "g")
		e.Shown(map[string]any{"x": nil})
		e.Risk()
		apt.Unfetched(transport.Result{Stdout: []byte(out)})
	})
}

// The record is what a real node printed for a small dist-upgrade from a local repository.
func TestSimulationOfARealNode(t *testing.T) {
	text, err := os.ReadFile("testdata/apt-simulation.txt")
	if err != nil {
		t.Fatal(err)
	}
	e := apt.ParseSimulation(string(text))
	if e.Installs["pve-manager"] != "9.1.9" || e.Upgrades["pve-manager"] != "9.1.8" || len(e.Installs) != 2 || len(e.Removes) != 0 {
		t.Errorf("got %+v", e)
	}
}

func TestWhatCouldNotBeFetchedIsSeenAlthoughAptSucceeds(t *testing.T) {
	r := transport.Result{Stderr: []byte("W: Failed to fetch http://deb.debian.org/debian/dists/trixie/InRelease  Temporary failure resolving 'deb.debian.org'\nW: Some index files failed to download. They have been ignored, or old ones used instead.\n")}
	require.Len(t, apt.Unfetched(r), 1)
	require.Contains(t, apt.Unfetched(r)[0], "Temporary failure resolving")
}
