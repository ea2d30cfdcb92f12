package ceph_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ceph"
)

func FuzzNode(f *testing.F) {
	f.Add([]byte(nodeText(testNode{})))
	f.Add([]byte("@@n begin\n@@n disks\n{\"blockdevices\":[{\"name\":\"sda\",\"size\":\"1\",\"children\":[{}]}]}\n@@n rc 0\n@@n end\n"))
	f.Fuzz(func(_ *testing.T, out []byte) {
		n := ceph.ParseNode("pve1", out)
		n.Installed()
		n.Release()
		for i := range n.Disks {
			d := &n.Disks[i]
			d.Carries()
			d.Busy()
			d.Describe()
			n.OSDsOn(d)
			n.Names(d)
		}
		for name := range n.Links {
			ceph.MatchDisk(n, nil, "", name)
			ceph.MatchPart(n, name)
		}
	})
}

func FuzzCluster(f *testing.F) {
	f.Add([]byte(talk(conversation(), "0")))
	f.Add([]byte(talk("\n#status\n", "124")))
	f.Fuzz(func(t *testing.T, out []byte) {
		c, err := ceph.ParseCluster("pve1", out)
		if err != nil {
			return
		}
		if !c.Answers {
			if c.Silence == "" {
				t.Error("silence without a reason")
			}
			return
		}
		c.Status.Clean()
		c.Status.Serving()
		c.Lost([]int{0})
		for _, p := range c.Map.Pools {
			ceph.Wanted{}.Compare(p, c.Rules)
		}
	})
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(conf))
	f.Add([]byte("[x]\n=\nfsid = \\# ; c"))
	f.Fuzz(func(_ *testing.T, text []byte) { ceph.ParseConf(text).Daemons("mon") })
}

func FuzzVolumes(f *testing.F) {
	f.Add([]byte(`{"0":[{"devices":["/dev/sdb"],"lv_path":"/dev/a/b","type":"block","tags":{}}]}`))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = ceph.ParseVolumes(text) })
}

func FuzzSize(f *testing.F) {
	f.Add("100G")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ceph.ParseSize(text); err == nil && n < 0 {
			t.Errorf("%q is %d", text, n)
		}
	})
}
