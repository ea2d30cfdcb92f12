package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// root is a folder that stands for the root of a node: scripts that name absolute paths run in it by a real shell.
type root struct {
	t    *testing.T
	dir  string
	conn *testkit.Local
}

func newRoot(t *testing.T, files map[string]string) *root {
	t.Helper()
	r := &root{t, t.TempDir(), testkit.NewLocal(t)}
	for name, text := range files {
		r.write(name, text)
	}
	return r
}

func (r *root) write(name, text string) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(filepath.Dir(r.dir+name), 0o755))
	require.NoError(r.t, os.WriteFile(r.dir+name, []byte(text), 0o644))
}

func (r *root) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.dir + name)
	require.NoError(r.t, err)
	return string(text)
}

func (r *root) run(script, stdin string, argv ...string) transport.Result {
	r.t.Helper()
	for _, top := range []string{"/etc/", "/root/", "/var/lib/"} {
		script = strings.ReplaceAll(script, top, r.dir+top)
	}
	result, err := r.conn.Run(r.t.Context(), transport.Command{Script: script, Argv: argv, Stdin: []byte(stdin)})
	require.NoError(r.t, err)
	return result
}

func TestLetInScript(t *testing.T) {
	const keys = "/etc/pve/priv/authorized_keys"
	tests := []struct{ name, before, after string }{
		{"empty", "", "ssh-rsa AAAA a b\nssh-ed25519 BBBB\n"},
		{"one known", "ssh-rsa AAAA old comment\n", "ssh-rsa AAAA old comment\nssh-ed25519 BBBB\n"},
		{"no last newline", "ssh-rsa CCCC", "ssh-rsa CCCC\nssh-rsa AAAA a b\nssh-ed25519 BBBB\n"},
		{"all known", "ssh-ed25519 BBBB\n\nssh-rsa AAAA", "ssh-ed25519 BBBB\n\nssh-rsa AAAA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoot(t, map[string]string{keys: tt.before})
			result := r.run(letInScript, "AAAA ssh-rsa AAAA a b\nBBBB ssh-ed25519 BBBB\n")
			require.Zero(t, result.Exit, "%s", result.Stderr)
			require.Equal(t, tt.after, r.read(keys))
			require.NoFileExists(t, r.dir+keys+".pxrun")
		})
	}
}

func TestOwnKeyScript(t *testing.T) {
	keygen := `case "$*" in *-y*) echo "ssh-rsa MADE"; exit;; esac
for last; do :; done
echo private >"$last"; echo "ssh-rsa NEW" >"$last.pub"`
	r := newRoot(t, nil)
	r.conn.Program(t, "ssh-keygen", keygen)
	require.Equal(t, "ssh-rsa NEW", r.run(ownKeyScript, "").Out())
	require.Equal(t, "ssh-rsa NEW", r.run(ownKeyScript, "").Out(), "a key that is there is kept")
	require.NoError(t, os.Remove(r.dir+"/root/.ssh/id_rsa.pub"))
	require.Equal(t, "ssh-rsa MADE", r.run(ownKeyScript, "").Out(), "a lost public half is made again")
	info, err := os.Stat(r.dir + "/root/.ssh")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestTrustScript(t *testing.T) {
	r := newRoot(t, map[string]string{"/root/.ssh/known_hosts": "192.0.2.12 ssh-rsa OTHER"})
	r.conn.Program(t, "ssh-keygen", `exit 0`)
	r.conn.Program(t, "ssh", `echo "$@"`)
	result := r.run(trustScript, "192.0.2.11 ssh-rsa AAAA\n192.0.2.11 ssh-ed25519 BBBB", "192.0.2.11")
	require.Zero(t, result.Exit)
	require.Equal(t, "-o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 root@192.0.2.11 true", result.Out())
	require.Equal(t, "192.0.2.12 ssh-rsa OTHER\n192.0.2.11 ssh-rsa AAAA\n192.0.2.11 ssh-ed25519 BBBB\n", r.read("/root/.ssh/known_hosts"))
	r.conn.Program(t, "ssh", `echo "Permission denied (publickey)." >&2; exit 255`)
	require.Equal(t, 255, r.run(trustScript, "", "192.0.2.11").Exit)
}

func TestFinishScript(t *testing.T) {
	const db = "/var/lib/pve-cluster/config.db"
	files := map[string]string{db: "a single node's", db + "-wal": "more", "/etc/pve/local": ""}
	prepare := func(t *testing.T) *root {
		t.Helper()
		r := newRoot(t, files)
		r.conn.Program(t, "ssh", `for last; do :; done; case "$last" in */authkey) echo key;; *) echo conf;; esac`)
		r.conn.Program(t, "stat", `echo 755`)
		r.conn.Program(t, "sqlite3", `grep -c 'corosync.conf' "$1"`)
		// Starting the services shows the cluster's configuration.
		r.conn.Program(t, "systemctl", `echo "$@" >>`+r.dir+`/ran; case "$*" in restart*) touch `+r.dir+`/etc/pve/corosync.conf;; esac`)
		r.conn.Program(t, "pvecm", `echo pvecm "$@" >>`+r.dir+`/ran`)
		return r
	}

	r := prepare(t)
	result := r.run(finishScript, "", "192.0.2.11", "5")
	require.Zero(t, result.Exit, "%s%s", result.Stdout, result.Stderr)
	require.Equal(t, "key\n", r.read("/etc/corosync/authkey"))
	require.Equal(t, "conf\n", r.read("/etc/corosync/corosync.conf"))
	require.Equal(t, "stop pve-cluster\nrestart corosync pve-cluster\npvecm updatecerts --force 1\nreload-or-restart pvedaemon pveproxy\n", r.read("/ran"))
	kept, err := filepath.Glob(r.dir + "/var/lib/pve-cluster/backup/pxrun-*/config.db*")
	require.NoError(t, err)
	require.Len(t, kept, 2, "the old database is kept, not lost")
	require.NoFileExists(t, r.dir+db)

	r = prepare(t)
	r.write(db, "holds corosync.conf")
	result = r.run(finishScript, "", "192.0.2.11", "5")
	require.Zero(t, result.Exit, "%s%s", result.Stdout, result.Stderr)
	require.FileExists(t, r.dir+db, "the database of a node in a cluster is never taken away")

	for _, silent := range []string{`echo "Error: database is locked" >&2; exit 5`, `exit 127`} {
		r = prepare(t)
		r.conn.Program(t, "sqlite3", silent)
		r.write(db, "page\x00holds corosync.conf\x00")
		result = r.run(finishScript, "", "192.0.2.11", "5")
		require.Zero(t, result.Exit, "%s%s", result.Stdout, result.Stderr)
		require.FileExists(t, r.dir+db, "a database that sqlite3 cannot tell of is looked into")
	}

	r = prepare(t)
	r.conn.Program(t, "ssh", `exit 255`)
	result = r.run(finishScript, "", "192.0.2.11", "5")
	require.Equal(t, 1, result.Exit)
	require.Contains(t, string(result.Stderr), "the member's authkey could not be copied")
	require.NoFileExists(t, r.dir+"/ran", "nothing is stopped before all is at hand")

	r = prepare(t)
	r.conn.Program(t, "stat", `echo 555`)
	result = r.run(finishScript, "", "192.0.2.11", "1")
	require.Equal(t, 1, result.Exit)
	require.Contains(t, string(result.Stderr), "no quorum within 1 seconds")
}

func TestMeasureScript(t *testing.T) {
	r := newRoot(t, nil)
	r.conn.Program(t, "ping", `for last; do :; done
case "$*" in *"-M do -s 1472"*) echo "1 packets transmitted, 1 received, 0% packet loss, time 0ms";;
*"-c 5"*) printf '5 packets transmitted, 5 received\nrtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms\n';;
*) echo "ping: local error: message too long, mtu=1500" >&2; exit 1;; esac`)
	r.conn.Program(t, "nc", `[ "$5" = 22 ]`)
	result := r.run(measureScript, "ping 10.0.1.1 10.0.1.2\nmtu 10.0.1.1 10.0.1.2 1472\nmtu 10.0.1.1 10.0.1.3 8972\nport 192.0.2.12 22\nport 192.0.2.12 8006\n")
	require.Zero(t, result.Exit)
	require.ElementsMatch(t, []string{
		"ping 10.0.1.1 10.0.1.2 5 packets transmitted, 5 received rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms",
		"mtu 10.0.1.1 10.0.1.2 1 packets transmitted, 1 received, 0% packet loss, time 0ms",
		"mtu 10.0.1.1 10.0.1.3 ping: local error: message too long, mtu=1500",
		"port 192.0.2.12 22 open",
		"port 192.0.2.12 8006 closed",
	}, trimmed(strings.Split(result.Out(), "\n")))
}

func trimmed(lines []string) []string {
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

func TestUndoScriptOfTheDevice(t *testing.T) {
	const note = "/etc/pve/priv/pxrun-qdevice.json"
	undo := undoDeviceOff("pve1", "192.0.2.50").Command
	tests := []struct {
		name, conf string
		setUp      bool
		forgotten  bool
	}{
		{"even", "ring0_addr: a\nring0_addr: b\n", true, true},
		{"odd", "ring0_addr: a\n", false, false},
		{"there already", "ring0_addr: a\nmodel: net\n", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoot(t, map[string]string{"/etc/pve/corosync.conf": tt.conf, note: "{}"})
			r.conn.Program(t, "pvecm", `echo pvecm "$@"`)
			for range 2 { // it may be run twice
				result := r.run(undo.Script, "", undo.Argv...)
				require.Zero(t, result.Exit, "%s", result.Stderr)
				require.Equal(t, tt.setUp, strings.Contains(result.Out(), "pvecm qdevice setup 192.0.2.50"))
			}
			_, err := os.Stat(r.dir + note)
			require.Equal(t, tt.forgotten, os.IsNotExist(err))
		})
	}
}

// What cannot be read is no proof that there is no QDevice: the certificates of one that works stay.
func TestUndoScriptOfTheDeviceLeavesWhatItCannotJudge(t *testing.T) {
	undo := undoDeviceOff("pve1", "192.0.2.50").Command
	r := newRoot(t, map[string]string{"/etc/corosync/qdevice/net/nssdb/cert9.db": "x"})
	r.conn.Program(t, "pvecm", `echo pvecm "$@"`)
	result := r.run(undo.Script, "", undo.Argv...)
	require.Equal(t, 1, result.Exit)
	require.NotContains(t, result.Out(), "pvecm")
	require.FileExists(t, r.dir+"/etc/corosync/qdevice/net/nssdb/cert9.db")
}

// Whatever stands in a file of a node is only text.
func TestKeyNameOfOddLines(t *testing.T) {
	for line, want := range map[string]string{
		"ssh-rsa AAAA root@pve1":                   "ssh-rsa root@pve1",
		`command="x" ssh-ed25519 BBBB ann at desk`: "ssh-ed25519 ann at desk",
		"ssh-rsa s":       "ssh-rsa",
		"ssh-rsa ssh-rsa": "a key",
		"ssh-rsa":         "a key",
		"":                "a key",
	} {
		require.Equal(t, want, keyName(line), "%q", line)
	}
}

func TestClusterAddrIsAnAddress(t *testing.T) {
	node := pve.NodeState{Host: "pve1", Hostname: "pve1", Members: &pve.Members{Nodes: []pve.Member{{Name: "pve1", IP: "-oProxyCommand=x"}}}}
	host := inventory.Host{Name: "pve1", Address: "192.0.2.11"}
	addr, err := clusterAddr(node, host)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.11", addr)
	node.Members.Nodes[0].IP = "192.0.2.21"
	addr, err = clusterAddr(node, host)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.21", addr)
}
