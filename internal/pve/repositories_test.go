package pve

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const enterprise9 = "Types: deb\nURIs: https://enterprise.proxmox.com/debian/pve\nSuites: trixie\nComponents: pve-enterprise\nSigned-By: /usr/share/keyrings/proxmox-archive-keyring.gpg\n"

const debian8 = "deb http://ftp.debian.org/debian bookworm main contrib\n# deb http://ftp.debian.org/debian bookworm-backports main\n#this is no entry\ndeb [arch=amd64 signed-by=/x] http://security.debian.org bookworm-security main # trailing\n"

func TestSources(t *testing.T) {
	files := ParseSourceFiles([]byte("/etc/apt/sources.list:deb http://ftp.debian.org/debian bookworm main contrib\n/etc/apt/sources.list:# deb http://ftp.debian.org/debian bookworm-backports main\nnoise\n"))
	require.Len(t, files.Sources(), 2)

	list := SourceFiles{"/etc/apt/sources.list": debian8}.Sources()
	require.Len(t, list, 3)
	require.True(t, list[0].Enabled)
	require.False(t, list[1].Enabled)
	require.Equal(t, []string{"bookworm-security"}, list[2].Suites)
	require.Equal(t, "debian", list[2].Product())
	require.Empty(t, list[2].WrongSuite("bookworm"))
	require.Equal(t, "bookworm-security", list[2].WrongSuite("trixie"))
	require.Empty(t, list[1].WrongSuite("trixie"), "it is switched off")

	list = SourceFiles{"/etc/apt/sources.list.d/x.sources": "# a remark\n" + enterprise9 + "Enabled: no\n\nTypes: deb\n deb-src\nURIs: https://example.com/x/\nSuites: ./\n"}.Sources()
	require.Len(t, list, 2)
	require.False(t, list[0].Enabled)
	require.Equal(t, "pve", list[0].Product())
	require.Empty(t, list[1].Product(), "a stranger's")
	require.Empty(t, list[1].WrongSuite("trixie"), "and none of our business")
}

func TestRepoWish(t *testing.T) {
	nine := RepoWish{Product: "pve", Kind: RepoNoSubscription, Codename: "trixie", Major: 9}
	files := SourceFiles{"/etc/apt/sources.list.d/pve-enterprise.sources": enterprise9}
	got := nine.Apply(files)
	require.Equal(t, enterprise9+"Enabled: false\n", got["/etc/apt/sources.list.d/pve-enterprise.sources"])
	require.Contains(t, got["/etc/apt/sources.list.d/proxmox.sources"], "Components: pve-no-subscription")
	require.Len(t, got, 2)
	require.Empty(t, nine.Apply(got), "and then all is as wished")

	back := RepoWish{Product: "pve", Kind: RepoEnterprise, Codename: "trixie", Major: 9}.Apply(got)
	require.Equal(t, enterprise9, back["/etc/apt/sources.list.d/pve-enterprise.sources"])
	require.Contains(t, back["/etc/apt/sources.list.d/proxmox.sources"], "Enabled: false")

	eight := RepoWish{Product: "pve", Kind: RepoTest, Codename: "bookworm", Major: 8}
	list := SourceFiles{"/etc/apt/sources.list": "deb http://ftp.debian.org/debian bookworm main\ndeb http://download.proxmox.com/debian/pve bookworm pve-no-subscription\n# deb http://download.proxmox.com/debian/pve bookworm pvetest\n"}
	require.Equal(t, SourceFiles{"/etc/apt/sources.list": "deb http://ftp.debian.org/debian bookworm main\n# deb http://download.proxmox.com/debian/pve bookworm pve-no-subscription\ndeb http://download.proxmox.com/debian/pve bookworm pvetest\n"}, eight.Apply(list))

	// Several in one file, one of them twice.
	ceph := RepoWish{Product: "ceph-squid", Kind: RepoNoSubscription, Codename: "trixie", Major: 9}
	stanza := func(release, component string) string {
		w := RepoWish{Product: "ceph-" + release, Kind: component, Codename: "trixie", Major: 9}
		return w.entry()
	}
	file := "/etc/apt/sources.list.d/ceph.sources"
	many := SourceFiles{file: stanza("quincy", "enterprise") + "\n" + stanza("squid", "no-subscription") + "\n" + stanza("squid", "no-subscription") + "\n" + stanza("squid", "test")}
	text := ceph.Apply(many)[file]
	require.Equal(t, 3, strings.Count(text, "Enabled: false"))
	require.Empty(t, ceph.Apply(SourceFiles{file: text}))
}

func FuzzRepoWish(f *testing.F) {
	f.Add(debian8, false)
	f.Add(enterprise9+"\n"+enterprise9, true)
	f.Fuzz(func(t *testing.T, text string, nine bool) {
		w, path := RepoWish{Product: "pve", Kind: RepoNoSubscription, Codename: "bookworm", Major: 8}, "/etc/apt/sources.list"
		if nine {
			w, path = RepoWish{Product: "pve", Kind: RepoNoSubscription, Codename: "trixie", Major: 9}, "/etc/apt/sources.list.d/x.sources"
		}
		files := SourceFiles{path: text}
		changed := w.Apply(files)
		for p, content := range changed {
			files[p] = content
		}
		if again := w.Apply(files); len(again) > 0 {
			t.Fatalf("it is not enough to apply it once: %q became %q", changed, again)
		}
	})
}
