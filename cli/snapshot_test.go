package cli_test

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// What a site has made, as commands on its machines tell it. Nothing of it depends on when and in which order it came
// to be; what does is blotted out.
const (
	// clusterState is what all members share.
	clusterState = `for f in corosync.conf storage.cfg datacenter.cfg replication.cfg jobs.cfg ceph.conf ha/resources.cfg ha/groups.cfg ha/rules.cfg ha/crm_commands; do
  if [ -e /etc/pve/$f ]; then echo "== $f"; cat /etc/pve/$f; fi
done
for f in /etc/pve/nodes/*/qemu-server/*.conf /etc/pve/nodes/*/lxc/*.conf; do
  if [ -e $f ]; then echo "== $f"; cat $f; fi
done
echo == keys; wc -l /etc/pve/priv/authorized_keys; ls /etc/pve/priv
echo == nodes; ls /etc/pve/nodes
echo == ha; ha-manager status | grep '^service\|^quorum' || true
if [ -e /etc/pve/ceph.conf ]; then
  echo == ceph; ceph -s; ceph osd dump | grep '^pool\|^flags'; ceph mon dump; ceph fs ls; ceph osd crush rule ls
  for s in vm; do echo == disks; pvesm list $s; done
fi
true`
	// hostState is what each machine has of its own. What a job printed that nobody was there to hear stays in /run until
	// the next restart, and is left out.
	hostState = `echo == packages; dpkg-query -W | cut -f 1
echo == files; ls -A /etc /etc/corosync /etc/apt/sources.list.d /var/lib /root /root/.ssh /tmp /run/lock/pxrun || true
wc -l /root/.ssh/authorized_keys
if [ -e /root/.ssh/known_hosts ]; then wc -l /root/.ssh/known_hosts; fi
if [ -e /var/lib/ceph ]; then echo == daemons; ls /var/lib/ceph/mon /var/lib/ceph/mgr /var/lib/ceph/mds; ls /var/lib/ceph/osd | wc -l; fi
echo == units; systemctl is-enabled corosync pve-cluster corosync-qdevice corosync-qnetd pve-ha-lrm pve-ha-crm || true
systemctl is-active corosync pve-cluster corosync-qdevice corosync-qnetd pve-ha-lrm pve-ha-crm || true
echo == jobs; systemctl list-units --all 'pxrun*' || true
true`
)

// blots take out what is another each time: ids, ages, amounts, and the order in which OSDs came to be.
var blots = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`(?m)^(\s*)(config_version:|epoch|pgs:|objects:|usage:|pools:|osd:|mgr:|last_changed|created|digest).*$`), "$1$2"},
	{regexp.MustCompile(`([0-9A-F]{2}:){5}[0-9A-F]{2}`), "MAC"},
	{regexp.MustCompile(`(?m)^ +known_hosts\.old\n`), ""}, // what ssh-keygen keeps of the file that it took a key out of
	{regexp.MustCompile(`ctime=\d+`), "ctime"},
	{regexp.MustCompile(`(pgp?_num|last_change|lfor) [0-9/]+`), "$1"},
	{regexp.MustCompile(`\(age [^)]*\)`), "age"},
	{regexp.MustCompile(`(?m)^ +\d+ (/|total)`), "$1"},
}

// snapshot reads what the site has made.
func (s *site) snapshot() string {
	s.t.Helper()
	hosts := s.hosts()
	var out strings.Builder
	out.WriteString("#### cluster\n" + s.ask(hosts[0], clusterState))
	for _, h := range hosts {
		out.WriteString("#### " + h + "\n" + s.ask(h, hostState))
	}
	text := out.String()
	for _, b := range blots {
		text = b.what.ReplaceAllString(text, b.with)
	}
	return text
}

// hosts are the machines of the lab, nodes first.
func (s *site) hosts() []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.state, "lab", "*", "lab.json"))
	require.NoError(s.t, err)
	require.Len(s.t, files, 1)
	access, err := lab.LoadAccess(filepath.Dir(files[0]))
	require.NoError(s.t, err)
	status, err := access.Status(s.t.Context())
	require.NoError(s.t, err)
	slices.SortStableFunc(status.Hosts, func(a, b lab.HostStatus) int { return cmp.Compare(rank(a), rank(b)) })
	var out []string
	for _, h := range status.Hosts {
		out = append(out, h.Name)
	}
	return out
}

func rank(h lab.HostStatus) int {
	if h.Node == nil {
		return 1
	}
	return 0
}

// ask runs a script on a machine, past pxrun's runs.
func (s *site) ask(host, script string) string {
	s.t.Helper()
	out, _ := s.run("exec", "-i", s.path, host, "--lab", "--", script)
	require.NotContains(s.t, out, "not simulated")
	return out
}

// sameAs waits until the site is as another one of its kind.
func (s *site) sameAs(wanted string) {
	s.t.Helper()
	got := ""
	s.tries(func() bool { got = s.snapshot(); return got == wanted })
	require.Equal(s.t, wanted, got)
}

// await waits until something is so.
func (s *site) await(what string, look func() (string, bool)) {
	s.t.Helper()
	saw, ok := "", false
	s.tries(func() bool { saw, ok = look(); return ok })
	require.True(s.t, ok, "%s never came; last:\n%s", what, saw)
}

// tries repeats a look until it succeeds or half a minute is over.
func (s *site) tries(look func() bool) {
	s.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return
		case <-s.t.Context().Done():
			return
		}
	}
}
