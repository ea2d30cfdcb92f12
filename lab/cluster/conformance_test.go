package cluster_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/machine"
)

// record is one block of a transcript of real programs, or (without a command) a direction for the test.
type record struct {
	direction     string
	node, command string
	out, err      string
	line          int
}

var header = regexp.MustCompile(`^##### \[(\w+)\] \$ (.*)$`)

// readRecords parses "##### [node] $ command" blocks and "#### direction" lines.
func readRecords(t *testing.T, name string) []record {
	t.Helper()
	text, err := os.ReadFile("../testdata/records/" + name)
	require.NoError(t, err)
	var list []record
	var into *string
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case header.MatchString(line):
			m := header.FindStringSubmatch(line)
			list = append(list, record{node: m[1], command: m[2], line: i + 1})
			into = nil
		case strings.HasPrefix(line, "#### "):
			list = append(list, record{direction: strings.TrimPrefix(line, "#### "), line: i + 1})
			into = nil
		case line == "----- stdout":
			into = &list[len(list)-1].out
		case line == "----- stderr":
			into = &list[len(list)-1].err
		case strings.HasPrefix(line, "----- exit="):
			into = nil
		case into != nil:
			*into += line + "\n"
		}
	}
	return list
}

// varying are parts of the output that differ from run to run.
var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`Date:             .*`), "Date:             DATE"},
	{regexp.MustCompile(`config-\d+\.sql\.gz`), "config-N.sql.gz"},
	{regexp.MustCompile(`([0-9A-F]{2}:){31}[0-9A-F]{2}|@FP@`), "FINGERPRINT"},
	{regexp.MustCompile(`poll call":"[0-9T:-]+`), `poll call":"TIME`},
	{regexp.MustCompile(`(Client address:\s+::ffff:[0-9.]+):\d+`), "$1:PORT"},
	// How a shell begins its own messages.
	{regexp.MustCompile(`(?m)^(bash: line \d+|/bin/bash: (line )?\d+): (cannot create )?`), ""},
	// $0 of a script is the path by which it was found.
	{regexp.MustCompile(`(/usr)?/bin/ssh-copy-id`), "ssh-copy-id"},
	// The recorded tools quote by locale.
	{regexp.MustCompile(`[‘’]`), "'"},
	// The counter of .vmlist and of a guest count every change of the database; the test site had others.
	{regexp.MustCompile(`(?m)^"version": \d+,$`), `"version": N,`},
	{regexp.MustCompile(`"type": "qemu", "version": \d+`), `"type": "qemu", "version": N`},
}

func normalise(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = sortJSON(line)
	}
	return strings.Join(lines, "\n")
}

// sortJSON orders a line that is a JSON array: Proxmox gives no order.
func sortJSON(line string) string {
	var list []json.RawMessage
	if !strings.HasPrefix(line, "[{") || json.Unmarshal([]byte(line), &list) != nil {
		return line
	}
	slices.SortFunc(list, func(a, b json.RawMessage) int { return strings.Compare(string(a), string(b)) })
	out, err := json.Marshal(list)
	if err != nil {
		return line
	}
	return string(out)
}

// follow plays a transcript on a site and compares what the lab prints with what was recorded.
func (s *site) follow(name string) {
	for _, r := range readRecords(s.t, name) {
		if r.direction != "" {
			s.direct(r.direction)
			continue
		}
		if strings.HasPrefix(r.command, "ha-manager") {
			continue // the HA manager is a package of its own
		}
		got := s.shell("/bin/bash", s.number(r.node), strings.ReplaceAll(r.command, "@FP@", s.fingerprint()))
		where := fmt.Sprintf("%s:%d [%s] $ %s", name, r.line, r.node, r.command)
		if diff := gocmp.Diff(normalise(r.out), normalise(got.out)); diff != "" {
			s.t.Errorf("%s: stdout (-recorded +lab):\n%s", where, diff)
		}
		if diff := gocmp.Diff(normalise(r.err), normalise(got.err)); diff != "" {
			s.t.Errorf("%s: stderr (-recorded +lab):\n%s", where, diff)
		}
	}
}

func (s *site) number(name string) int {
	return 1 + slices.IndexFunc(s.net.machines, func(m *machine.Machine) bool { return m.Name() == name })
}

// fingerprint is that of pve1's API certificate, "" while there is none.
func (s *site) fingerprint() string {
	data, err := s.net.machines[0].FS.ReadFile("/etc/pve/nodes/pve1/pve-ssl.pem")
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(data)
	sum := sha256.Sum256(block.Bytes)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"))
}

// direct does what a line between the blocks says.
func (s *site) direct(line string) {
	words := strings.Fields(line)
	m := s.net.machines[0]
	if len(words) > 1 {
		m = s.net.machines[s.number(words[1])-1]
	}
	switch words[0] {
	case "settle":
		s.settle()
	case "power-off":
		m.PowerOff()
	case "power-on":
		m.PowerOn()
	case "stop":
		require.NoError(s.t, m.StopUnit(context.Background(), words[2]))
	case "start":
		require.NoError(s.t, m.StartUnit(context.Background(), words[2]))
	case "trust":
		s.trust(s.number(words[1]), 1)
	default:
		s.t.Fatalf("unknown direction %q", line)
	}
}

// trust lets root of one machine log in on another, as pxrun prepares it.
func (s *site) trust(from, to int) {
	source, target := s.net.machines[from-1].FS, s.net.machines[to-1].FS
	key, err := source.ReadFile("/root/.ssh/id_rsa.pub")
	require.NoError(s.t, err)
	const keys = "/root/.ssh/authorized_keys"
	old, _ := target.ReadFile(keys)
	require.NoError(s.t, target.WriteFile(keys, append(old, key...), 0o600))
	host, err := target.ReadFile("/etc/ssh/ssh_host_ed25519_key.pub")
	require.NoError(s.t, err)
	fields := strings.Fields(string(host))
	known, _ := source.ReadFile("/root/.ssh/known_hosts")
	line := fmt.Sprintf("%s %s %s\n", s.net.machines[to-1].Addresses()[0], fields[0], fields[1])
	require.NoError(s.t, source.WriteFile("/root/.ssh/known_hosts", append(known, line...), 0o600))
}

func TestFormingAClusterPrintsWhatRealProgramsPrint(t *testing.T) {
	inLab(t, 3, func(s *site) { s.follow("forming.txt") })
}

func TestQDevicePrintsWhatRealProgramsPrint(t *testing.T) {
	inLab(t, 2, func(s *site) {
		arbiter := s.add("arb", 4, "")
		require.NoError(t, arbiter.Install(t.Context(), s.world.ArbiterPackage(arbiter)))
		for _, n := range s.nodes {
			require.NoError(t, n.Machine().Install(t.Context(), n.DevicePackage()))
		}
		require.Empty(t, s.sh(1, "pvecm create lab").err)
		s.settle()
		require.Contains(t, s.join(2).out, "successfully added")
		s.settle()
		s.trust(1, 3)
		s.follow("qdevice.txt")
	})
}
