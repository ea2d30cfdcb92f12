package ceph

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// Cluster is what one node says of the whole Ceph cluster.
type Cluster struct {
	From   string
	Unread map[string]string
	Conf   *Conf // nil without /etc/pve/ceph.conf
	// Keyring says that the administrator's key is there, without which no command works.
	Keyring  bool
	Storages []config.Section
	// Answers says that the monitors answered and all of the following is there; Silence is why they did not.
	Answers     bool
	Silence     string
	Status      *Status
	Map         *OSDMap
	Rules       []Rule
	Filesystems []Filesystem
}

// cephSeconds bounds the whole conversation with the monitors, clusterTimeout everything.
const (
	cephSeconds    = 90
	clusterTimeout = 120 * time.Second
	// notHere is the status of the conversation on a node from which Ceph cannot be asked.
	notHere = 3
)

// Without a quorum of monitors the ceph program would hang for minutes, so each question is bounded. Every question starts an
// interpreter, so all are asked at once: each stands in a pipe behind the one before it, keeps its own answer until it has passed
// that one's on, and the answers come in order without a file. An answer is one line; its status stands beside its name.
var clusterProbe = transport.Command{Timeout: clusterTimeout, Script: frame.Script(
	frame.Read{Name: "conf", Seconds: readSeconds, Command: "cat /etc/pve/ceph.conf", Pmxcfs: true},
	frame.Read{Name: "keyring", Seconds: readSeconds, Command: "ls /etc/pve/priv/ceph.client.admin.keyring", Pmxcfs: true},
	frame.Read{Name: "storages", Seconds: readSeconds, Command: "cat /etc/pve/storage.cfg", Pmxcfs: true},
	frame.Read{Name: "ceph", Seconds: cephSeconds, Pmxcfs: true, Command: `sh -c 'if [ ! -e /etc/ceph/ceph.conf ] || ! grep -q mon_host /etc/ceph/ceph.conf; then exit 3; fi
q() { k=$1; shift; o=$(timeout -k 2 15 ceph --connect-timeout 10 "$@" -f json 2>&1 </dev/null); r=$?; cat; printf "\n#%s %s\n%s\n" "$k" "$r" "$o"; }
: | q status -s | q dump osd dump | q tree osd tree | q metadata osd metadata | q rules osd crush rule dump | q fs fs ls; echo; echo "#end"'`},
)}

// ProbeCluster is the command that ReadCluster runs: the same text each time.
func ProbeCluster() transport.Command { return clusterProbe }

// ReadCluster asks one node.
func ReadCluster(ctx context.Context, host string, conn transport.Conn) (*Cluster, error) {
	r, err := conn.Run(ctx, clusterProbe)
	if err != nil {
		return nil, fmt.Errorf("read Ceph's state from %s: %w", host, err)
	}
	return ParseCluster(host, r.Stdout)
}

// ParseCluster reads the output of ProbeCluster.
func ParseCluster(host string, out []byte) (*Cluster, error) {
	answers, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("read Ceph's state from %s: %w", host, err)
	}
	c := &Cluster{From: host, Unread: map[string]string{}}
	text := func(name string) ([]byte, bool) {
		a := answers[name]
		switch {
		case a.RC == 0:
			return a.Text, true
		case a.Hung():
			c.Unread[name] = "no answer within its time limit"
		case !strings.Contains(string(a.Text), "No such file or directory"):
			c.Unread[name] = strings.TrimSpace(string(a.Text))
		}
		return nil, false
	}
	if t, ok := text("conf"); ok {
		c.Conf = ParseConf(t)
	}
	_, c.Keyring = text("keyring")
	if t, ok := text("storages"); ok {
		c.Storages, _ = config.ParseSections(t)
	}
	c.conversation(answers["ceph"])
	return c, nil
}

// conversation reads what the monitors said.
func (c *Cluster) conversation(a frame.Answer) {
	parts, failed, ended := splitAnswers(string(a.Text))
	if failed != nil {
		a = *failed
	}
	switch {
	case a.RC == notHere:
		c.Silence = "this node has no connection to a monitor"
		return
	case a.Hung():
		c.Silence = "the monitors did not answer"
		return
	case a.RC != 0 || !ended:
		c.Silence = fmt.Sprintf("ceph failed (exit %d): %s", a.RC, lastLine(a.Text))
		if a.RC == 1 && strings.Contains(string(a.Text), "timed out") {
			c.Silence = "the monitors did not answer within 10 s"
		}
		return
	}
	var err error
	fail := func(e error) {
		if err == nil {
			err = e
		}
	}
	var e error
	if c.Status, e = ParseStatus(jsonOf(parts["status"])); e != nil {
		fail(e)
	}
	if c.Map, e = ParseDump(jsonOf(parts["dump"])); e != nil {
		fail(e)
	} else {
		if e = c.Map.addTree(jsonOf(parts["tree"])); e != nil {
			fail(e)
		}
		if e = c.Map.addMetadata(jsonOf(parts["metadata"])); e != nil {
			fail(e)
		}
	}
	if c.Rules, e = ParseRules(jsonOf(parts["rules"])); e != nil {
		fail(e)
	}
	if c.Filesystems, e = ParseFilesystems(jsonOf(parts["fs"])); e != nil {
		fail(e)
	}
	if err != nil {
		c.Silence = "the monitors' answer makes no sense: " + err.Error()
		return
	}
	c.Answers = true
}

// splitAnswers takes the conversation apart at its lines "#name status". failed is the first question that was not answered.
func splitAnswers(text string) (parts map[string]string, failed *frame.Answer, ended bool) {
	parts = map[string]string{}
	for part := range strings.SplitSeq("\n"+text, "\n#") {
		head, body, _ := strings.Cut(part, "\n")
		name, status, _ := strings.Cut(strings.TrimSpace(head), " ")
		switch name {
		case "status", "dump", "tree", "metadata", "rules", "fs":
			parts[name] = body
			if rc, err := strconv.Atoi(status); err == nil && rc != 0 && failed == nil {
				failed = &frame.Answer{Text: []byte(body), RC: rc}
			}
		case "end":
			ended = true
		}
	}
	return parts, failed, ended
}

// jsonOf is the line that holds the answer; Ceph's libraries print warnings of their own around it.
func jsonOf(text string) []byte {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") || strings.HasPrefix(line, "[") {
			return []byte(line)
		}
	}
	return []byte(text)
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// Storage returns the entry of an id.
func (c *Cluster) Storage(id string) (config.Section, bool) {
	if c == nil {
		return config.Section{}, false
	}
	return config.FindSection(c.Storages, id)
}

// Filesystem returns the CephFS of a name.
func (c *Cluster) Filesystem(name string) (Filesystem, bool) {
	for _, f := range c.Filesystems {
		if f.Name == name {
			return f, true
		}
	}
	return Filesystem{}, false
}

// Rule returns the CRUSH rule of a name.
func (c *Cluster) Rule(name string) (Rule, bool) {
	for _, r := range c.Rules {
		if r.Name == name {
			return r, true
		}
	}
	return Rule{}, false
}

// StatusCommand asks for the status alone, for waits.
func StatusCommand(limit time.Duration) transport.Command {
	return transport.Command{Argv: []string{"timeout", "-k", "2", "15", "ceph", "--connect-timeout", "10", "-s", "-f", "json"}, Timeout: limit}
}

// StatusOf reads the answer to StatusCommand.
func StatusOf(out []byte) (*Status, error) { return ParseStatus(jsonOf(string(out))) }
