package pve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func frames(parts map[string]string) []byte {
	var b strings.Builder
	b.WriteString("@@n begin\n")
	for _, name := range []string{"folder", "hostkey", "keys", "known", "groups", "rules", "storage", "replication", "jobs", "ceph"} {
		text, there := parts[name]
		if !there {
			fmt.Fprintf(&b, "@@n %s\ncat: No such file or directory\n\n@@n rc 1\n", name)
			continue
		}
		fmt.Fprintf(&b, "@@n %s\n%s\n@@n rc 0\n", name, text)
	}
	return []byte(b.String() + "@@n end\n")
}

func TestLeftovers(t *testing.T) {
	tests := []struct {
		name  string
		parts map[string]string
		want  []string
		keep  int // how many must be left to people
		rest  string
	}{
		{"nothing", map[string]string{"storage": "dir: local\n\tpath /var/lib/vz\n"}, nil, 0, ""},
		{"group", map[string]string{"groups": "group: db\n\tnodes pve1:2,pve4:1,pve2\n\ngroup: web\n\tnodes pve1\n"}, []string{"HA group db has the nodes pve1:2,pve2,pve4:1"}, 0, "pve1:2,pve2"},
		{"rule of it alone", map[string]string{"rules": "node-affinity: r1\n\tnodes pve4:3\n\tresources vm:100\n"}, []string{"HA rule r1 has the nodes pve4:3"}, 1, ""},
		{"a name that begins alike", map[string]string{"storage": "nfs: a\n\tnodes pve41,pve1\n", "keys": "ssh-rsa AAAA root@pve41\n"}, nil, 0, ""},
		{"storage", map[string]string{"storage": "nfs: a\n\tnodes pve4,pve1\n\tserver x\n"}, []string{"storage a has the nodes pve1,pve4"}, 0, "pve1"},
		{"replication", map[string]string{"replication": "local: 100-0\n\ttarget pve4\n\tsource pve1\n\nlocal: 101-0\n\ttarget pve1\n\tsource pve4\n\nlocal: 102-0\n\ttarget pve4\n\tremove_job local\n"},
			[]string{"replication job 100-0 goes to pve4", "replication job 101-0 comes from pve4"}, 1, ""},
		{"backup", map[string]string{"jobs": "vzdump: j1\n\tnode pve4\n\tschedule 02:00\n"}, []string{"backup job j1 runs on pve4 only"}, 1, ""},
		{"Ceph", map[string]string{"ceph": "[global]\n\tmon_host = 10.0.1.1 10.0.1.4\n\n[mon.pve4]\n\tpublic_addr = 10.0.1.4\n"}, []string{"ceph.conf lists 10.0.1.4 as a monitor", "ceph.conf has the section [mon.pve4]"}, 2, ""},
		{"keys", map[string]string{"keys": "ssh-rsa AAAA root@pve4\nssh-ed25519 BBBB admin\n", "known": "pve4,10.0.1.4 ssh-rsa KKKK\n10.0.9.4 ssh-rsa KKKK\npve1 ssh-rsa LLLL\n", "hostkey": "pve4 ssh-rsa KKKK\n"},
			[]string{"one key of root@pve4 in /etc/pve/priv/authorized_keys", "2 lines about pve4 in /etc/pve/priv/known_hosts"}, 0, ""},
		{"folder", map[string]string{"folder": "there\n/etc/pve/nodes/pve4/lxc:\n\n/etc/pve/nodes/pve4/qemu-server:\n"}, []string{"/etc/pve/nodes/pve4"}, 0, ""},
		{"folder with guests", map[string]string{"folder": "there\n/etc/pve/nodes/pve4/lxc:\n201.conf\n\n/etc/pve/nodes/pve4/qemu-server:\n100.conf\n"}, []string{"/etc/pve/nodes/pve4 with the guests 201, 100"}, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			left, err := ParseLeftovers("pve4", []string{"10.0.1.4"}, frames(tt.parts))
			require.NoError(t, err)
			var saw []string
			keep := 0
			for _, l := range left {
				saw = append(saw, l.Saw)
				if l.Keep != "" {
					keep++
				}
				if tt.rest != "" {
					require.Equal(t, tt.rest, l.Rest)
				}
			}
			require.Equal(t, tt.want, saw)
			require.Equal(t, tt.keep, keep)
		})
	}
	_, err := ParseLeftovers("pve4", nil, []byte("@@n begin\n@@n folder\n\n@@n rc 124\n@@n end\n"))
	require.ErrorContains(t, err, `the read of "folder" failed`)
	_, err = ParseLeftovers("pve4", nil, []byte("@@n begin\n@@n folder\n"))
	require.Error(t, err)
}

func FuzzLeftovers(f *testing.F) {
	f.Add("pve4", string(frames(map[string]string{"keys": "ssh-rsa AAAA root@pve4\n", "groups": "group: db\n\tnodes pve1:2,pve4\n", "folder": "there\n100.conf\n"})))
	f.Fuzz(func(t *testing.T, node, out string) {
		left, err := ParseLeftovers(node, []string{"10.0.1.4"}, []byte(out))
		if err != nil {
			return
		}
		for _, l := range left {
			if l.Saw == "" || l.Kind == "" {
				t.Errorf("%+v", l)
			}
		}
	})
}
