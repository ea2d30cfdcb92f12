package lab_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

func addFault(t *testing.T, l *lab.Lab, f lab.Fault) int {
	t.Helper()
	id, err := l.AddFault(f)
	require.NoError(t, err)
	return id
}

// create makes pve1 a cluster of one.
func create(t *testing.T, l *lab.Lab) {
	t.Helper()
	_, errs, _ := sh(t, l, "pve1", "pvecm create lab --link0 10.0.1.1 --link1 10.0.2.1")
	require.Empty(t, errs)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
}

// joinScript joins by the API path, which needs no keys.
func joinScript(t *testing.T, l *lab.Lab, links string) string {
	t.Helper()
	out, _, code := sh(t, l, "pve1", "pvesh get /cluster/config/join --output-format json")
	require.Equal(t, 0, code)
	_, print, _ := strings.Cut(out, `"pve_fp":"`)
	print, _, _ = strings.Cut(print, `"`)
	return "echo secret | pvecm add 192.0.2.11 --fingerprint " + print + " " + links
}

func TestFaultsThatKeepANodeFromJoining(t *testing.T) {
	const links = "--link0 10.0.1.2 --link1 10.0.2.2"
	tests := []struct {
		name     string
		fault    lab.Fault
		links    string
		out, err string
	}{
		{"stale key", lab.Fault{Kind: "stale-authkey", Target: "pve2"}, links, "* authentication key '/etc/corosync/authkey' already exists", "Check if node may join a cluster failed!"},
		{"guests", lab.Fault{Kind: "guests", Target: "pve2", Value: "100,200"}, links, "* this host already contains virtual guests", "Check if node may join a cluster failed!"},
		{"link address missing", lab.Fault{Kind: "link-missing", Target: "pve2", Value: "10.0.2.2"}, links, "* link1: cannot use IP '10.0.2.2', not found on local node!", "Check if node may join a cluster failed!"},
		{"other links than the cluster", lab.Fault{}, "--link0 10.0.1.2", "An error occurred on the cluster node: corosync: link 1 exists in cluster config but wasn't specified for new node", "Cluster join aborted!"},
		{"lock held", lab.Fault{Kind: "cfs-lock", Target: "pve1"}, links, "An error occurred on the cluster node: cfs-lock 'file-corosync_conf' error: got lock request timeout", "Cluster join aborted!"},
		{"lie", lab.Fault{Kind: "lie", Target: "pve2", Match: "pvecm add", Value: "500 internal error"}, links, "", "500 internal error"},
		{"killed", lab.Fault{Kind: "die", Target: "pve2", Phase: "join:connect"}, links, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := start(t, threeNodes())
			create(t, l)
			if test.fault.Kind != "" {
				addFault(t, l, test.fault)
			}
			out, errs, code := sh(t, l, "pve2", joinScript(t, l, test.links))
			require.Contains(t, out, test.out)
			// Whether a shell says "Killed" of a program that was depends on the shell.
			require.Equal(t, test.err, strings.TrimSpace(strings.Replace(errs, "Killed", "", 1)))
			if test.name != "killed" {
				require.Equal(t, 0, code, "pvecm add says 0 whatever happens")
			}
			v, _ := l.Node("pve1")
			require.Equal(t, 1, v.ConfigVersion)
			require.NoError(t, l.ClearFault(0))
			require.Empty(t, l.Faults())
		})
	}
}

func TestJoinThatDiesHalfWayLeavesWhatARealOneLeaves(t *testing.T) {
	tests := []struct {
		phase             string
		listed, onlyFiles bool
		mounted           bool
	}{
		{phase: "join:added", listed: true, mounted: true},
		{phase: "join:stopped", listed: true, onlyFiles: true},
	}
	for _, test := range tests {
		t.Run(test.phase, func(t *testing.T) {
			l := start(t, threeNodes())
			create(t, l)
			addFault(t, l, lab.Fault{Kind: "die", Target: "pve2", Phase: test.phase})
			out, _, _ := sh(t, l, "pve2", joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
			require.NotContains(t, out, "successfully added")
			eventually(t, l, "pve1 lost its quorum", func() bool { v, _ := l.Node("pve1"); return !v.Writable })
			conf, _, _ := sh(t, l, "pve1", "cat /etc/pve/corosync.conf")
			require.Equal(t, test.listed, strings.Contains(conf, "name: pve2"))
			_, _, code := sh(t, l, "pve2", "test -f /etc/corosync/authkey")
			require.Equal(t, test.onlyFiles, code == 0)
			v, _ := l.Node("pve2")
			require.Equal(t, test.mounted, v.Mounted)
		})
	}
}

func TestJoinHangsWhileCorosyncIsBlockedAndGoesOnAfterwards(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	id := addFault(t, l, lab.Fault{Kind: "quorum-hang", Target: "pve2"})
	done := make(chan string, 1)
	script := joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2")
	go func() { out, _, _ := sh(t, l, "pve2", script); done <- out }()
	eventually(t, l, "pve2's corosync runs alone", func() bool { v, _ := l.Node("pve2"); return v.CorosyncRunning })
	require.NoError(t, l.Clock().Sleep(t.Context(), time.Minute))
	select {
	case out := <-done:
		t.Fatalf("the join ended: %s", out)
	default:
	}
	require.NoError(t, l.ClearFault(id))
	require.Contains(t, <-done, "waiting for quorum...OK\n")
	v, _ := l.Node("pve1")
	require.Equal(t, []string{"pve1", "pve2"}, v.Members)
}

func TestHangingPmxcfsEndsWithTheCommand(t *testing.T) {
	l := start(t, threeNodes())
	id := addFault(t, l, lab.Fault{Kind: "pmxcfs-hang", Target: "pve1"})
	_, _, code := sh(t, l, "pve1", "timeout 5 cat /etc/pve/.members")
	require.Equal(t, 124, code)
	require.NoError(t, l.ClearFault(id))
	_, _, code = sh(t, l, "pve1", "timeout 5 cat /etc/pve/.members")
	require.Equal(t, 0, code)
}

func TestWhatWaitsForPmxcfsGoesOnWhenItAnswersAgain(t *testing.T) {
	l := start(t, threeNodes())
	id := addFault(t, l, lab.Fault{Kind: "pmxcfs-hang", Target: "pve1"})
	done := make(chan int)
	go func() {
		_, _, code := sh(t, l, "pve1", "touch /run/asks; cat /etc/pve/.members")
		done <- code
	}()
	require.Eventually(t, func() bool { _, _, code := sh(t, l, "pve1", "test -e /run/asks"); return code == 0 }, time.Minute, time.Millisecond)
	require.NoError(t, l.ClearFault(id))
	require.Zero(t, <-done)
}

func TestFullDisk(t *testing.T) {
	l := start(t, threeNodes())
	addFault(t, l, lab.Fault{Kind: "disk-full", Target: "pve1"})
	_, errs, code := sh(t, l, "pve1", "echo x >/root/x")
	require.NotEqual(t, 0, code)
	require.Contains(t, errs, "No space left on device")
	_, _, code = sh(t, l, "pve1", "echo x >/run/x")
	require.Equal(t, 0, code, "/run is in memory")
}

func TestFaultAtTheSecondCallOnly(t *testing.T) {
	l := start(t, threeNodes())
	id := addFault(t, l, lab.Fault{Kind: "fail", Match: "^pvesh get", Value: "7:no answer", Nth: 2})
	for i, want := range []int{0, 7, 0} {
		_, _, code := sh(t, l, "pve1", "pvesh get /version")
		require.Equal(t, want, code, "call %d", i+1)
	}
	require.Equal(t, 1, l.Faults()[0].Hits)
	require.NoError(t, l.ClearFault(id))
	require.Error(t, l.ClearFault(id))
}

func TestFaultByChanceFollowsTheSeed(t *testing.T) {
	spec := threeNodes()
	spec.Hosts = spec.Hosts[:1]
	l := start(t, spec)
	again, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(again.Close)
	var outcomes [2]string
	for i, one := range []*lab.Lab{l, again} {
		addFault(t, one, lab.Fault{Kind: "fail", Match: "true$", Every: true, Chance: 0.5})
		for range 20 {
			_, _, code := sh(t, one, "pve1", "/bin/true")
			outcomes[i] += fmt.Sprint(code)
		}
	}
	require.Equal(t, outcomes[0], outcomes[1])
}

func TestForeignConfKeepsANodeFromCreating(t *testing.T) {
	l := start(t, threeNodes())
	addFault(t, l, lab.Fault{Kind: "foreign-conf", Target: "pve1"})
	_, errs, code := sh(t, l, "pve1", "pvecm create lab")
	require.Equal(t, 255, code)
	require.Equal(t, "cluster config '/etc/pve/corosync.conf' already exists\n", errs)
}

func TestFaultAfterATime(t *testing.T) {
	l := start(t, threeNodes())
	addFault(t, l, lab.Fault{Kind: "power-off", Target: "pve3", After: 20 * time.Second})
	require.True(t, l.Machine("pve3").Up())
	eventually(t, l, "pve3 is off", func() bool { return !l.Machine("pve3").Up() })
	require.NoError(t, l.ClearFault(0))
	eventually(t, l, "pve3 has booted", func() bool { return l.Machine("pve3").Up() })
}

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	l := start(t, threeNodes())
	for want, f := range map[string]lab.Fault{
		"unknown fault":       {Kind: "earthquake"},
		"no host":             {Kind: "power-off", Target: "pve9"},
		"needs match=":        {Kind: "fail", Target: "pve1"},
		"missing closing":     {Kind: "fail", Match: "("},
		"invalid duration":    {Kind: "skew", Target: "pve1", Value: "soon"},
		"unknown phase":       {Kind: "die", Target: "pve1", Phase: "join:later"},
		"neither 8 nor 9":     {Kind: "version", Target: "pve1", Value: "7.0.0"},
		"no host \"pve9\" in": {Kind: "partition", Value: "pve1|pve9"},
	} {
		_, err := l.AddFault(f)
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, l.Faults())
}

func TestPartitionSkewRTTAndVersionAreVisible(t *testing.T) {
	l := start(t, threeNodes())
	before := l.Machine("pve2").Now()
	addFault(t, l, lab.Fault{Kind: "skew", Target: "pve2", Value: "1h"})
	require.Greater(t, l.Machine("pve2").Now().Sub(before), 59*time.Minute)
	addFault(t, l, lab.Fault{Kind: "version", Target: "pve2", Value: "8.4.1"})
	out, _, _ := sh(t, l, "pve2", "pveversion; dpkg-query -W pve-manager")
	require.Contains(t, out, "pve-manager/8.4.1/")
	require.Contains(t, out, "pve-manager\t8.4.1\n")
	require.NoError(t, l.ClearFault(0))
	out, _, _ = sh(t, l, "pve2", "pveversion")
	require.Contains(t, out, "pve-manager/9.1.8/")
}

func TestControlSocketServesAnotherProcess(t *testing.T) {
	l := start(t, threeNodes())
	dir := t.TempDir()
	_, err := lab.LoadAccess(dir)
	require.ErrorIs(t, err, lab.ErrNoLab)
	_, err = l.Access(dir)
	require.NoError(t, err)
	a, err := lab.LoadAccess(dir)
	require.NoError(t, err)
	ctx := t.Context()
	s, err := a.Status(ctx)
	require.NoError(t, err)
	require.Len(t, s.Hosts, 3)
	require.Equal(t, "pve1", s.Hosts[0].Node.Name)
	id, err := a.AddFault(ctx, lab.Fault{Kind: "guests", Target: "pve1"})
	require.NoError(t, err)
	list, err := a.Faults(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = a.AddFault(ctx, lab.Fault{Kind: "earthquake"})
	require.ErrorContains(t, err, "unknown fault")
	require.NoError(t, a.ClearFault(ctx, id))
	sh(t, l, "pve1", "touch /root/new")
	writes, err := a.Writes(ctx, true)
	require.NoError(t, err)
	require.Equal(t, "/root/new", writes[0].Path)
	writes, err = a.Writes(ctx, false)
	require.NoError(t, err)
	require.Empty(t, writes)
	_, err = a.Ask(ctx, lab.Request{Op: "sing"})
	require.ErrorContains(t, err, "unknown request")
	require.NoError(t, a.Down(ctx))
	require.NoError(t, l.Wait(ctx))
	l.Close()
	_, err = a.Status(context.Background())
	require.ErrorIs(t, err, lab.ErrNoLab)
	_, err = lab.LoadAccess(dir)
	require.ErrorIs(t, err, lab.ErrNoLab)
}
