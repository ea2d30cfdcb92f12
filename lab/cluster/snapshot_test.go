package cluster_test

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/machine"
)

// section is a part of the snapshot script's output.
type section struct {
	lines []string
	rc    string
}

// sections splits what the script printed at its "@@abc123 …" lines.
func sections(text string) map[string]section {
	out := map[string]section{}
	name := ""
	for line := range strings.SplitSeq(text, "\n") {
		rest, isMark := strings.CutPrefix(line, "@@abc123 ")
		switch {
		case isMark && strings.HasPrefix(rest, "rc "):
			s := out[name]
			s.rc = rest
			out[name] = s
			name = ""
		case isMark:
			name = rest
			out[name] = section{}
		case name != "" && line != "":
			s := out[name]
			s.lines = append(s.lines, line)
			out[name] = s
		}
	}
	return out
}

// shape blanks the numbers, which differ from cluster to cluster.
func shape(lines []string) []string {
	number := regexp.MustCompile(`\d+`)
	var out []string
	for _, line := range lines {
		out = append(out, number.ReplaceAllString(line, "N"))
	}
	return out
}

func TestSnapshotOfAClusterLooksLikeARealOne(t *testing.T) {
	recorded, err := os.ReadFile("../testdata/records/snapshot.txt")
	require.NoError(t, err)
	script, err := os.ReadFile("../testdata/records/snapshot.sh")
	require.NoError(t, err)
	want := sections(string(recorded))
	inLab(t, 3, func(s *site) {
		formed(s)
		var out bytes.Buffer
		code := s.net.machines[0].Exec(context.Background(), machine.Proc{
			Argv: []string{"/bin/sh", "-s", "--", "abc123"}, Stdin: bytes.NewReader(script), Stdout: &out, Stderr: &out,
		})
		require.Equal(t, 0, code)
		require.Contains(t, out.String(), "@@abc123 end\n")
		got := sections(out.String())
		exact := []string{"pmx", "f:corosync.conf", "coro", "f:ha/manager_status", "f:ha/resources.cfg", "f:ha/rules.cfg", "f:ceph.conf", "failed"}
		shapes := []string{"f:.members", "f:.version", "f:.vmlist", "links", "stats"}
		for _, name := range exact {
			require.Equal(t, want[name], got[name], name)
		}
		for _, name := range shapes {
			require.Equal(t, want[name].rc, got[name].rc, name)
			require.Equal(t, shape(want[name].lines), shape(got[name].lines), name)
		}
		// The date is the only line of the quorum that differs.
		require.Equal(t, want["quorum"].lines[3:], got["quorum"].lines[3:])
		units := strings.Join(got["units"].lines, "\n")
		for _, line := range []string{"Id=pve-cluster.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled", "Id=watchdog-mux.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=static", "Id=pve-guests.service\nLoadState=loaded\nActiveState=active\nSubState=exited\nUnitFileState=enabled"} {
			require.Contains(t, units, line)
		}
		lrm := regexp.MustCompile(`^\{.*"mode":"active".*"state":"wait_for_agent_lock".*\}$`)
		require.Len(t, got["lrm"].lines, 6)
		for i, line := range got["lrm"].lines {
			if i%2 == 1 {
				require.Regexp(t, lrm, line)
			}
		}
		rrd := regexp.MustCompile(`(?m)^pve-node-9\.0/pve1:\d+::\d+:[0-9.]+:\d+:[0-9.]+:[0-9.]+:\d+:\d+:\d+:\d+:\d+:\d+:\d+:\d+:\d+:\d+:[0-9.]+:[0-9.]+:[0-9.]+:[0-9.]+:[0-9.]+$`)
		require.Regexp(t, rrd, strings.Join(got["rrd"].lines, "\n"))
	})
}
