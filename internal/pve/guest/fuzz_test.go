package guest

import (
	"os"
	"strings"
	"testing"
)

func FuzzConfigs(f *testing.F) {
	f.Add("==> /etc/pve/nodes/pve1/qemu-server/100.conf <==\n" + webConf)
	f.Add("==> /etc/pve/nodes/pve1/lxc/201.conf <==\nrootfs: tank:subvol-201-disk-0,size=8G\nmp0: /srv,mp=/srv\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, g := range ParseConfigs([]byte(text)) {
			if g.Node == "" || g.Memory < 0 && !strings.Contains(text, "-") {
				t.Fatalf("%+v", g)
			}
			for _, v := range g.Volumes {
				if v.File == "" || v.File == "none" || v.Size < 0 {
					t.Fatalf("%+v", v)
				}
			}
			CanMove(cluster(g), g, "pve2", Options{})
		}
	})
}

func FuzzPreconditions(f *testing.F) {
	text, err := os.ReadFile("testdata/preconditions.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f.Add(line, 0)
	}
	f.Add("VM is locked (backup)", 255)
	f.Fuzz(func(t *testing.T, body string, exit int) {
		p := ParsePreconditions(body, exit)
		if exit != 0 && p.Refused == "" {
			t.Fatal("a failed call consents to nothing")
		}
	})
}

func FuzzNode(f *testing.F) {
	f.Add("@@n begin\n@@n running\nvm 100\nend\n\n@@n rc 0\n@@n end\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n := ParseNode("pve1", []byte(text)); n.Err == nil && !strings.Contains(text, "end") {
			t.Fatalf("%+v", n)
		}
	})
}

func FuzzSite(f *testing.F) {
	f.Add("@@n begin\n@@n ha_guests\n{\"ids\":{\"100\":{\"node\":\"pve1\",\"type\":\"qemu\"}}}\n@@n rc 0\n@@n configs\n\n@@n rc 0\n@@n end\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if s, err := ParseSite("pve1", []byte(text)); err == nil {
			for _, g := range s.Guests {
				CanMove(s, g, "pve2", Options{})
			}
		}
	})
}
