package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// Three storages as Proxmox writes them, with what people add by hand: a comment, a line of no section.
const storages = `# kept by hand
dir: local
	path /var/lib/vz
	content iso,vztmpl,backup

rbd: ceph-vm
	content images,rootdir
	krbd 0
	pool vm

nfs: backup
	disable
	export /export/pve
	# a note inside
	server 10.0.0.9
	nodes pve2,pve1
	prune-backups keep-last=3
`

func TestSections(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Section
		ignored    []string
	}{
		{"as Proxmox writes them", storages, []Section{
			{"dir", "local", map[string]string{"path": "/var/lib/vz", "content": "iso,vztmpl,backup"}},
			{"rbd", "ceph-vm", map[string]string{"content": "images,rootdir", "krbd": "0", "pool": "vm"}},
			{"nfs", "backup", map[string]string{
				"disable": "", "export": "/export/pve", "server": "10.0.0.9", "nodes": "pve2,pve1", "prune-backups": "keep-last=3",
			}},
		}, nil},
		{"a value keeps its spaces", "vm: 100\n\tcomment two  words \n\tstate started\n", []Section{
			{"vm", "100", map[string]string{"comment": "two  words", "state": "started"}},
		}, nil},
		{"only an empty line ends a section", "dir: a\n\tpath /a\n\t \ndir: b\n\tshared 1\n", []Section{
			{"dir", "a", map[string]string{"path": "/a", "shared": "1"}},
		}, []string{`line 3 is no option of dir "a": `, `line 4 is no option of dir "a": dir: b`}},
		{"the first value counts, and the last section", "dir: a\n\tpath /1\n\tpath /2\n\ndir: b\n\ndir: a\n\tpath /3\n", []Section{
			{"dir", "b", map[string]string{}},
			{"dir", "a", map[string]string{"path": "/3"}},
		}, []string{`line 3 gives path of dir "a" a second time`}},
		{"a lost line", "\tpath /a\n", nil, []string{"line 1 is in no section: path /a"}},
		{"nothing", "", nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ignored := ParseSections([]byte(test.text))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			require.Equal(t, test.ignored, ignored)
		})
	}
}

func TestSectionValues(t *testing.T) {
	sections, _ := ParseSections([]byte(storages))
	nfs, ok := FindSection(sections, "backup")
	require.True(t, ok)
	require.True(t, nfs.Is("disable"))
	require.False(t, nfs.Is("shared"))
	require.Equal(t, []string{"pve1", "pve2"}, nfs.List("nodes"))
	rbd, _ := FindSection(sections, "ceph-vm")
	require.False(t, rbd.Is("krbd"))
	_, ok = FindSection(sections, "gone")
	require.False(t, ok)
}

func TestFormatSectionsPutsCommentAndDisableFirst(t *testing.T) {
	text := FormatSections([]Section{{"nfs", "b", map[string]string{"server": "192.0.2.9", "disable": "1", "comment": "of the night", "shared": ""}}})
	require.Equal(t, "nfs: b\n\tcomment of the night\n\tdisable\n\tserver 192.0.2.9\n\tshared\n\n", text)
}

func TestProperties(t *testing.T) {
	got := ParseProperties("secure, network=10.9.0.0/24", "type")
	require.Equal(t, map[string]string{"type": "secure", "network": "10.9.0.0/24"}, got)
	require.Equal(t, "type=secure,network=10.9.0.0/24", FormatProperties(got, "type"))
	require.Equal(t, "network=10.9.0.0/24,type=secure", FormatProperties(got))
	require.Empty(t, ParseProperties("", "type"))
}

func TestTextOfComments(t *testing.T) {
	require.Equal(t, "a%0Ab %25 %C3%A4", EncodeText("a\nb % ä"))
	require.Equal(t, "a\nb % ä", DecodeText("a%0Ab %25 %C3%A4"))
	require.Equal(t, "100% of %zz %", DecodeText("100% of %zz %"))
}

func FuzzSections(f *testing.F) {
	f.Add([]byte(storages))
	f.Add([]byte("vm: 100\n\tcomment a%0Ab\n\tmax_restart 2\n"))
	f.Add([]byte("node-affinity: r1\n\tnodes pve1:2,pve2\n\tresources vm:100\n\tstrict 1\n"))
	f.Add([]byte("dir: a\n\tpath /1\n\tpath /2\nrest\n \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sections, _ := ParseSections(text)
		ids := map[string]bool{}
		for _, s := range sections {
			if s.Type == "" || s.ID == "" || strings.ContainsAny(s.ID, " \t\n") || ids[s.ID] {
				t.Fatalf("section %+v", s)
			}
			ids[s.ID] = true
		}
		// What is written is read again as the same, but for the ways in which a flag can be set or not.
		again, ignored := ParseSections([]byte(FormatSections(sections)))
		if len(ignored) > 0 || len(again) != len(sections) {
			t.Fatalf("%d sections became %d, ignored %q", len(sections), len(again), ignored)
		}
		for i, s := range sections {
			for key, value := range s.Values {
				if key != "disable" && key != "comment" && again[i].Values[key] != value {
					t.Fatalf("%s of %s: %q became %q", key, s.ID, value, again[i].Values[key])
				}
			}
			if again[i].Is("disable") != s.Is("disable") {
				t.Fatalf("disable of %s", s.ID)
			}
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add("secure,network=10.9.0.0/24", "type")
	f.Add("keep-last=3,keep-daily=7", "")
	f.Fuzz(func(t *testing.T, text, bare string) {
		if strings.ContainsAny(bare, ",= ") || strings.TrimSpace(bare) != bare {
			return
		}
		got := ParseProperties(text, bare)
		if diff := cmp.Diff(got, ParseProperties(FormatProperties(got), bare)); diff != "" {
			t.Fatal(diff)
		}
		if DecodeText(EncodeText(text)) != text {
			t.Fatalf("text %q changes", text)
		}
	})
}
