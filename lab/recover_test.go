package lab_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

// halfJoined is a lab in which pve2's join died right after pve1 had added it.
func halfJoined(t *testing.T) *lab.Lab {
	t.Helper()
	l := start(t, threeNodes())
	create(t, l)
	addFault(t, l, lab.Fault{Kind: "die", Target: "pve2", Phase: "join:added"})
	sh(t, l, "pve2", joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
	eventually(t, l, "pve1 lost its quorum", func() bool { v, _ := l.Node("pve1"); return !v.Writable })
	return l
}

func TestHalfDoneJoinIsFinishedByHand(t *testing.T) {
	l := halfJoined(t)
	_, errs, _ := sh(t, l, "pve1", "pvecm delnode pve2")
	require.Equal(t, "cluster not ready - no quorum?\n", errs)

	key, err := l.Machine("pve1").FS.ReadFile("/etc/corosync/authkey")
	require.NoError(t, err)
	conf, err := l.Machine("pve1").FS.ReadFile("/etc/pve/corosync.conf")
	require.NoError(t, err)
	require.NoError(t, l.Machine("pve2").FS.WriteFile("/etc/corosync/authkey", key, 0o400))
	require.NoError(t, l.Machine("pve2").FS.WriteFile("/etc/corosync/corosync.conf", conf, 0o644))
	_, errs, code := sh(t, l, "pve2", "systemctl stop pve-cluster && mv /var/lib/pve-cluster/config.db /root/old.db && systemctl start pve-cluster corosync")
	require.Equal(t, 0, code, errs)
	eventually(t, l, "pve2 is writable", writable(l, "pve2"))
	_, errs, code = sh(t, l, "pve2", "pvecm updatecerts --force 1 && systemctl reload-or-restart pvedaemon pveproxy")
	require.Equal(t, 0, code, errs)
	_, _, code = sh(t, l, "pve1", "test -s /etc/pve/nodes/pve2/pve-ssl.pem")
	require.Equal(t, 0, code)
	v, _ := l.Node("pve1")
	require.Equal(t, []string{"pve1", "pve2"}, v.Members)
}

func TestHalfDoneJoinIsTakenBackWithLoweredVotes(t *testing.T) {
	l := halfJoined(t)
	_, errs, code := sh(t, l, "pve1", "pvecm expected 1")
	require.Equal(t, 0, code, errs)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
	_, _, code = sh(t, l, "pve1", "pvecm delnode pve2")
	require.Equal(t, 0, code)
	eventually(t, l, "pve1 counts one vote", func() bool { v, _ := l.Node("pve1"); return v.Expected == 1 && v.Writable })

	out, _, _ := sh(t, l, "pve2", joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
	require.Contains(t, out, "successfully added node 'pve2'")
}

func TestJoinerIsRolledBackToItself(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	addFault(t, l, lab.Fault{Kind: "die", Target: "pve2", Phase: "join:stopped"})
	sh(t, l, "pve2", joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
	v, _ := l.Node("pve2")
	require.False(t, v.Mounted)
	_, errs, code := sh(t, l, "pve2", "systemctl stop pve-cluster corosync; rm -rf /etc/corosync/*; systemctl start pve-cluster")
	require.Equal(t, 0, code, errs)
	v, _ = l.Node("pve2")
	require.True(t, v.Mounted && v.Writable)
	require.Empty(t, v.Cluster, "its own database had not been removed yet")
}

func TestMemberIsSeparatedByLocalPmxcfs(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	out, _, _ := sh(t, l, "pve2", joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
	require.Contains(t, out, "successfully added")
	_, errs, code := sh(t, l, "pve2", "systemctl stop pve-cluster corosync && pmxcfs -l && rm /etc/pve/corosync.conf && rm -rf /etc/corosync/* && killall pmxcfs")
	require.Equal(t, 0, code, errs)
	eventually(t, l, "/etc/pve is unmounted", func() bool { v, _ := l.Node("pve2"); return !v.Mounted })
	_, errs, code = sh(t, l, "pve2", "systemctl start pve-cluster && rm -f /var/lib/corosync/*")
	require.Equal(t, 0, code, errs)
	v, _ := l.Node("pve2")
	require.True(t, v.Writable)
	require.Empty(t, v.Cluster)
	out, _, _ = sh(t, l, "pve2", "ls /etc/pve/nodes")
	require.Contains(t, out, "pve1\n", "what it had of the cluster is still there")
}
