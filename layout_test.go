package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const self = "github.com/pxrun/pxrun"

// imported is one package as `go list` tells of it.
type imported struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []imported {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	require.NoError(t, err)
	var all []imported
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p imported
		require.NoError(t, decoder.Decode(&p))
		all = append(all, p)
	}
	return all
}

// rules say which packages of pxrun, and which families of libraries, a part must not use. A name ends in /… when it
// stands for everything below it too.
var rules = []struct {
	part string
	not  []string
	why  string
}{
	{"internal/…", []string{"cli"}, "nothing imports cli"},
	{"engine", []string{"runbooks", "modules/…", "internal/sshx", "internal/pve/…", "internal/report", "lab/…", "cli", "github.com/spf13/cobra", "golang.org/x/crypto/ssh", "github.com/hashicorp/hcl/v2/…"}, "the engine knows no HCL, SSH, terminal or Proxmox"},
	{"engine/module", []string{"engine", "engine/event", "runbooks", "modules/…", "internal/sshx", "lab/…", "cli"}, "the contract of modules knows no engine"},
	{"engine/event", []string{"engine", "runbooks", "modules/…", "internal/sshx", "internal/report", "lab/…", "cli"}, "events know nobody who makes or reads them"},
	{"modules/…", []string{"engine", "engine/event", "runbooks", "internal/sshx", "internal/journal", "lab/…", "cli", "github.com/hashicorp/hcl/v2/…", "golang.org/x/crypto/ssh"}, "a module knows only its contract and Proxmox"},
	{"inventory", []string{"engine/…", "runbooks", "modules/…", "internal/sshx", "internal/pve/…", "lab/…", "cli", "github.com/hashicorp/hcl/v2/…"}, "the inventory is plain data"},
	{"runbooks", []string{"modules/…", "internal/sshx", "internal/pve/…", "internal/report", "internal/journal", "lab/…", "cli"}, "the language connects to nothing and knows no module"},
	{"lua/…", []string{"engine", "engine/module", "runbooks", "inventory", "modules/…", "internal/sshx", "internal/pve/…", "internal/report", "internal/journal", "lab/…", "cli"}, "a script's host is an interface"},
	{"internal/pve/…", []string{"runbooks", "modules/…", "internal/sshx", "lab/…", "cli"}, "what Proxmox is does not depend on who asks"},
	{"internal/transport/…", []string{"engine/…", "runbooks", "modules/…", "internal/sshx", "internal/pve/…", "lab/…", "cli"}, "the transport is a contract"},
	{"internal/sshx", []string{"engine", "engine/event", "runbooks", "modules/…", "internal/pve/…", "lab/…", "cli"}, "SSH knows hosts, not what is done on them"},
	{"internal/report", []string{"runbooks", "modules/…", "internal/sshx", "internal/journal", "lab/…", "cli"}, "reports read events"},
	{"internal/journal", []string{"runbooks", "modules/…", "internal/sshx", "internal/pve/…", "lab/…", "cli"}, "the journal reads events"},
	{"lab/…", []string{"engine/…", "runbooks", "modules/…", "inventory", "internal/…", "cli"}, "a simulator that shares pxrun's code shares its mistakes"},
}

func matches(pattern, path string) bool {
	if base, below := strings.CutSuffix(pattern, "/…"); below {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		part := strings.TrimPrefix(p.ImportPath, self+"/")
		for _, rule := range rules {
			if !matches(rule.part, part) {
				continue
			}
			for _, used := range p.Imports {
				name := strings.TrimPrefix(used, self+"/")
				for _, forbidden := range rule.not {
					if matches(forbidden, name) && !matches(rule.part, name) {
						t.Errorf("%s imports %s: %s", part, name, rule.why)
					}
				}
			}
		}
	}
}

// testPackage is what tests of modules share to act on a lab.
const testPackage = "internal/testkit/labkit"

func TestOnlyCommandsAndTestsUseTheLab(t *testing.T) {
	for _, p := range packages(t) {
		part := strings.TrimPrefix(p.ImportPath, self+"/")
		if part == "cli" || part == "lab" || strings.HasPrefix(part, "lab/") || part == "bench" || part == testPackage {
			continue
		}
		for _, used := range p.Imports {
			name := strings.TrimPrefix(used, self+"/")
			if name == testPackage {
				t.Errorf("%s imports %s, which is for tests", part, name)
			}
			if matches("lab/…", name) {
				t.Errorf("%s imports %s: pxrun must not know that a cluster is simulated", part, name)
			}
		}
	}
}

// texts calls f for every text file of the repository.
func texts(t *testing.T, f func(path, text string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "dist"):
			return filepath.SkipDir
		case d.IsDir() || !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.ContainsRune(content[:min(len(content), 8000)], 0) {
			f(filepath.ToSlash(path), string(content))
		}
		return nil
	}))
}

func TestFilesNameNoMachine(t *testing.T) {
	// Folders of somebody's computer. Paths of the hosts that pxrun manages, such as /root/.ssh, are fine.
	somewhere := regexp.MustCompile(`/home/[a-z]+/(src|work|go|code)|/Users/|/work/(main|shared)|/tmp/(team|bash)`)
	texts(t, func(path, text string) {
		if path == "layout_test.go" {
			return
		}
		for i, line := range strings.Split(text, "\n") {
			if found := somewhere.FindString(line); found != "" {
				t.Errorf("%s:%d: %s is a path of one machine", path, i+1, found)
			}
		}
	})
}

func TestNothingIsLeftForLater(t *testing.T) {
	later := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	texts(t, func(path, text string) {
		if path == "layout_test.go" || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".md") && !strings.HasSuffix(path, ".hcl") {
			return
		}
		for i, line := range strings.Split(text, "\n") {
			if found := later.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", path, i+1, found)
			}
		}
	})
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	texts(t, func(path, text string) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.Contains(m[1], " ") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	})
}
