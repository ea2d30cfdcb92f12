package pve

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// Text of what Proxmox wrote is what it wrote, byte by byte.
func TestConfigurationIsWrittenAsProxmoxDoes(t *testing.T) {
	c, err := ParseCorosyncConf([]byte(recordedConf))
	require.NoError(t, err)
	if diff := cmp.Diff(recordedConf, c.Text()); diff != "" {
		t.Error(diff)
	}
}

const recordedConf = `logging {
  debug: off
  to_syslog: yes
}

nodelist {
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 10.77.0.1
  }
  node {
    name: pve2
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 10.77.0.2
  }
}

quorum {
  device {
    model: net
    net {
      algorithm: ffsplit
      host: 10.77.0.4
      tls: on
    }
    votes: 1
  }
  provider: corosync_votequorum
}

totem {
  cluster_name: lab
  config_version: 3
  interface {
    linknumber: 0
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: on
  token_coefficient: 125
  version: 2
}

`

func TestWithLink(t *testing.T) {
	c, err := ParseCorosyncConf([]byte(recordedConf))
	require.NoError(t, err)
	both := map[string]string{"pve1": "10.78.0.1", "pve2": "10.78.0.2"}

	added, err := c.WithLink(LinkEdit{Link: 1, Addrs: both, Priority: 10})
	require.NoError(t, err)
	require.Equal(t, 4, added.Version)
	require.Equal(t, []int{0, 1}, added.LinkNumbers())
	require.Equal(t, map[int]int{1: 10}, added.LinkPriorities)
	require.Equal(t, recordedConf, c.Text(), "the old one is as it was")

	changed, err := added.WithLink(LinkEdit{Link: 1, Addrs: map[string]string{"pve1": "10.79.0.1", "pve2": "10.79.0.2"}})
	require.NoError(t, err)
	n, _ := changed.Node("pve2")
	require.Equal(t, "10.79.0.2", n.Links[1])
	require.Empty(t, changed.LinkPriorities)

	removed, err := changed.WithLink(LinkEdit{Link: 1})
	require.NoError(t, err)
	require.Equal(t, strings.Replace(recordedConf, "config_version: 3", "config_version: 6", 1), removed.Text(), "there and back")

	_, err = c.WithLink(LinkEdit{Link: 1, Addrs: map[string]string{"pve1": "10.78.0.1"}})
	require.ErrorContains(t, err, "no address of pve2 on link 1")
}

func FuzzConfigurationSurvivesWriting(f *testing.F) {
	f.Add([]byte(recordedConf))
	f.Add([]byte(twoLinks))
	if record, err := os.ReadFile("testdata/snapshot-member.txt"); err == nil {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCorosyncConf(text)
		if err != nil {
			return
		}
		again, err := ParseCorosyncConf([]byte(c.Text()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, c.Text())
		}
		if again.Text() != c.Text() {
			t.Fatalf("it changes when it is written again:\n%s\n%s", c.Text(), again.Text())
		}
		if again.Version != c.Version || len(again.Nodes) != len(c.Nodes) {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}
