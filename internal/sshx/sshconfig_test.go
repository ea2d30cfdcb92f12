package sshx

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// configured writes ~/.ssh/config and other files, and resolves a host with it.
func configured(t *testing.T, files map[string]string, h inventory.Host, site *inventory.Site) (endpoint, []string, error) {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".ssh", "conf.d"), 0o700))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh", name), []byte(text), 0o600))
	}
	path := filepath.Join(home, ".ssh", "config")
	client, notes, err := loadClientConfig(path, home)
	require.NoError(t, err)
	for i, n := range notes {
		notes[i], _ = filepath.Rel(home, n)
	}
	ep, err := resolve(h, Config{Home: home, User: "me", Site: site}, client)
	for _, list := range [][]string{ep.identities, ep.knownHosts, ep.certificates} {
		for i, p := range list {
			if rel, err := filepath.Rel(home, p); err == nil {
				list[i] = rel
			}
		}
	}
	return ep, notes, err
}

func TestClientConfigIsFollowed(t *testing.T) {
	const config = `
# comment
User nobody-above
Host bastion
  HostName 198.51.100.7
  Port 2200
Host pve1 !pve9
	User=admin
	IdentityFile "~/.ssh/key one"
	IdentityFile ~/.ssh/%r-%h
	IdentitiesOnly yes
	ProxyJump bastion,me@198.51.100.8:2222
	HostKeyAlias pve-one
	UserKnownHostsFile ~/.ssh/known_pve
	CertificateFile ~/.ssh/cert.pub
	StrictHostKeyChecking accept-new
Host 192.0.2.*
	Port 2022   # trailing comment
Match exec "touch /tmp/never"
	User root-of-evil
	Port 666
Host *
	User late
	ServerAliveInterval 30
	FancyNewThing on
Match all
	Port 22
`
	ep, notes, err := configured(t, map[string]string{"config": config}, inventory.Host{Name: "pve1", Address: "192.0.2.11"}, nil)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.11", ep.address)
	require.Equal(t, 2022, ep.port)
	require.Equal(t, "nobody-above", ep.user, "the first value counts")
	require.Equal(t, []string{".ssh/key one", ".ssh/nobody-above-192.0.2.11"}, ep.identities)
	require.True(t, ep.identitiesOnly)
	require.Equal(t, "pve-one", ep.keyName)
	require.Equal(t, []string{".ssh/known_pve"}, ep.knownHosts)
	require.Equal(t, []string{".ssh/cert.pub"}, ep.certificates)
	require.Equal(t, inventory.HostKeysAcceptNew, ep.policy)
	require.Len(t, ep.jump, 2)
	require.Equal(t, "me@198.51.100.8:2222", ep.jump[1].Name)
	require.Equal(t, 2222, ep.jump[1].SSH.Port)
	require.Len(t, notes, 2)
	require.Contains(t, notes[0], ".ssh/config:19: Match is not supported")
	require.Contains(t, notes[1], ".ssh/config:25: FancyNewThing is not supported")
}

func TestInventoryWinsOverClientConfig(t *testing.T) {
	const config = "Host *\n User a\n Port 1\n IdentityFile ~/.ssh/a\n ProxyJump a\n UserKnownHostsFile /a\n HostName 198.51.100.1\n"
	h := inventory.Host{Name: "pve1", Address: "192.0.2.11", SSH: inventory.SSH{
		User: "b", Port: 2, IdentityFiles: []string{"~/.ssh/b"}, Jump: []string{"b"}, KnownHosts: []string{"~/b"}, HostKeys: inventory.HostKeysStrict,
	}}
	site := &inventory.Site{Hosts: []inventory.Host{{Name: "b", Address: "192.0.2.99"}}}
	ep, _, err := configured(t, map[string]string{"config": config}, h, site)
	require.NoError(t, err)
	require.Equal(t, "b@192.0.2.11:2", ep.user+"@"+ep.target())
	require.Equal(t, []string{".ssh/b"}, ep.identities)
	require.Equal(t, []string{"b"}, ep.knownHosts)
	require.Equal(t, "192.0.2.99", ep.jump[0].Address)

	h.SSH = inventory.SSH{NoConfig: true}
	ep, _, err = configured(t, map[string]string{"config": config}, h, site)
	require.NoError(t, err)
	require.Equal(t, "me@192.0.2.11:22", ep.user+"@"+ep.target())
	require.Empty(t, ep.jump)
}

func TestAliasIsResolvedByHostName(t *testing.T) {
	const config = "Host pve1\n HostName %h.example.org\n"
	ep, _, err := configured(t, map[string]string{"config": config}, inventory.Host{Name: "first", Address: "pve1"}, nil)
	require.NoError(t, err)
	require.Equal(t, "pve1.example.org:22", ep.target())
}

func TestIncludedFilesBelongToTheirBlock(t *testing.T) {
	files := map[string]string{
		"config":        "Include conf.d/*.conf missing.conf\nHost pve1\n Include inner\n Port 2\n",
		"conf.d/a.conf": "Host other\n User x\n",
		"conf.d/b.conf": "Host pve1\n User y\nMatch user z\n Port 9\n",
		"inner":         "IdentityFile ~/.ssh/k\nHost elsewhere\n Port 7\n",
	}
	ep, notes, err := configured(t, files, inventory.Host{Name: "pve1", Address: "192.0.2.11"}, nil)
	require.NoError(t, err)
	require.Equal(t, "y@192.0.2.11:2", ep.user+"@"+ep.target())
	require.Equal(t, []string{".ssh/k"}, ep.identities)
	require.Len(t, notes, 1)
}

func TestIncludeOfItselfEnds(t *testing.T) {
	_, notes, err := configured(t, map[string]string{"config": "Include config\n"}, inventory.Host{Name: "a", Address: "192.0.2.1"}, nil)
	require.NoError(t, err)
	require.Contains(t, notes[0], "nests too deep")
}

func TestBadClientConfigIsAnErrorOfTheHost(t *testing.T) {
	_, _, err := configured(t, map[string]string{"config": "Port many\n"}, inventory.Host{Name: "a", Address: "192.0.2.1"}, nil)
	require.ErrorContains(t, err, `Port "many"`)
}

func TestMissingClientConfigSaysNothing(t *testing.T) {
	c, notes, err := loadClientConfig(filepath.Join(t.TempDir(), "none"), "")
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Empty(t, c.first("User", "x"))
}

func FuzzClientConfig(f *testing.F) {
	f.Add("Host a\n User b\nMatch all\n Port 2\n")
	f.Add("Include *\nHost \"\n =\n")
	f.Add("Host !\n HostName %%%h\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		client, _, err := loadClientConfig(path, t.TempDir())
		if err != nil {
			return
		}
		_, _ = resolve(inventory.Host{Name: "a", Address: "a"}, Config{}, client)
	})
}
