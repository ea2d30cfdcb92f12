package gates

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/transport"
)

// CephFacts are what Ceph says of itself and of the node.
type CephFacts struct {
	// Silence is why nothing, or not all, is known; nothing else counts then.
	Silence string
	Status  *ceph.Status
	Map     *ceph.OSDMap
	// Mons are all monitors, in quorum or not. OSDs are those of each node, by where they truly run: their bucket in the CRUSH map may
	// bear any name, and a node may have several. An OSD that never ran is known by its bucket alone.
	Mons []string
	OSDs map[string][]int
	// Asked are the OSDs and monitors about whose stop Ceph was asked, all at once; OSDRefusal and MonRefusal are its words when
	// it said no.
	Asked, AskedMons       []string
	OSDRefusal, MonRefusal string
}

// notHere is the status of the script on a node from which Ceph cannot be asked.
const notHere = 3

// stateScript asks Ceph for its state. Every question starts an interpreter, so all are asked at once: each stands in a pipe behind
// the one before it, and keeps its answer until it has passed that one's on. With $1 nothing more is asked.
const stateScript = `[ -e /etc/ceph/ceph.conf ] || exit 3
` + asking + `first=$(: | ask status -s -f json | ask dump osd dump -f json | ask tree osd tree -f json | ask metadata osd metadata -f json | ask mons mon dump -f json)
printf '%s\n' "$first"
case $first in *"
#failed "*) exit 1;; esac
say state
if [ -n "$1" ]; then say end; fi`

// bearScript asks whether Ceph bears that OSDs ($1) and monitors ($2) stop, all at once. HEALTH_OK says nothing about that (reference
// §8.6).
const bearScript = asking + `say "asked osd" "$1"
say "asked mon" "$2"
: | if [ -n "$1" ]; then stop osd ok-to-stop $1; else cat; fi | if [ -n "$2" ]; then stop mon ok-to-stop $2; else cat; fi
say end`

const asking = `q() { timeout -k 2 15 ceph --connect-timeout 10 "$@" 2>&1 </dev/null; }
say() { printf '\n#%s\n%s\n' "$1" "$2"; }
ask() { k=$1; shift; o=$(q "$@"); r=$?; cat; if [ "$r" = 0 ]; then say "$k" "$o"; else say "failed $k" "$o"; fi; }
stop() { o=$(q "$@"); r=$?; cat; say "$1 stop" "$o
exit $r"; }
`

// converse asks Ceph for its state, and whether it bears that the daemons of some nodes stop, together with further OSDs and monitors.
// A monitor is asked about only if it is in the monmap: for an unknown name Ceph says yes. here is false where Ceph cannot be asked.
func converse(ctx context.Context, conn transport.Conn, nodes []string, osds []int, mons []string, noStop bool) (c CephFacts, here bool, err error) {
	state := transport.Command{Script: stateScript, Timeout: cephTimeout}
	if noStop {
		state.Argv = []string{"1"}
	}
	r, err := conn.Run(ctx, state)
	if err != nil || r.Exit == notHere {
		return c, false, err
	}
	if noStop {
		return ParseCeph(r.Stdout, r.Exit), true, nil
	}
	if c = ParseCeph(append(slices.Clone(r.Stdout), "\n#end\n"...), r.Exit); c.Silence != "" {
		return c, true, nil
	}
	var ids, names []string
	for _, node := range nodes {
		osds = append(osds, c.OSDs[node]...)
		mons = append(mons, node)
	}
	slices.Sort(osds)
	for _, id := range slices.Compact(osds) {
		if _, known := c.Map.OSD(id); known {
			ids = append(ids, strconv.Itoa(id))
		}
	}
	for _, m := range mons {
		if slices.Contains(c.Mons, m) && !slices.Contains(names, m) {
			names = append(names, m)
		}
	}
	bears, err := conn.Run(ctx, transport.Command{Script: bearScript, Argv: []string{strings.Join(ids, " "), strings.Join(names, " ")}, Timeout: cephTimeout})
	if err != nil {
		return c, false, err
	}
	return ParseCeph(slices.Concat(r.Stdout, bears.Stdout), max(r.Exit, bears.Exit)), true, nil
}

// cephTimeout is longer than the script takes when every answer comes at its last moment.
const cephTimeout = 150 * time.Second

// askCeph asks one of the nodes that stay, or the node itself if Ceph cannot be asked from another.
func (r *reader) askCeph(ctx context.Context) {
	configured, from := false, []string{}
	why := ""
	for _, s := range r.f.States {
		if text, silent := r.said[s.Host]["ceph_conf"].Found(); silent != "" {
			why = "whether Ceph is configured cannot be read: " + silent
		} else if strings.TrimSpace(string(text)) == "yes" {
			configured = true
		}
	}
	for _, s := range r.f.States {
		if s.Err == nil && s.Host != r.node && !slices.Contains(r.o.Away, s.Host) && s.Writable {
			from = append(from, s.Host)
		}
	}
	switch {
	case !configured && why == "":
		return
	case !configured:
		r.f.Ceph = &CephFacts{Silence: why}
		return
	}
	r.f.OSDs, r.f.Mons = r.daemons()
	nodes := append([]string{r.f.own()}, r.f.namesIn(r.o.Away)...)
	for _, host := range append(from, r.node) {
		conn, err := r.t.Conn(ctx, host)
		if err != nil {
			r.f.Ceph = &CephFacts{Silence: err.Error()}
			continue
		}
		c, here, err := converse(ctx, conn, nodes, slices.Clone(r.f.OSDs), slices.Clone(r.f.Mons), r.o.NoStop)
		switch {
		case err != nil:
			r.f.Ceph = &CephFacts{Silence: err.Error()}
			return
		case !here:
			r.f.Ceph = &CephFacts{Silence: "no node has a connection to a monitor"}
			continue
		}
		r.f.Ceph = &c
		return
	}
}

// unused is the status of the question where the cluster has no Ceph.
const unused = 4

// CephBears asks from one node whether Ceph bears that another stops, and nothing else. It is open where there is no Ceph.
func CephBears(ctx context.Context, t module.Target, from, node string) Verdict {
	conn, err := t.Conn(ctx, from)
	if err != nil {
		return silent(err.Error())
	}
	r, err := conn.Run(ctx, transport.Command{Script: "[ -e /etc/pve/ceph.conf ] || exit 4", Timeout: readSeconds * time.Second})
	switch {
	case err != nil:
		return silent(err.Error())
	case r.Exit == unused:
		return open(CephStop, "there is no Ceph", "Ceph to bear that "+node+" stops")
	case r.Exit != 0:
		return silent("whether Ceph is configured cannot be read on " + from)
	}
	c, here, err := converse(ctx, conn, []string{node}, nil, nil, false)
	switch {
	case err != nil:
		return silent(err.Error())
	case !here:
		return silent(from + " has no connection to a monitor")
	case c.Silence != "":
		return silent(c.Silence)
	}
	return Facts{Node: node, Ceph: &c}.cephStop(Options{})
}

// daemons are the ids of the OSDs and monitors that have a folder on the node.
func (r *reader) daemons() (osds []int, mons []string) {
	for line := range strings.Lines(string(r.said[r.node]["ceph_dirs"].Text)) {
		kind, id, _ := strings.Cut(strings.TrimSpace(line), "/ceph-")
		switch number, err := strconv.Atoi(id); {
		case kind == "osd" && err == nil:
			osds = append(osds, number)
		case kind == "mon" && !strings.ContainsAny(id, " \"*?["):
			mons = append(mons, id)
		}
	}
	return osds, mons
}

// ParseCeph reads what the scripts printed, the one after the other.
func ParseCeph(out []byte, exit int) CephFacts {
	c := CephFacts{OSDs: map[string][]int{}}
	parts := map[string]string{}
	last, failed := "", false
	for part := range strings.SplitSeq("\n"+string(out), "\n#") {
		name, body, _ := strings.Cut(part, "\n")
		if name = strings.TrimSpace(name); name != "" && !failed {
			parts[name], last = strings.TrimSpace(body), name
			failed = strings.HasPrefix(name, "failed ")
		}
	}
	_, known := parts["state"]
	if _, ended := parts["end"]; exit != 0 || !known || !ended {
		question := strings.TrimPrefix(last, "failed ")
		c.Silence = "Ceph does not answer (" + question + "): " + complaint(parts[last])
		if strings.TrimSpace(parts[last]) == "" {
			c.Silence = "Ceph does not answer (" + question + ")"
		}
		return c
	}
	var err error
	if c.Status, err = ceph.StatusOf([]byte(parts["status"])); err == nil {
		c.Map, err = ceph.ParseDump(jsonLine(parts["dump"]))
	}
	if err == nil {
		err = c.Map.Locate(jsonLine(parts["tree"]), jsonLine(parts["metadata"]))
	}
	if err == nil {
		c.Mons, err = ceph.MonNames(jsonLine(parts["mons"]))
	}
	if err != nil {
		c.Silence = "Ceph's answer makes no sense: " + err.Error()
		return c
	}
	for _, o := range c.Map.OSDs {
		if node := cmp.Or(o.NodeName, o.Host); node != "" {
			c.OSDs[node] = append(c.OSDs[node], o.ID)
		}
	}
	c.Asked, c.AskedMons = strings.Fields(parts["asked osd"]), strings.Fields(parts["asked mon"])
	c.OSDRefusal, c.MonRefusal = refusalIn(parts, "osd stop", c.Asked), refusalIn(parts, "mon stop", c.AskedMons)
	return c
}

// buckets are the hosts of the CRUSH map in which the OSDs of some nodes hang.
func (c *CephFacts) buckets(nodes []string) []string {
	var out []string
	for _, node := range nodes {
		for _, id := range c.OSDs[node] {
			if o, ok := c.Map.OSD(id); ok && o.Host != "" && !slices.Contains(out, o.Host) {
				out = append(out, o.Host)
			}
		}
	}
	return out
}

// refusalIn is Ceph's word against a stop; "" if it answered with exit 0, or was not asked because there is nothing to stop.
func refusalIn(parts map[string]string, name string, asked []string) string {
	body, was := parts[name]
	switch {
	case len(asked) == 0:
		return ""
	case !was:
		return "it was not asked"
	case body == "exit 0" || strings.HasSuffix(body, "\nexit 0"):
		return ""
	}
	return complaint(body)
}

// complaint is the line of an answer that says why; the rest may be a page of JSON.
func complaint(body string) string {
	lines := strings.Split(strings.TrimSpace(body), "\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "Error") {
			return line
		}
	}
	if lines[0] == "exit 124" || lines[0] == "exit 137" {
		return "no answer within 15 s"
	}
	if len(lines[0]) > 200 {
		return lines[0][:200] + "…"
	}
	return lines[0]
}

// jsonLine is the line that holds the answer; Ceph's libraries print lines of their own around it.
func jsonLine(text string) []byte {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") || strings.HasPrefix(line, "[") {
			return []byte(line)
		}
	}
	return []byte(text)
}
