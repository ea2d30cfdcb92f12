package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// newArbiterLab starts nodes and hosts beside them, which may become arbiters.
func newArbiterLab(t *testing.T, nodes int, hosts ...string) *labTarget {
	t.Helper()
	address := func(i int) string { return fmt.Sprintf("192.0.2.%d", 50+i) }
	target := newLab(t, nodes, func(s *lab.Spec) {
		for i, name := range hosts {
			s.Hosts = append(s.Hosts, lab.HostSpec{Name: name, Address: address(i)})
		}
	})
	return target
}

const wantDevice = `arbiter = "arbiter"`

// on runs a script on a machine of the lab, which must succeed.
func (t *labTarget) on(host, script string) string {
	t.TB.Helper()
	r, err := t.Conns[host].Run(t.TB.Context(), transport.Command{Script: script, Mutates: true})
	require.NoError(t.TB, err)
	require.Zero(t.TB, r.Exit, "%s%s", r.Stdout, r.Stderr)
	return r.Out()
}

// grown makes a cluster of all nodes.
func (t *labTarget) grown() *labTarget {
	t.TB.Helper()
	t.form()
	t.Converge(nodeJoin(), ``)
	return t
}

// proved checks that the QDevice counts.
func (t *labTarget) proved(bearable int) {
	t.TB.Helper()
	report := pve.Status(t.states(), pve.WantedCluster(t.In, t.Whole))
	require.True(t.TB, report.Healthy(), "%+v", report.Findings)
	require.Equal(t.TB, bearable, report.Votes.Bearable)
	require.True(t.TB, report.Votes.DeviceOnline)
}

func (t *labTarget) refused(m module.Module, src, want string) {
	t.TB.Helper()
	_, err := t.Plan(m, src)
	require.ErrorContains(t.TB, err, want)
	var refusal *module.Refusal
	require.ErrorAs(t.TB, err, &refusal, "%v", err)
}

func TestLabQDeviceFromNothing(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 2, "arbiter").grown()
	require.Equal(t, []string{
		"install corosync-qdevice", "install corosync-qdevice", "install corosync-qnetd", "let root of pve1 log in to arbiter by key", "set the QDevice 192.0.2.50 up",
	}, target.Converge(qdevice(), wantDevice))
	target.proved(1)
	out, err := qdevice().Read(t.Context(), target, testkit.Args(t, qdevice(), wantDevice))
	require.NoError(t, err)
	require.Equal(t, qdeviceOut{Device: "192.0.2.50", Algorithm: "ffsplit", Votes: 3, Expected: 3, Quorum: 2}, out)
	require.Contains(t, target.on("arbiter", "cat /root/.ssh/authorized_keys"), "root@pve1")

	require.Equal(t, []string{"take the QDevice 192.0.2.50 off"}, target.Converge(qdevice(), `ensure = "absent"`))
	require.Nil(t, target.states()[0].Conf.Device)
	require.Equal(t, []string{"set the QDevice 192.0.2.50 up"}, target.Converge(qdevice(), wantDevice), "packages and keys are still there")
}

func TestLabNodesJoinAClusterWithAQDevice(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4, "arbiter")
	for i := 1; i <= 4; i++ {
		target.on(fmt.Sprintf("pve%d", i), "apt-get install -y corosync-qdevice")
	}
	target.form()
	target.Converge(nodeJoin(), `nodes = ["pve2"]`)
	target.Converge(qdevice(), wantDevice)
	require.Equal(t, []string{
		"take the QDevice 192.0.2.50 off while nodes join", `join pve3 to cluster "lab"`, `join pve4 to cluster "lab"`, "set the QDevice 192.0.2.50 up again",
	}, target.Converge(nodeJoin(), ``))
	target.proved(2)
	require.Empty(t, target.Converge(qdevice(), wantDevice))
}

// The node that had set the device up is not the one that sets it up again, and no key of it is on the arbiter.
func TestLabQDeviceIsPutBackFromANodeThatIsLetInFirst(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4, "arbiter")
	for i := 1; i <= 4; i++ {
		target.on(fmt.Sprintf("pve%d", i), "apt-get install -y corosync-qdevice")
	}
	target.form()
	target.Converge(nodeJoin(), `nodes = ["pve2"]`)
	target.Converge(qdevice(), wantDevice)
	target.on("arbiter", "rm /root/.ssh/authorized_keys")
	target.Converge(nodeJoin(), ``)
	target.proved(2)
}

func TestLabQDeviceForecasts(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 2, "arbiter")
	planned := func(m module.Module, src string) {
		t.Helper()
		changes, err := target.Plan(m, src)
		require.NoError(t, err)
		for _, c := range changes {
			target.Earlier = append(target.Earlier, module.Planned{Module: m.Spec().Name, Change: c})
		}
	}
	target.refused(qdevice(), wantDevice, `no node is a member of a cluster "lab"`)
	planned(clusterCreate(), ``)
	target.refused(qdevice(), wantDevice, "1 nodes, an odd number")
	planned(nodeJoin(), ``)
	changes, err := target.Plan(qdevice(), wantDevice)
	require.NoError(t, err)
	require.Len(t, changes, 5)
	require.Equal(t, "the cluster is made by an earlier task", changes[4].Predicted)
	require.Equal(t, "set the QDevice 192.0.2.50 up", changes[4].Summary)

	changes, err = target.Plan(qdevice(), `ensure = "absent"`)
	require.NoError(t, err)
	require.Empty(t, changes)
}

// Wherever pvecm qdevice dies, the next run ends in the same state.
func TestLabQDeviceThatDiesIsFinished(t *testing.T) {
	for _, phase := range []string{"qnetd", "ca", "request", "signed", "imported", "conf", "daemon", "reload"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			target := newArbiterLab(t, 2, "arbiter").grown()
			target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: "qdevice:" + phase})
			changes, err := target.Plan(qdevice(), wantDevice)
			require.NoError(t, err)
			require.Error(t, target.Apply(changes))
			target.Converge(qdevice(), wantDevice)
			target.proved(1)
		})
	}
	for _, phase := range []string{"conf", "stores"} {
		t.Run("remove "+phase, func(t *testing.T) {
			t.Parallel()
			target := newArbiterLab(t, 2, "arbiter").grown()
			target.Converge(qdevice(), wantDevice)
			target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: "qdevice-remove:" + phase})
			changes, err := target.Plan(qdevice(), `ensure = "absent"`)
			require.NoError(t, err)
			require.Error(t, target.Apply(changes))
			target.Converge(qdevice(), `ensure = "absent"`)
			for _, s := range target.states() {
				require.False(t, s.DeviceStore)
				require.False(t, s.Units["corosync-qdevice"].Running())
			}
			target.Converge(qdevice(), wantDevice)
			target.proved(1)
		})
	}
}

func TestLabQDeviceOldCertificatesOnAnyNode(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"pve1", "pve2"} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			target := newArbiterLab(t, 2, "arbiter").grown()
			target.Fault(lab.Fault{Kind: "stale-nssdb", Target: node})
			require.Contains(t, target.Converge(qdevice(), wantDevice), "remove the certificates of an earlier QDevice from "+node)
			target.proved(1)
		})
	}
}

func TestLabQDeviceBadDaysAreRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*labTarget)
		want  string
	}{
		{"a node offline", func(l *labTarget) { l.Fault(lab.Fault{Kind: "corosync-down", Target: "pve2"}) }, "pve2"},
		{"keys between nodes", func(l *labTarget) { l.on("pve1", "rm /etc/pve/nodes/pve2/ssh_known_hosts") }, "root cannot log in to pve2: "},
		{"no root on the arbiter", func(l *labTarget) {
			l.on("arbiter", "echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/hard.conf")
		}, "PermitRootLogin no"},
		{"pmxcfs hangs", func(l *labTarget) { l.Fault(lab.Fault{Kind: "pmxcfs-hang", Target: "pve2"}) }, "no answer within its time limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := newArbiterLab(t, 2, "arbiter").grown()
			tt.spoil(target)
			target.refused(qdevice(), wantDevice, tt.want)
		})
	}
}

func TestLabQDeviceOfAnOddCluster(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 3, "arbiter").grown()
	target.refused(qdevice(), wantDevice, "give the arbiter 2 votes (algorithm lms)")
	require.Empty(t, target.Converge(qdevice(), `ensure = "absent"`))
}

func TestLabQDeviceTwoOfFourNodesAway(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4, "arbiter").grown()
	target.Converge(qdevice(), wantDevice)
	target.Fault(lab.Fault{Kind: "corosync-down", Target: "pve3"})
	target.Fault(lab.Fault{Kind: "corosync-down", Target: "pve4"})
	require.NoError(t, target.WaitFor(t.Context(), module.Condition{Name: "they are gone", Timeout: 60e9, Check: func(ctx ctx) error {
		if s := target.states()[0]; s.Quorum == nil || s.Quorum.Nodes != 2 {
			return fmt.Errorf("%+v", s.Quorum)
		}
		return nil
	}}))
	s := target.states()[0]
	require.True(t, s.Writable, "the arbiter keeps the half that it chose going: %+v", s.Quorum)
	target.refused(qdevice(), `ensure = "absent"`, "does not see pve3 online")
	_, err := target.Plan(qdevice(), wantDevice)
	require.ErrorContains(t, err, "pve3", "it is not proved on a node whose corosync does not answer")
}

func TestLabQDeviceArbiterAway(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 2, "arbiter").grown()
	arbiter := target.Conns["arbiter"]
	target.Conns["arbiter"] = downConn{}
	_, err := target.Plan(qdevice(), wantDevice)
	require.ErrorContains(t, err, "the arbiter must answer to be set up")

	target.Conns["arbiter"] = arbiter
	// It goes away while the certificates are exchanged.
	target.Fault(lab.Fault{Kind: "power-off", Target: "arbiter", Match: "qnetd-certutil -s"})
	changes, err := target.Plan(qdevice(), wantDevice)
	require.NoError(t, err)
	err = target.Apply(changes)
	require.ErrorContains(t, err, "it ended at: ")
	require.NoError(t, target.Lab.ClearFault(0))
	target.settled("arbiter")
	require.Equal(t, []string{
		"remove the certificates of an earlier QDevice from pve1", "remove the certificates of an earlier QDevice from pve2", "set the QDevice 192.0.2.50 up",
	}, target.Converge(qdevice(), wantDevice))
	target.proved(1)

	// A device that votes does not need its arbiter to be asked.
	target.Conns["arbiter"] = downConn{}
	require.Empty(t, target.Converge(qdevice(), wantDevice))
}

func TestLabQDeviceIsMended(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 2, "arbiter", "other").grown()
	target.Converge(qdevice(), wantDevice)

	target.on("arbiter", "systemctl disable --now corosync-qnetd")
	target.silent()
	require.Equal(t, []string{"start corosync-qnetd on arbiter, now and at each boot", "see the QDevice vote on every node"}, target.Converge(qdevice(), wantDevice))

	target.on("pve2", "systemctl disable --now corosync-qdevice")
	require.Equal(t, []string{"start corosync-qdevice on pve2, now and at each boot", "see the QDevice vote on every node"}, target.Converge(qdevice(), wantDevice))

	target.on("pve2", "systemctl disable --now corosync-qdevice; apt-get remove -y corosync-qdevice")
	require.Equal(t, []string{"install corosync-qdevice", "start corosync-qdevice on pve2, now and at each boot", "see the QDevice vote on every node"}, target.Converge(qdevice(), wantDevice))

	// The arbiter was installed anew: it does not know the cluster's certificates.
	target.on("arbiter", "systemctl stop corosync-qnetd; rm -rf /etc/corosync/qnetd; systemctl start corosync-qnetd")
	target.silent()
	changes, err := target.Plan(qdevice(), wantDevice+"\nquorum_timeout = \"20s\"")
	require.NoError(t, err)
	require.Equal(t, []string{"see the QDevice vote on every node"}, testkit.Summaries(changes))
	require.ErrorContains(t, target.Apply(changes), "does not vote")
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "replace = true sets it up anew; without it the cluster bears the loss of 0 nodes")
	require.Equal(t, []string{"take the QDevice 192.0.2.50 off", "set the QDevice 192.0.2.50 up"}, target.Converge(qdevice(), wantDevice+"\nreplace = true"))
	target.proved(1)

	// Another arbiter.
	target.refused(qdevice(), `arbiter = "other"`, "the QDevice that is configured is on 192.0.2.50")
	summaries := target.Converge(qdevice(), "arbiter = \"other\"\nreplace = true")
	require.Equal(t, "take the QDevice 192.0.2.50 off", summaries[0])
	require.Equal(t, "set the QDevice 192.0.2.51 up", summaries[len(summaries)-1])
	target.proved(1)
}

// silent waits until the device casts no vote.
func (t *labTarget) silent() {
	t.TB.Helper()
	require.NoError(t.TB, t.WaitFor(t.TB.Context(), module.Condition{Name: "the device is silent", Timeout: 60e9, Check: func(ctx) error {
		for _, s := range t.states() {
			if voteOf(s) == nil {
				return fmt.Errorf("%s still has its vote", s.Host)
			}
		}
		return nil
	}}))
}

// settled waits until a machine has booted.
func (t *labTarget) settled(host string) {
	t.TB.Helper()
	require.NoError(t.TB, t.WaitFor(t.TB.Context(), module.Condition{Name: host + " is up", Timeout: 600e9, Check: func(ctx ctx) error {
		r, err := t.Conns[host].Run(ctx, transport.Command{Argv: []string{"systemctl", "is-active", "ssh"}})
		if err == nil && !strings.Contains(r.Out(), "active") {
			err = fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		return err
	}}))
}
