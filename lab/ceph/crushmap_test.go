package ceph_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const perSite = `printf 'rule per_site {\n\tid 5\n\ttype replicated\n\tstep take default\n\tstep choose firstn 0 type datacenter\n\tstep chooseleaf firstn 2 type host\n\tstep emit\n}\n' >>/root/map.txt; `

// Hosts are put into datacenters, and a rule of several steps is written into the map's text.
func TestRulesOverDatacenters(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.steps([]step{
			{"pve1", "ceph osd crush add-bucket a datacenter; ceph osd crush add-bucket b datacenter", "", "added bucket a type datacenter to crush map\n.*", 0},
			{"pve1", "ceph osd crush add-bucket c cellar", "", "Error EINVAL: type 'cellar' does not exist\n", 22},
			{"pve1", "ceph osd crush move a root=default; ceph osd crush move b root=default", "", "moved item id -?\\d+ name 'a' to location \\{root=default\\} in crush map\n.*", 0},
			{"pve1", "ceph osd crush move pve1 datacenter=a; ceph osd crush move pve2 datacenter=a; ceph osd crush move pve3 datacenter=b", "", ".*name 'pve3' to location \\{datacenter=b\\}.*", 0},
			{"pve1", "ceph osd tree", "(?s).*datacenter a\n.*host pve1\n.*datacenter b\n.*host pve3\n.*", "", 0},
			{"pve1", "crushtool -d /root/nothing", "", "crushtool: error reading '/root/nothing'.*", 1},
			{"pve1", "ceph osd getcrushmap -o /root/map", "", "\\d+\n", 0},
			{"pve1", "crushtool -d /root/map -o /root/map.txt; grep -A2 ^rule /root/map.txt", "rule replicated_rule \\{\n\tid 0\n\ttype replicated\n", "", 0},
			{"pve1", "echo nonsense >/root/bad.txt; cat /root/map.txt /root/bad.txt >/root/worse.txt; crushtool -c /root/worse.txt -o /root/new", "", ".*parse error at 'nonsense'\n", 1},
			{"pve1", perSite + "crushtool -c /root/map.txt -o /root/new", "", "", 0},
			{"pve1", "ceph osd setcrushmap 99 -i /root/new", "", "Error EPERM: prior_version 99 != crush version \\d+\n", 1},
			{"pve1", "ceph osd setcrushmap -i /root/map.txt", "", "Error EINVAL: Failed to parse crushmap.*", 22},
			{"pve1", "ceph osd setcrushmap $(ceph osd getcrushmap -o /root/old 2>&1) -i /root/new", "", "\\d+\n", 0},
			{"pve1", "ceph osd crush rule ls", "replicated_rule\nper_site\n", "", 0},
		})
		require.Contains(t, t.ok("pve1", "ceph osd crush rule dump per_site -f json"), `{"num":0,"op":"choose_firstn","type":"datacenter"},{"num":2,"op":"chooseleaf_firstn","type":"host"}`)
		t.ok("pve1", "pveceph pool create vm --crush_rule per_site --size 4 --min_size 2")
		t.after(5 * time.Second)
		// Two hosts of a and one of b: there is no place for the fourth copy.
		require.Contains(t, t.ok("pve1", "ceph -s -f json"), "active+undersized")
	})
}
