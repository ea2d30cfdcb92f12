// Package frame packs many reads of a node into one script and takes its output apart.
//
// A script prints each of its reads between marker lines, so that many answers fit in one round trip:
//
//	@@<nonce> begin
//	@@<nonce> <name of the read>
//	…its output, standard error included…
//	@@<nonce> rc <exit status>
//	@@<nonce> end
//
// The node makes the nonce up from its kernel's random source when the script starts: what a file contains cannot
// look like a marker, and the script itself is the same text each time, which lets its answer be fetched beforehand.
package frame

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Read is one line of a script: a name without spaces, a time limit in seconds and the command as the shell reads it. Every
// word of it that is not fixed must be quoted already.
type Read struct {
	Name    string
	Seconds int
	Command string
	// Pmxcfs says that the command touches /etc/pve: when it does not answer once, it is not asked again.
	Pmxcfs bool
}

// Script makes the script of some reads. Its text is the same for the same reads, so that a module can list it as a probe.
func Script(reads ...Read) string {
	var b strings.Builder
	b.WriteString(frameHead)
	for _, r := range reads {
		do := "c"
		if r.Pmxcfs {
			do = "p"
		}
		fmt.Fprintf(&b, "%s %s %d %s\n", do, r.Name, r.Seconds, r.Command)
	}
	b.WriteString(frameTail)
	return b.String()
}

// frameHead starts a snapshot script: it defines c NAME SECONDS COMMAND…, which makes one read, and p, which does so
// for a file in pmxcfs. When pmxcfs does not answer once, it is not asked again: each access would hang.
const frameHead = `# read the state of the node
N=$(cat /proc/sys/kernel/random/uuid 2>/dev/null)
[ -n "$N" ] || N=$$-$(date +%s%N)
LC_ALL=C; export LC_ALL
h=
c() { k=$1; t=$2; shift 2; printf '@@%s %s\n' "$N" "$k"; timeout -k 2 "$t" "$@" 2>&1 </dev/null; r=$?; printf '\n@@%s rc %s\n' "$N" "$r"; }
p() { if [ -n "$h" ]; then printf '@@%s %s\n\n@@%s rc 124\n' "$N" "$1" "$N"; else c "$@"; case $r in 124|137) h=1;; esac; fi; }
printf '@@%s begin\n' "$N"
`

// frameTail ends a snapshot script. Without its line the output is known to be cut.
const frameTail = `printf '@@%s end\n' "$N"
exit 0
`

// Answer is what one read printed, standard error included, and its exit status.
type Answer struct {
	Text []byte
	RC   int
}

// Hung reports whether the read was ended by its time limit: a process that waits for a wedged pmxcfs, mostly.
func (a Answer) Hung() bool { return a.RC == 124 || a.RC == 137 }

// Found is the text of a read of something that may be missing: nil without a reason if it is. why says that it is there, or
// may be, and could not be read: what rests on it is not known.
func (a Answer) Found() (text []byte, why string) {
	switch {
	case a.RC == 0:
		return a.Text, ""
	case a.Hung():
		return nil, "no answer within its time limit"
	case !bytes.Contains(a.Text, []byte("No such file or directory")):
		return nil, string(bytes.TrimSpace(a.Text))
	}
	return nil, ""
}

// Parse takes the output of a snapshot script apart. It returns what could be read even when the output is cut
// or disturbed, with an error that says so.
func Parse(out []byte) (map[string]Answer, error) {
	frames := map[string]Answer{}
	marker, body, err := frameStart(out)
	if err != nil {
		return frames, err
	}
	for {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		name, isMarker := strings.CutPrefix(string(line), marker)
		if !isMarker {
			return frames, fmt.Errorf("snapshot is cut or disturbed at %q", firstLine(line))
		}
		if name == "end" {
			return frames, nil
		}
		text, after, found := bytes.Cut(rest, []byte("\n"+marker+"rc "))
		if !found {
			return frames, fmt.Errorf("snapshot is cut in %q", name)
		}
		status, next, found := bytes.Cut(after, []byte("\n"))
		rc, convErr := strconv.Atoi(string(status))
		if !found || convErr != nil {
			return frames, fmt.Errorf("snapshot is cut after %q", name)
		}
		frames[name] = Answer{Text: text, RC: rc}
		body = next
	}
}

// frameStart finds the first marker, which names the nonce. Lines before it are noise of a login script.
func frameStart(out []byte) (marker string, body []byte, err error) {
	for rest := out; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		nonce, ok := bytes.CutSuffix(line, []byte(" begin"))
		if ok && bytes.HasPrefix(nonce, []byte("@@")) && len(nonce) > 2 {
			return string(nonce) + " ", rest, nil
		}
	}
	return "", nil, fmt.Errorf("no snapshot in %q", firstLine(out))
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return string(line)
}
