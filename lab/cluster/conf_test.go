package cluster_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/cluster"
)

// recordedConf is the config of a real three-node cluster.
func recordedConf(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../testdata/records/forming.txt")
	require.NoError(t, err)
	all := string(text)
	start := strings.LastIndex(all, "logging {\n")
	end := strings.Index(all[start:], "version: 2\n}\n\n") + len("version: 2\n}\n\n")
	return all[start : start+end]
}

func TestConfIsWrittenAsProxmoxWritesIt(t *testing.T) {
	text := recordedConf(t)
	conf, err := cluster.ParseConf(text)
	require.NoError(t, err)
	require.Equal(t, text, conf.String())
	require.Equal(t, 3, conf.Version())
	require.Equal(t, 3, conf.Expected())
	require.Equal(t, 3125, conf.Token())
}

func TestConfWithPrioritiesAndDevice(t *testing.T) {
	conf := cluster.NewConf(cluster.CreateOptions{
		Name: "lab", TokenCoefficient: 125, Priorities: map[int]int{0: 20},
		Node: cluster.ConfNode{Name: "pve1", ID: 1, Votes: 1, Rings: map[int]string{0: "10.0.0.1", 1: "10.1.0.1"}},
	})
	conf.SetNode(cluster.ConfNode{Name: "pve0", ID: 2, Votes: 0, Rings: map[int]string{0: "10.0.0.2", 1: "10.1.0.2"}})
	conf.SetDevice(cluster.DeviceConf{Host: "10.0.0.250", Algorithm: "ffsplit", Votes: 1})
	require.Equal(t, `logging {
  debug: off
  to_syslog: yes
}

nodelist {
  node {
    name: pve0
    nodeid: 2
    ring0_addr: 10.0.0.2
    ring1_addr: 10.1.0.2
  }
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 10.0.0.1
    ring1_addr: 10.1.0.1
  }
}

quorum {
  device {
    model: net
    net {
      algorithm: ffsplit
      host: 10.0.0.250
      tls: on
    }
    votes: 1
  }
  provider: corosync_votequorum
}

totem {
  cluster_name: lab
  config_version: 1
  interface {
    knet_link_priority: 20
    linknumber: 0
  }
  interface {
    linknumber: 1
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: on
  token_coefficient: 125
  version: 2
}

`, conf.String())
}

func FuzzParseConf(f *testing.F) {
	f.Add(recordedConf(f))
	f.Add("a {\n b {\n  c: d # e\n }\n}\n")
	f.Add("}\n")
	f.Fuzz(func(t *testing.T, text string) {
		conf, err := cluster.ParseConf(text)
		if err != nil {
			return
		}
		again, err := cluster.ParseConf(conf.String())
		if err != nil {
			return // a name with a brace or a colon in it cannot be written back
		}
		_, _, _, _ = again.Nodes(), again.Expected(), again.Token(), again.Verify()
	})
}
