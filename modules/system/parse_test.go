package system

import "testing"

func FuzzParsersOfWhatHostsSay(f *testing.F) {
	f.Add("file\n644 root root 0 0 12\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  -\n")
	f.Add("directory\n755 root root 0 0 4096\n.bashrc\n")
	f.Add("link\n777 root root 0 0 3\n/etc/x\ny\n")
	f.Add("absent\n")
	f.Add("Id=x.service\nLoadState=loaded\nActiveState=active\n")
	f.Add("pve\ncluster\nlrm {\"state\":\"active\"}\n")
	f.Fuzz(func(t *testing.T, out string) {
		for _, summed := range []bool{true, false} {
			s, err := parseState(out, summed)
			if err == nil && s.kind == "file" && summed && len(s.sum) != 64 {
				t.Errorf("a file without a digest: %+v", s)
			}
		}
		if u, err := parseUnit(out); err == nil && u.active == "" {
			t.Errorf("a unit without a state: %+v", u)
		}
		parseActivity(out)
	})
}
