package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

const removePve4 = "node = \"pve4\"\nconfirm = \"pve4\""

// gone powers a node off and waits until the others have noticed. Nobody can reach it any more.
func (t *labTarget) gone(host string) {
	t.TB.Helper()
	t.Fault(lab.Fault{Kind: "power-off", Target: host})
	t.Conns[host] = downConn{}
	t.unseen(host)
}

// unseen waits until the others see a node offline.
func (t *labTarget) unseen(host string) {
	t.TB.Helper()
	require.NoError(t.TB, t.WaitFor(t.TB.Context(), module.Condition{Name: host + " is offline", Timeout: 120e9, Check: func(ctx) error {
		for _, s := range t.states() {
			if s.Err == nil && s.Host != host && s.Members.Online(host) {
				return fmt.Errorf("%s still sees it", s.Host)
			}
		}
		return nil
	}}))
}

func TestLabNodeIsRemoved(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4).grown()
	target.on("pve1", "printf 'pve4 ssh-rsa AAAAhost4\\n10.0.9.4 ssh-rsa AAAAhost4\\npve1 ssh-rsa AAAAhost1\\n' >/etc/pve/priv/known_hosts")
	target.refused(nodeRemove(), removePve4, "pve4 is online")
	target.gone("pve4")

	require.Equal(t, []string{`remove pve4 from cluster "lab"`}, target.Converge(nodeRemove(), removePve4))
	warned := strings.Join(target.Warnings(), "\n")
	require.Contains(t, warned, "left behind: /etc/pve/nodes/pve4; clean = true removes it")
	require.Contains(t, warned, "pve4 is still in the inventory")
	out, err := nodeRemove().Read(t.Context(), target, testkit.Args(t, nodeRemove(), removePve4))
	require.NoError(t, err)
	require.Equal(t, nodeRemoveOut{Members: []string{"pve1", "pve2", "pve3"}, Leftovers: []string{
		"one key of root@pve4 in /etc/pve/priv/authorized_keys", "one line about pve4 in /etc/pve/priv/known_hosts", "/etc/pve/nodes/pve4",
	}}, out)

	require.Equal(t, []string{"remove the keys of root@pve4", "forget the host keys of pve4", "remove /etc/pve/nodes/pve4"}, target.Converge(nodeRemove(), removePve4+"\nclean = true"))
	require.NotContains(t, target.on("pve2", "cat /etc/pve/priv/authorized_keys"), "root@pve4")
	require.Contains(t, target.on("pve2", "cat /etc/pve/priv/authorized_keys"), "root@pve1")
	require.Equal(t, "pve1\npve2\npve3", target.on("pve2", "ls /etc/pve/nodes"))

	target.In.Nodes = target.In.Nodes[:3]
	require.Empty(t, target.Converge(nodeRemove(), removePve4+"\nclean = true"))
	require.Empty(t, target.Converge(preflight(time.Now), `for = "running"`))
}

func TestLabNodeThatIsNotOffOrNotEmptyIsNotRemoved(t *testing.T) {
	t.Parallel()
	t.Run("it answers a ping", func(t *testing.T) {
		t.Parallel()
		target := newArbiterLab(t, 4).grown()
		target.Fault(lab.Fault{Kind: "corosync-down", Target: "pve4"})
		target.unseen("pve4")
		target.refused(nodeRemove(), removePve4, "answers a ping")
	})
	t.Run("nobody can ask", func(t *testing.T) {
		t.Parallel()
		target := newArbiterLab(t, 4).grown()
		target.gone("pve4")
		_, err := pingNode(t.Context(), target, "pve1", []string{"192.0.2.200.x"})
		require.ErrorContains(t, err, "none of 192.0.2.200.x could be asked")
	})
	t.Run("guests", func(t *testing.T) {
		t.Parallel()
		target := newArbiterLab(t, 4).grown()
		target.Fault(lab.Fault{Kind: "guests", Target: "pve4", Value: "100"})
		target.gone("pve4")
		target.refused(nodeRemove(), removePve4+"\nclean = true", "guest 100 on it")
	})
	t.Run("two of four are away", func(t *testing.T) {
		t.Parallel()
		target := newArbiterLab(t, 4).grown()
		target.gone("pve3")
		target.gone("pve4")
		target.refused(nodeRemove(), removePve4, "no member that answers is quorate")
	})
	t.Run("it comes back after the plan", func(t *testing.T) {
		t.Parallel()
		target := newArbiterLab(t, 4).grown()
		target.gone("pve4")
		changes, err := target.Plan(nodeRemove(), removePve4)
		require.NoError(t, err)
		require.NoError(t, target.Lab.ClearFault(0))
		require.NoError(t, target.WaitFor(t.Context(), module.Condition{Name: "pve4 is back", Timeout: 600e9, Check: func(ctx) error {
			if s := target.states()[0]; !s.Members.Online("pve4") {
				return fmt.Errorf("offline")
			}
			return nil
		}}))
		require.ErrorContains(t, target.Apply(changes), "pve4 is online")
	})
}

func TestLabRemovalThatDiesIsFinished(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4, "arbiter").grown()
	target.Converge(qdevice(), wantDevice)
	target.gone("pve4")
	target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: "delnode:killed"})
	target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: "qdevice-remove:conf"})
	for range 3 {
		changes, err := target.Plan(nodeRemove(), removePve4)
		require.NoError(t, err)
		if target.Apply(changes) == nil {
			break
		}
	}
	require.Empty(t, target.Converge(nodeRemove(), removePve4))
	require.Nil(t, target.states()[0].Conf.Device, "three nodes need no QDevice")
	require.Empty(t, target.states()[0].QDeviceNote)
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "with 3 nodes the QDevice 192.0.2.50 stays off")
}

// The other of two nodes is lost for good: the arbiter's vote is what lets the last one be master of its house again.
func TestLabTheOtherOfTwoNodesIsRemoved(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 2, "arbiter").grown()
	target.Converge(qdevice(), wantDevice)
	target.gone("pve2")
	require.Equal(t, []string{
		`remove pve2 from cluster "lab"`, "take the QDevice 192.0.2.50 off, since all nodes are online then", "forget the note of a QDevice that was taken off",
		"remove the keys of root@pve2", "remove /etc/pve/nodes/pve2",
	}, target.Converge(nodeRemove(), "node = \"pve2\"\nconfirm = \"pve2\"\nclean = true"))
	s := target.states()[0]
	require.True(t, s.Writable)
	require.Equal(t, 1, s.Quorum.Expected)
}

// A key file without any key would lock everybody out.
func TestLabTheLastKeyIsNotDropped(t *testing.T) {
	t.Parallel()
	target := newLab(t, 1, nil)
	target.on("pve1", "printf 'ssh-rsa AAAA root@pve4\\n' >/etc/pve/priv/authorized_keys")
	err := dropLines(t.Context(), target, "pve1", "/etc/pve/priv/authorized_keys", []string{"ssh-rsa AAAA root@pve4"})
	require.ErrorContains(t, err, "no key would be left")
	require.Contains(t, target.on("pve1", "cat /etc/pve/priv/authorized_keys"), "root@pve4")
}

func TestNodeRemoveArguments(t *testing.T) {
	for src, want := range map[string]string{
		"node = \"pve4\"\nconfirm = \"pve3\"":   `write confirm = "pve4"`,
		"node = \"pve 4\"\nconfirm = \"pve 4\"": "no valid node name",
		`node = "pve4"`:                         "confirm",
	} {
		_, problems := testkit.TryArgs(t, nodeRemove(), src)
		require.Contains(t, strings.Join(problems, "\n"), want)
	}
}

// What is cleaned away goes through Proxmox's tools.
func TestLeftoversAreCleanedByTheTools(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2", "pve3")
	w.left = "@@n begin\n@@n groups\ngroup: db\n\tnodes pve1:2,pve9\n\n@@n rc 0\n@@n rules\nnode-affinity: r\n\tnodes pve9:1,pve2\n\tresources vm:100\n\n@@n rc 0\n" +
		"@@n storage\nnfs: share\n\tnodes pve9,pve3\n\n@@n rc 0\n@@n replication\nlocal: 100-0\n\ttarget pve9\n\n@@n rc 0\n@@n jobs\nvzdump: nightly\n\tnode pve9\n\n@@n rc 0\n@@n end\n"
	target := w.target()
	changes := testkit.Plan(t, nodeRemove(), target, "node = \"pve9\"\nconfirm = \"pve9\"\nclean = true")
	require.NoError(t, testkit.Apply(t.Context(), target, changes))
	require.Equal(t, []string{
		"pve1: ha-manager groupset db --nodes pve1:2", "pve1: ha-manager rules set node-affinity r --nodes pve2", "pve1: pvesm set share --nodes pve3", "pve1: pvesr delete 100-0 --keep 1",
	}, w.ran("pve1: "))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "backup job nightly runs on pve9 only; say where it shall run")
}

// The lists that name the node are mended by Proxmox's own tools, as the lab has them.
func TestLabListsThatNameARemovedNode(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4).grown()
	target.Fault(lab.Fault{Kind: "guests", Target: "pve1", Value: "100"})
	for i := 1; i <= 4; i++ {
		// Only the configuration matters here: a watchdog at this speed would reset nodes of a busy machine.
		target.on(fmt.Sprintf("pve%d", i), "systemctl stop pve-ha-lrm pve-ha-crm")
	}
	target.on("pve1", "ha-manager add vm:100 --state stopped && ha-manager rules add node-affinity keep --resources vm:100 --nodes pve1:2,pve4")
	target.on("pve1", "pvesm add dir extra --path /srv/extra --nodes pve2,pve4")
	target.on("pve1", "printf 'local: 100-0\\n\\ttarget pve4\\n\\tschedule */15\\n\\tsource pve1\\n\\n' >/etc/pve/replication.cfg")
	target.gone("pve4")
	summaries := target.Converge(nodeRemove(), removePve4+"\nclean = true")
	for _, want := range []string{"take pve4 out of HA rule keep", "take pve4 out of storage extra", "delete replication job 100-0 to pve4"} {
		require.Contains(t, summaries, want)
	}
	require.NotContains(t, target.on("pve1", "cat /etc/pve/ha/rules.cfg /etc/pve/storage.cfg"), "pve4")
	require.Contains(t, target.on("pve1", "cat /etc/pve/ha/rules.cfg"), "nodes pve1:2")
}
