package ceph_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site are n fresh nodes with two disks for OSDs and one for their databases, and with addresses for Ceph.
func site(n int, pve string) lab.Spec {
	s := lab.Spec{Seed: 1}
	for i := range n {
		s.Hosts = append(s.Hosts, lab.HostSpec{
			Name: fmt.Sprintf("pve%d", i+1), Address: fmt.Sprintf("192.0.2.%d", 11+i), Links: []string{fmt.Sprintf("10.0.1.%d", i+1), fmt.Sprintf("10.0.3.%d", i+1)}, PVE: pve, RootPassword: "secret",
			Disks: []disk.Spec{{ID: fmt.Sprintf("ata-A%d", i+1)}, {ID: fmt.Sprintf("ata-B%d", i+1), Rotational: true}, {ID: fmt.Sprintf("nvme-N%d", i+1), Size: 200 << 30}},
		})
	}
	return s
}

type labTest struct {
	*testing.T
	l *lab.Lab
}

// inLab runs a test in a lab in a bubble, where time passes by itself.
func inLab(t *testing.T, spec lab.Spec, test func(t *labTest)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := lab.New(spec)
		require.NoError(t, err)
		defer l.Close()
		test(&labTest{t, l})
	})
}

// sh runs a script on a node.
func (t *labTest) sh(host, script string) (out, errs string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = t.l.Machine(host).Exec(t.Context(), machine.Proc{Argv: []string{"/bin/sh", "-c", script}, Stdout: &stdout, Stderr: &stderr})
	return stdout.String(), stderr.String(), code
}

// ok runs a script that must succeed.
func (t *labTest) ok(host, script string) string {
	t.Helper()
	out, errs, code := t.sh(host, script)
	require.Equal(t, 0, code, "%s: %s%s", script, out, errs)
	return out
}

// eventually waits on the lab's clock.
func (t *labTest) eventually(what string, holds func() bool) {
	t.Helper()
	for range 800 {
		if holds() {
			return
		}
		require.NoError(t, t.l.Clock().Sleep(t.Context(), 2*time.Second))
	}
	t.Fatalf("never came: %s", what)
}

// form makes a cluster of all nodes.
func (t *labTest) form(n int) {
	t.Helper()
	t.ok("pve1", "pvecm create lab --link0 10.0.1.1")
	writable := func(host string) func() bool {
		return func() bool { v, _ := t.l.Node(host); return v.Writable }
	}
	t.eventually("pve1 is writable", writable("pve1"))
	out := t.ok("pve1", "pvesh get /cluster/config/join --output-format json")
	_, print, _ := strings.Cut(out, `"pve_fp":"`)
	print, _, _ = strings.Cut(print, `"`)
	for i := 2; i <= n; i++ {
		host := fmt.Sprintf("pve%d", i)
		t.ok(host, fmt.Sprintf("echo secret | pvecm add 192.0.2.11 --fingerprint %s --link0 10.0.1.%d", print, i))
		t.eventually("all see "+host, func() bool { v, _ := t.l.Node("pve1"); return len(v.Members) == i && v.Writable && writable(host)() })
	}
}

// ceph forms a whole Ceph cluster over the shell: packages, monitors, managers, OSDs.
func (t *labTest) ceph(n int) {
	t.Helper()
	t.form(n)
	for i := 1; i <= n; i++ {
		host := fmt.Sprintf("pve%d", i)
		t.ok(host, "yes | pveceph install --version squid --repository no-subscription")
	}
	t.ok("pve1", "pveceph init --network 10.0.3.0/24")
	for i := 1; i <= min(n, 3); i++ {
		host := fmt.Sprintf("pve%d", i)
		t.ok(host, "pveceph mon create")
		if i > 1 {
			t.ok(host, "pveceph mgr create")
		}
	}
	for i := 1; i <= n; i++ {
		host := fmt.Sprintf("pve%d", i)
		t.ok(host, fmt.Sprintf("pveceph osd create /dev/disk/by-id/ata-A%d --db_dev /dev/disk/by-id/nvme-N%d", i, i))
		t.ok(host, fmt.Sprintf("pveceph osd create /dev/disk/by-id/ata-B%d --db_dev /dev/disk/by-id/nvme-N%d", i, i))
	}
	t.eventually("all OSDs are up", func() bool {
		return strings.Contains(t.ok("pve1", "ceph osd stat"), fmt.Sprintf("%d osds: %d up", 2*n, 2*n))
	})
}

func TestThreeNodesFormACephCluster(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		out := t.ok("pve1", "pveceph pool create vm --add_storages 1 --pg_autoscale_mode on --pg_num 32")
		require.Contains(t, out, "pool vm: applying size = 3\n")
		clean := func() bool {
			out := t.ok("pve2", "ceph --connect-timeout 10 -s -f json")
			return strings.Contains(out, `"pgs_by_state":[{"count":33,"state_name":"active+clean"}]`) && strings.Contains(out, `"status":"HEALTH_OK"`)
		}
		t.eventually("everything is clean", clean)
	})
}
