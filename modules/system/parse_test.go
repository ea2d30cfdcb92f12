package system

import (
	"os"
	"testing"
)

func FuzzParsersOfWhatHostsSay(f *testing.F) {
	f.Add("file\n644 root root 0 0 12\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  -\n")
	f.Add("directory\n755 root root 0 0 4096\n.bashrc\n")
	f.Add("link\n777 root root 0 0 3\n/etc/x\ny\n")
	f.Add("absent\n")
	f.Add("interrupted\nage 99\ndpkg installed curl 8.14.1-2\ncurl:\n  Installed: 8\n  Candidate: (none)\n")
	f.Add("Id=x.service\nLoadState=loaded\nActiveState=active\n")
	f.Add("pve\ncluster\nlrm {\"state\":\"active\"}\n")
	f.Add("Inst pve-manager [9.1.8] (9.1.9 localhost [all])\nRemv x [1]\nConf y\nInst z\nInst a [1]\n")
	f.Fuzz(func(t *testing.T, out string) {
		for _, summed := range []bool{true, false} {
			s, err := parseState(out, summed)
			if err == nil && s.kind == "file" && summed && len(s.sum) != 64 {
				t.Errorf("a file without a digest: %+v", s)
			}
		}
		if s, err := parsePackages(out); err == nil && s.listAge < 0 {
			t.Errorf("lists from the future: %v", s.listAge)
		}
		if u, err := parseUnit(out); err == nil && u.active == "" {
			t.Errorf("a unit without a state: %+v", u)
		}
		parseActivity(out)
		e := parseSimulation(out)
		_ = e.refuse("h", "g")
		e.shown(map[string]any{"x": nil})
		e.risk()
	})
}

// The record is what a real node printed for a small dist-upgrade from a local repository.
func TestSimulationOfARealNode(t *testing.T) {
	text, err := os.ReadFile("testdata/apt-simulation.txt")
	if err != nil {
		t.Fatal(err)
	}
	e := parseSimulation(string(text))
	if e.installs["pve-manager"] != "9.1.9" || e.upgrades["pve-manager"] != "9.1.8" || len(e.installs) != 2 || len(e.removes) != 0 {
		t.Errorf("got %+v", e)
	}
}
