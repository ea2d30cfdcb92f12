package runbooks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

func hostOf(t *testing.T, doc *runbooks.Document, name string) inventory.Host {
	t.Helper()
	h, ok := doc.Site.Host(name)
	require.True(t, ok, name)
	return h
}

func TestConnectionSettingsAreInherited(t *testing.T) {
	doc, diags := load(t, `
pxrun {
  ssh {
    user            = "site"
    port            = 2200
    connect_timeout = "5s"
    known_hosts     = ["/etc/known"]
    jump            = host.outer
  }
}
cluster "lab" {
  ssh {
    user           = "cluster"
    use_ssh_config = false
    jump           = [host.outer, host.inner]
    become {}
  }
  node "pve1" {
    address  = "192.0.2.11"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f  comment"
    ssh {
      user           = "node"
      port           = 22
      jump           = []
      use_ssh_config = true
      become { method = "none" }
    }
  }
  node "pve2" { address = "192.0.2.12" }
}
host "outer" { address = "192.0.2.1" }
host "inner" {
  address = "192.0.2.2"
  ssh { sessions = 8 }
}
host "deep" {
  address = "192.0.2.3"
  ssh { jump = cluster.lab.pve2 }
}
`, runbooks.Options{})
	require.Empty(t, show(diags, doc.Files))

	pve1 := hostOf(t, doc, "pve1").SSH
	require.Equal(t, "node", pve1.User)
	require.Equal(t, 22, pve1.Port)
	require.Equal(t, 5*time.Second, pve1.ConnectTimeout)
	require.Empty(t, pve1.Jump, "an empty list takes the jump away")
	require.False(t, pve1.NoConfig)
	require.Empty(t, pve1.Become.Method)
	require.Equal(t, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f", pve1.HostKey)

	pve2 := hostOf(t, doc, "pve2").SSH
	require.Equal(t, "cluster", pve2.User)
	require.Equal(t, 2200, pve2.Port)
	require.True(t, pve2.NoConfig)
	require.Equal(t, "sudo", pve2.Become.Method)
	require.Equal(t, []string{"outer", "inner"}, pve2.Jump)
	require.Equal(t, []string{"/etc/known"}, pve2.KnownHosts)

	require.Empty(t, hostOf(t, doc, "outer").SSH.Jump, "the jump host of all is reached directly")
	require.Equal(t, []string{"outer"}, hostOf(t, doc, "inner").SSH.Jump)
	require.Equal(t, 8, hostOf(t, doc, "inner").SSH.Sessions)
	require.Equal(t, []string{"outer", "inner", "pve2"}, hostOf(t, doc, "deep").SSH.Jump, "the way to the hop comes first")
}

func TestLargeClustersAreWarnedAbout(t *testing.T) {
	for n, warned := range map[int]bool{32: false, 33: true} {
		var b strings.Builder
		b.WriteString("cluster \"lab\" {\n")
		for i := range n {
			fmt.Fprintf(&b, "  node \"n%d\" { address = \"10.0.0.%d\" }\n", i, i+1)
		}
		b.WriteString("}\n")
		_, diags := load(t, b.String(), runbooks.Options{})
		require.False(t, diags.HasErrors())
		require.Equal(t, warned, len(diags) == 1, "%d nodes", n)
	}
}

func TestOneAddressMayServeSeveralHostsOnDifferentPorts(t *testing.T) {
	_, diags := load(t, `
host "a" {
  address = "192.0.2.1"
  ssh { port = 2201 }
}
host "b" {
  address = "192.0.2.1"
  ssh { port = 2202 }
}`, runbooks.Options{})
	require.Empty(t, diags)
}
