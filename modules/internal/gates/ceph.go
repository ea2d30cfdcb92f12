package gates

import (
	"context"
	"fmt"
	"maps"
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
	// Mons are all monitors, in quorum or not. OSDs are those of the node and of each node that is under way, by CRUSH host.
	Mons []string
	OSDs map[string][]int
	// Asked are the OSDs and monitors about whose stop Ceph was asked, all at once; OSDRefusal and MonRefusal are its words when
	// it said no.
	Asked, AskedMons       []string
	OSDRefusal, MonRefusal string
}

// notHere is the status of the script on a node from which Ceph cannot be asked.
const notHere = 3

// cephScript asks Ceph for its state and whether it bears that some nodes ($1) stop: all of their OSDs at once, those of the
// folders on the node ($2) included, and their monitors ($3: further names of the node's). HEALTH_OK says nothing about that
// (reference §8.6). A node that is not in the CRUSH map has no OSDs (status 2). A monitor is asked about only if it is in the
// monmap: for an unknown name Ceph says yes. With $4 nothing is asked about stops.
//
// Every question starts an interpreter, so those that do not rest on each other are asked at once: each stands in a pipe behind
// the one before it, and keeps its answer until it has passed that one's on.
const cephScript = `[ -e /etc/ceph/ceph.conf ] || exit 3
q() { timeout -k 2 15 ceph --connect-timeout 10 "$@" 2>&1 </dev/null; }
say() { printf '\n#%s\n%s\n' "$1" "$2"; }
ask() { k=$1; shift; o=$(q "$@"); r=$?; cat; if [ "$r" = 0 ]; then say "$k" "$o"; else say "failed $k" "$o"; fi; }
tree() { o=$(q osd ls-tree "$1"); r=$?; cat; case $r in 0) say "osds $1" "$(echo $o)";; 2) say "osds $1" "";; *) say "failed osd ls-tree $1" "$o";; esac; }
trees() { if [ $# -eq 0 ]; then cat; else n=$1; shift; tree "$n" | trees "$@"; fi; }
stop() { o=$(q "$@"); r=$?; cat; say "$1 stop" "$o
exit $r"; }
first=$(: | ask status -s -f json | ask dump osd dump -f json | ask mons mon dump -f json | trees $1)
printf '%s\n' "$first"
case $first in *"
#failed "*) exit 1;; esac
dump=${first#*"
#dump"}
mons=${dump#*"
#mons"}
dump=${dump%%"
#mons"*}
ids=$(printf '#osds %s\n' "${mons#*"
#osds "}" | while read -r word rest; do case $word in "#osds"|"") ;; *) echo "$word $rest";; esac; done)
mons=${mons%%"
#osds"*}
names=
for i in $2; do case $dump in *"\"osd\":$i,"*) ids="$ids $i";; esac; done
ids=$(printf '%s\n' $ids | sort -un)
for m in $1 $3; do case $mons in *"\"name\":\"$m\""*) case " $names " in *" $m "*) ;; *) names="$names $m";; esac;; esac; done
if [ -n "$4" ]; then say end; exit 0; fi
say "asked osd" "$(echo $ids)"
say "asked mon" "$(echo $names)"
: | if [ -n "$ids" ]; then stop osd ok-to-stop $ids; else cat; fi | if [ -n "$names" ]; then stop mon ok-to-stop $names; else cat; fi
say end`

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
	osds, mons := r.daemons()
	r.f.Mons = strings.Fields(mons)
	for _, word := range strings.Fields(osds) {
		if id, err := strconv.Atoi(word); err == nil {
			r.f.OSDs = append(r.f.OSDs, id)
		}
	}
	noStop := ""
	if r.o.NoStop {
		noStop = "1"
	}
	names := strings.Join(append([]string{r.f.own()}, r.f.namesIn(r.o.Away)...), " ")
	for _, host := range append(from, r.node) {
		conn, err := r.t.Conn(ctx, host)
		if err != nil {
			r.f.Ceph = &CephFacts{Silence: err.Error()}
			continue
		}
		result, err := conn.Run(ctx, transport.Command{Script: cephScript, Argv: []string{names, osds, mons, noStop}, Timeout: cephTimeout})
		switch {
		case err != nil:
			r.f.Ceph = &CephFacts{Silence: err.Error()}
			return
		case result.Exit == notHere:
			r.f.Ceph = &CephFacts{Silence: "no node has a connection to a monitor"}
			continue
		}
		c := ParseCeph(result.Stdout, result.Exit)
		r.f.Ceph = &c
		return
	}
}

// unused is the status of the question where the cluster has no Ceph.
const unused = 4

// CephBears asks from one node whether Ceph bears that another stops, and nothing else. It is open where there is no Ceph.
func CephBears(ctx context.Context, t module.Target, from, node string) Verdict {
	f := Facts{Node: node, Ceph: &CephFacts{}}
	conn, err := t.Conn(ctx, from)
	if err != nil {
		return silent(err.Error())
	}
	r, err := conn.Run(ctx, transport.Command{Script: "[ -e /etc/pve/ceph.conf ] || exit 4\n" + cephScript, Argv: []string{node, "", "", ""}, Timeout: cephTimeout})
	switch {
	case err != nil:
		return silent(err.Error())
	case r.Exit == unused:
		return open(CephStop, "there is no Ceph", "Ceph to bear that "+node+" stops")
	case r.Exit == notHere:
		return silent(from + " has no connection to a monitor")
	}
	if *f.Ceph = ParseCeph(r.Stdout, r.Exit); f.Ceph.Silence != "" {
		return silent(f.Ceph.Silence)
	}
	return f.cephStop(Options{})
}

// silent is the verdict on a Ceph that does not answer.
func silent(why string) Verdict {
	return closed(Ceph, why, "an answer from Ceph: what is not known counts as no", "ceph -s; ceph health detail", "none: bring its monitors back")
}

// daemons are the ids of the OSDs and monitors that have a folder on the node.
func (r *reader) daemons() (osds, mons string) {
	for line := range strings.Lines(string(r.said[r.node]["ceph_dirs"].Text)) {
		kind, id, _ := strings.Cut(strings.TrimSpace(line), "/ceph-")
		switch {
		case kind == "osd" && isNumber(id):
			osds += " " + id
		case kind == "mon" && !strings.ContainsAny(id, " \"*?["):
			mons += " " + id
		}
	}
	return osds, mons
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }

// ParseCeph reads what the script printed.
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
	if _, ended := parts["end"]; exit != 0 || !ended {
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
		c.Mons, err = ceph.MonNames(jsonLine(parts["mons"]))
	}
	if err != nil {
		c.Silence = "Ceph's answer makes no sense: " + err.Error()
		return c
	}
	for name, body := range parts {
		if host, ok := strings.CutPrefix(name, "osds "); ok {
			for _, word := range strings.Fields(body) {
				id, err := strconv.Atoi(word)
				if err != nil {
					c.Silence = "Ceph's answer makes no sense: OSDs of " + host + ": " + body
					return c
				}
				c.OSDs[host] = append(c.OSDs[host], id)
			}
		}
	}
	c.Asked, c.AskedMons = strings.Fields(parts["asked osd"]), strings.Fields(parts["asked mon"])
	c.OSDRefusal, c.MonRefusal = refusalIn(parts, "osd stop", c.Asked), refusalIn(parts, "mon stop", c.AskedMons)
	return c
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
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") {
			return []byte(line)
		}
	}
	return []byte(text)
}

// benign are health checks that say nothing about a node that goes down (reference §8.5).
var benign = []string{
	"MON_CLOCK_SKEW", "RECENT_CRASH", "TELEMETRY_CHANGED", "AUTH_INSECURE_GLOBAL_ID_RECLAIM", "AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED",
	"BLUESTORE_DISK_SIZE_MISMATCH", "BLUESTORE_SLOW_OP_ALERT", "PG_NOT_SCRUBBED", "PG_NOT_DEEP_SCRUBBED", "LARGE_OMAP_OBJECTS",
}

// ofAbsence are health checks that say no more than that daemons are away, which nodes under way explain.
var ofAbsence = []string{"MON_DOWN", "OSD_DOWN", "OSD_HOST_DOWN", "PG_DEGRADED"}

// Harmless reports whether a health check says nothing about a node that goes down, or no more than what nodes that are away
// explain. Flags of single hosts are for their own gate.
func Harmless(check string, away bool, accept []string) bool {
	return slices.Contains(benign, check) || slices.Contains(accept, check) || check == "OSD_FLAGS" || away && slices.Contains(ofAbsence, check)
}

// ceph judges Ceph; without any there is nothing to judge.
func (f Facts) ceph(o Options) []Verdict {
	c := f.Ceph
	if c == nil {
		return nil
	}
	if c.Silence != "" {
		return []Verdict{silent(c.Silence)}
	}
	return []Verdict{f.cephHealth(o), f.cephFlags(o), f.cephStop(o)}
}

// excused reports whether all daemons that are away are of nodes under way.
func (f Facts) excused(o Options) bool {
	c, away := f.Ceph, f.namesIn(o.Away)
	for _, osd := range c.Map.OSDs {
		if osd.Up || !osd.In {
			continue
		}
		if !slices.ContainsFunc(away, func(name string) bool { return slices.Contains(c.OSDs[name], osd.ID) }) {
			return false
		}
	}
	for _, m := range c.Mons {
		if !c.Status.InQuorum(m) && !slices.Contains(away, m) {
			return false
		}
	}
	return len(away) > 0
}

func (f Facts) cephHealth(o Options) Verdict {
	const want = "Ceph healthy but for harmless warnings, every placement group active and clean, all monitors in quorum, a manager"
	c, away := f.Ceph, f.excused(o)
	var bad, accept []string
	for _, name := range slices.Sorted(maps.Keys(c.Status.Health.Checks)) {
		check := c.Status.Health.Checks[name]
		switch {
		case check.Muted, slices.Contains(benign, name), slices.Contains(o.CephAccept, name), name == "OSD_FLAGS", name == "OSDMAP_FLAGS":
		case away && slices.Contains(ofAbsence, name):
		default:
			bad, accept = append(bad, name+": "+check.Summary.Message), append(accept, strconv.Quote(name))
		}
	}
	override := ""
	if len(accept) > 0 {
		override = "mend it; or, if it says nothing about a node that is away: ceph_accept = [" + strings.Join(accept, ", ") + "]"
	}
	unclean := c.Status.Clean()
	if away && c.Status.Serving() == "" {
		unclean = ""
	}
	if unclean != "" {
		bad = append(bad, unclean)
	}
	for _, m := range c.Mons {
		if !c.Status.InQuorum(m) && !away {
			bad = append(bad, "monitor "+m+" is not in quorum")
		}
	}
	if !c.Status.Mgr.Available {
		bad = append(bad, "no manager is active")
	}
	if len(bad) > 0 {
		if override == "" {
			override = "none: wait until it is whole again"
		}
		return closed(Ceph, strings.Join(bad, "; "), want, "ceph -s; ceph health detail", override)
	}
	return open(Ceph, fmt.Sprintf("%s, %d placement groups, monitors in quorum: %s", c.Status.Health.Status, c.Status.PGs.Total, strings.Join(c.Status.QuorumNames, ", ")), want)
}

// cephFlags looks for flags that others have set: somebody works on Ceph, or has left something behind.
func (f Facts) cephFlags(o Options) Verdict {
	const want = "no flag set but by this run"
	c := f.Ceph
	var found, look []string
	for _, flag := range c.Map.SetFlags() {
		found, look = append(found, flag), append(look, "ceph osd unset "+flag)
	}
	ours := f.namesIn(o.Away)
	if o.Noout {
		ours = append(ours, f.own())
	}
	for _, host := range slices.Sorted(maps.Keys(c.Map.NodeFlags)) {
		for _, flag := range c.Map.NodeFlags[host] {
			if flag != "noout" || !slices.Contains(ours, host) {
				found, look = append(found, flag+" on "+host), append(look, "ceph osd unset-group "+flag+" "+host)
			}
		}
	}
	for _, osd := range c.Map.OSDs {
		for _, word := range osd.State {
			if slices.Contains([]string{"noout", "noin", "noup", "nodown"}, word) {
				found, look = append(found, fmt.Sprintf("%s on osd.%d", word, osd.ID)), append(look, fmt.Sprintf("ceph osd rm-%s osd.%d", word, osd.ID))
			}
		}
	}
	if len(found) > 0 {
		return closed(CephFlags, "set: "+strings.Join(found, ", "), want, "ceph osd dump | grep flags", "if nobody works on it: "+strings.Join(look, "; "))
	}
	return open(CephFlags, "none is set by others", want)
}

func (f Facts) cephStop(o Options) Verdict {
	want := "Ceph to bear that " + strings.Join(append([]string{f.Node}, o.Away...), ", ") + " stop"
	c, node := f.Ceph, f.own()
	look := fmt.Sprintf("ceph osd ok-to-stop $(ceph osd ls-tree %s); ceph mon ok-to-stop %s", node, node)
	var no []string
	if c.OSDRefusal != "" {
		no = append(no, "ceph osd ok-to-stop "+strings.Join(c.Asked, " ")+": "+c.OSDRefusal)
	}
	if c.MonRefusal != "" {
		no = append(no, "ceph mon ok-to-stop "+strings.Join(c.AskedMons, " ")+": "+c.MonRefusal)
	}
	if len(no) > 0 {
		return closed(CephStop, strings.Join(no, "; "), want, look, "none: bring Ceph to full redundancy first, size 3 and min_size 2 over three hosts")
	}
	saw := "it holds no OSD and no monitor"
	if len(c.Asked)+len(c.AskedMons) > 0 {
		saw = fmt.Sprintf("it does: OSDs %s, monitors %s", orNone(c.Asked), orNone(c.AskedMons))
	}
	return open(CephStop, saw, want)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
