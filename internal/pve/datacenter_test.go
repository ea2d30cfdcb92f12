package pve

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

const datacenterCfg = `#kept %25 here
#
#by hand
ha: shutdown_policy=migrate
keyboard: en-us
migration: secure,network=10.9.0.0/24
max_workers: 4
`

func TestMergeDatacenter(t *testing.T) {
	have := ParseDatacenter([]byte(datacenterCfg))
	require.Equal(t, "kept % here\n\nby hand", have["description"])
	tests := []struct {
		name    string
		scalars map[string]string
		parts   map[string]map[string]string
		remove  []string
		want    []DatacenterDiff
	}{
		{"as it is", map[string]string{"keyboard": "en-us"}, map[string]map[string]string{"migration": {"type": "secure"}, "ha": {"shutdown_policy": "migrate"}}, []string{"http_proxy", "migration.bogus"}, nil},
		{"a part changes, the others stay", nil, map[string]map[string]string{"migration": {"type": "insecure"}}, nil, []DatacenterDiff{
			{"migration", "secure,network=10.9.0.0/24", "type=insecure,network=10.9.0.0/24"},
		}},
		{"a part goes", nil, nil, []string{"migration.network"}, []DatacenterDiff{{"migration", "secure,network=10.9.0.0/24", "type=secure"}}},
		{"the only part goes", nil, nil, []string{"ha.shutdown_policy"}, []DatacenterDiff{{"ha", "shutdown_policy=migrate", ""}}},
		{"an option goes", nil, nil, []string{"max_workers"}, []DatacenterDiff{{"max_workers", "4", ""}}},
		{"what must be said is said", nil, map[string]map[string]string{"replication": {"network": "10.8.0.0/24"}}, nil, []DatacenterDiff{{"replication", "", "type=secure,network=10.8.0.0/24"}}},
		{"new and changed", map[string]string{"keyboard": "de", "console": "html5"}, map[string]map[string]string{"crs": {"ha": "static"}}, nil, []DatacenterDiff{
			{"console", "", "html5"}, {"crs", "", "ha=static"}, {"keyboard", "en-us", "de"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, MergeDatacenter(have, tt.scalars, tt.parts, tt.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDatacenterOptions(t *testing.T) {
	migration, ok := FindDatacenterOption("migration")
	require.True(t, ok)
	require.NoError(t, migration.CheckPart("type", "insecure"))
	require.ErrorContains(t, migration.CheckPart("type", "fast"), `it can be secure, insecure`)
	require.ErrorContains(t, migration.CheckPart("network", "10.9.0.0"), "length of its mask")
	require.ErrorContains(t, migration.CheckPart("bogus", "1"), `there is no part "bogus"; there are network, type`)
	_, ok = FindDatacenterOption("bogus")
	require.False(t, ok)
	require.Contains(t, DatacenterOptions(), "max_workers")
}

func TestReadDatacenter(t *testing.T) {
	read := func(body string) (Datacenter, error) {
		return ReadDatacenter(t.Context(), "pve1", testkit.NewConn(t, "pve1").OnOutput("begin", "@@n begin\n@@n datacenter\n"+body+"@@n end\n"))
	}
	d, err := read("keyboard: de\n\n@@n rc 0\n")
	require.NoError(t, err)
	require.Equal(t, Datacenter{"keyboard": "de"}, d)
	d, err = read("cat: /etc/pve/datacenter.cfg: No such file or directory\n@@n rc 1\n")
	require.NoError(t, err)
	require.Empty(t, d)
	_, err = read("\n@@n rc 124\n")
	require.ErrorContains(t, err, "/etc/pve gives no answer")
	_, err = read("cat: Permission denied\n@@n rc 1\n")
	require.ErrorContains(t, err, "could not be read")
}

func FuzzDatacenter(f *testing.F) {
	f.Add([]byte(datacenterCfg))
	f.Fuzz(func(t *testing.T, text []byte) {
		have := ParseDatacenter(text)
		want := map[string]map[string]string{"migration": {"type": "insecure"}}
		for _, d := range MergeDatacenter(have, nil, want, []string{"ha"}) {
			if d.Want != "" {
				have[d.Option] = d.Want
			} else {
				delete(have, d.Option)
			}
		}
		if again := MergeDatacenter(have, nil, want, []string{"ha"}); len(again) > 0 {
			t.Fatalf("once merged it still differs: %+v", again)
		}
	})
}
