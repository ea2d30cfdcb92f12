package lab_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
)

// memberState is what being in a cluster makes of a node, without what is another each time.
const memberState = `cat /etc/pve/corosync.conf; cmp /etc/pve/corosync.conf /etc/corosync/corosync.conf && echo same
ls /etc/corosync /etc/pve /etc/pve/priv /etc/pve/nodes /etc/pve/local /root/.ssh; stat -c '%a %s' /etc/corosync/authkey
pvecm nodes; pvecm status | grep -E '^(Name|Config|Transport|Nodes|Node ID|Quorate|Expected|Highest|Total|Quorum|Flags)'
wc -l </etc/pve/priv/authorized_keys; grep -c BEGIN /etc/pve/local/pve-ssl.pem; grep PermitRootLogin /etc/ssh/sshd_config
systemctl is-active corosync pve-cluster pve-ha-crm pve-ha-lrm pveproxy corosync-qdevice; systemctl is-enabled corosync pve-cluster corosync-qdevice
ls /etc/corosync/qdevice/net/nssdb; corosync-qdevice-tool -s | grep -E 'State|Algorithm|QNetd'; true`

func stateOf(t *testing.T, l *lab.Lab, host string) string {
	t.Helper()
	out, errs, _ := sh(t, l, host, memberState)
	require.NotContains(t, errs, "not simulated")
	// How often create and joins wrote the file; the backup that a join makes of the node's own database.
	return regexp.MustCompile(`(?m)^(.*config_version:|Config Version:|Ring ID:).*$`).ReplaceAllString(out, "$1")
}

func TestFormedClusterIsAsCommandsMakeIt(t *testing.T) {
	made := start(t, threeNodes())
	create(t, made)
	for _, node := range []string{"2", "3"} {
		out, _, _ := sh(t, made, "pve"+node, joinScript(t, made, "--link0 10.0.1."+node+" --link1 10.0.2."+node))
		require.Contains(t, out, "successfully added")
	}
	eventually(t, made, "all see each other", func() bool { v, _ := made.Node("pve1"); return len(v.Members) == 3 && v.Writable })
	conf, _, _ := sh(t, made, "pve1", "cat /etc/pve/corosync.conf")

	formed, err := lab.New(threeNodes())
	require.NoError(t, err)
	t.Cleanup(formed.Close)
	require.NoError(t, formed.Form(t.Context(), lab.Formed{Corosync: conf}))
	require.Empty(t, formed.Writes(), "what a lab begins with is not written by anybody")
	for _, node := range []string{"pve1", "pve2", "pve3"} {
		require.Equal(t, stateOf(t, made, node), stateOf(t, formed, node), node)
	}
	out, errs, code := sh(t, formed, "pve2", "ssh -o BatchMode=yes -o HostKeyAlias=pve3 -o UserKnownHostsFile=/etc/pve/nodes/pve3/ssh_known_hosts root@192.0.2.13 hostname")
	require.Equal(t, 0, code, errs)
	require.Equal(t, "pve3\n", out, "the members let each other in")
	formed.Machine("pve3").PowerOff()
	eventually(t, formed, "pve3 is missed", func() bool { v, _ := formed.Node("pve1"); return len(v.Members) == 2 && v.Writable })
}

func TestFormedDeviceVotes(t *testing.T) {
	t.Parallel()
	spec := lab.Spec{Seed: 1, Speed: 100, Hosts: []lab.HostSpec{
		{Name: "pve1", Address: "192.0.2.11", PVE: "8.4.1", Packages: []string{"corosync-qdevice"}},
		{Name: "pve2", Address: "192.0.2.12", PVE: "8.4.1", Packages: []string{"corosync-qdevice"}},
		{Name: "arbiter", Address: "192.0.2.50", Packages: []string{"corosync-qnetd"}},
	}}
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.Form(t.Context(), lab.Formed{Corosync: `logging {
  debug: off
  to_syslog: yes
}

nodelist {
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 192.0.2.11
  }
  node {
    name: pve2
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 192.0.2.12
  }
}

quorum {
  device {
    model: net
    net {
      algorithm: ffsplit
      host: 192.0.2.50
      tls: on
    }
    votes: 1
  }
  provider: corosync_votequorum
}

totem {
  cluster_name: pair
  config_version: 4
  interface {
    linknumber: 0
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: on
  version: 2
}
`}))
	eventually(t, l, "the device votes", func() bool { v, _ := l.Node("pve2"); return v.Total == 3 })
	l.Machine("pve2").PowerOff()
	eventually(t, l, "pve2 is gone", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 1 })
	v, _ := l.Node("pve1")
	require.True(t, v.Quorate, "with the arbiter's vote")
}

func TestFormedGuestsRunAsTheyDid(t *testing.T) {
	t.Parallel()
	spec := threeNodes()
	spec.Hosts = spec.Hosts[:1]
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.Form(t.Context(), lab.Formed{
		Files: map[string]string{"datacenter.cfg": "keyboard: de\nmax_workers: 2\n"},
		HA:    map[string]string{"resources.cfg": "vm: 100\n\tstate started\n"},
		Guests: map[string][]guest.Spec{"pve1": {
			{ID: 100, Running: true, Config: "cores: 2\nmemory: 1048576\nname: large\nscsi0: local-lvm:vm-100-disk-7,size=8G\n\n[before]\ncores: 1\nsnaptime: 1700000000\n"},
			{ID: 101, Type: "lxc", Config: "hostname: box\nmemory: 512\nrootfs: local-lvm:vm-101-disk-0,size=4G\n"},
		}},
	}))
	out, _, _ := sh(t, l, "pve1", "cat /etc/pve/datacenter.cfg /etc/pve/qemu-server/100.conf; qm status 100; pct status 101; ha-manager status | grep service")
	require.Contains(t, out, "max_workers: 2\n")
	require.Contains(t, out, "vm-100-disk-7")
	require.Contains(t, out, "status: running\nstatus: stopped\n", "although its memory is more than the node has")
	require.Contains(t, out, "service vm:100 (pve1, started)")
}

func TestListsOfAFormedNodeAreAsOldAsTheyWere(t *testing.T) {
	t.Parallel()
	spec := threeNodes()
	spec.Hosts = spec.Hosts[:1]
	spec.Hosts[0].Updates = []string{"release"}
	spec.Hosts[0].Kernel, spec.Hosts[0].Kernels, spec.Hosts[0].Pin = "6.14.11-3-pve", []string{"6.14.8-2-pve"}, "6.14.11-3-pve"
	spec.Hosts[0].Sources = map[string]string{"/etc/apt/sources.list.d/pve.sources": "Types: deb\nURIs: http://download.proxmox.com/debian/pve\nSuites: trixie\nComponents: pve-no-subscription\nSigned-By: /usr/share/keyrings/proxmox-archive-keyring.gpg\n"}
	spec.Hosts[0].Interfaces = []lab.Interface{{Name: "eno1", MTU: 9000}, {Name: "vmbr0", Addresses: []string{"192.0.2.11/26"}}, {Name: "vmbr7", Addresses: []string{"10.0.1.1/24", "10.0.2.1/24"}}}
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.Form(t.Context(), lab.Formed{Lists: map[string]time.Duration{"pve1": 5 * time.Hour}}))
	out, _, _ := sh(t, l, "pve1", `apt-get -s dist-upgrade | grep '^Inst pve-manager'; echo $((($(date +%s) - $(stat -c %Y /var/lib/apt/lists)) / 3600)); uname -r; ls /boot | grep vmlinuz; proxmox-boot-tool kernel list | tail -n 1; ls /etc/apt/sources.list.d; ip -o -4 addr | grep -o '10.0.*/24\|192.0.2.11/26'`)
	require.Equal(t, "Inst pve-manager [9.1.8] (9.2.2 Proxmox:stable [all])\n5\n6.14.11-3-pve\nvmlinuz-6.14.11-3-pve\nvmlinuz-6.14.8-2-pve\n6.14.11-3-pve\npve.sources\n192.0.2.11/26\n10.0.1.1/24\n10.0.2.1/24\n", out)
}

func TestFormingSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	l, err := lab.New(threeNodes())
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.ErrorContains(t, l.Form(t.Context(), lab.Formed{Corosync: "nodelist {\n  node {\n    name: pve9\n    nodeid: 1\n    ring0_addr: 10.0.1.9\n  }\n}\n"}), `the cluster has a node "pve9", which is not in the lab`)
	require.ErrorContains(t, l.Form(t.Context(), lab.Formed{Corosync: "totem {\n"}), "missing closing brace")
}
