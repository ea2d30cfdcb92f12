package snapshot

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// secretive are files as an admin may have left them, with "S3CRET" in every place in which something must not be told.
var secretive = map[string]string{
	"corosync.conf": `# S3CRET
totem {
  cluster_name: lab # S3CRET
  key: S3CRET
  keyfile: /S3CRET
  token: 3000
  interface {
    linknumber: 0
    password: S3CRET
  }
}
`,
	"storage.cfg": `dir: local
	path /var/lib/vz
	comment S3CRET

cifs: share
	path /mnt/pve/share
	server 192.0.2.60
	share vm
	username backup
	password S3CRET
	options vers=3.0,password=S3CRET,credentials=/root/S3CRET
	encryption-key S3CRET
	keyring S3CRET

pbs: copies
	server https://admin:S3CRET@192.0.2.61
	datastore main
	master-pubkey S3CRET
`,
	"datacenter.cfg":    "keyboard: de\nhttp_proxy: http://me:S3CRET@192.0.2.9:3128\ndescription: S3CRET\nmigration: type=secure\nemail_from: S3CRET@example.com\nwebauthn: id=S3CRET\n",
	"ceph.conf":         "[global]\n\tfsid = 1-2\n\tmon host = 10.0.3.1\n# S3CRET\n[client]\n\tkeyring = /etc/pve/priv/$cluster.$name.keyring\n\tkey = S3CRET\n",
	"jobs.cfg":          "vzdump: nightly\n\tschedule 02:30\n\tstorage copies\n\tmailto S3CRET@example.com\n\tnotes-template S3CRET\n\tscript /S3CRET\n\tcomment S3CRET\n",
	"replication.cfg":   "local: 100-0\n\ttarget pve2\n\tcomment S3CRET\n",
	"ha/resources.cfg":  "vm: 100\n\tstate started\n\tcomment S3CRET\n",
	"ha/groups.cfg":     "group: web\n\tnodes pve1:2\n\tcomment S3CRET\n",
	"ha/rules.cfg":      "node-affinity: web\n\tnodes pve1\n\tresources vm:100\n\tcomment S3CRET\n",
	"user.cfg":          "user:root@pam:1:0:S3CRET::S3CRET::\ntoken:root@pam!S3CRET:0:1::\npool:web:S3CRET:100,101:local:\n",
	"mapping/pci.cfg":   "gpu1\n\tdescription S3CRET\n\tmap id=1000:0001,node=pve1,path=0000:01:00\n",
	"priv/token.cfg":    "root@pam!x S3CRET\n",
	"priv/shadow.cfg":   "S3CRET\n",
	"notifications.cfg": "smtp: mail\n\tpassword S3CRET\n",
}

const secretiveGuest = `#S3CRET
args: -S3CRET
boot: order=scsi0
cipassword: S3CRET
ciuser: S3CRET
description: S3CRET
hookscript: local:snippets/S3CRET
memory: 2048
name: web
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0
scsi0: vm:vm-100-disk-0,size=32G
sshkeys: S3CRET
searchdomain: S3CRET

[PENDING]
memory: 4096

[before]
#S3CRET
cipassword: S3CRET
memory: 1024
snaptime: 1700000000
`

func TestNothingSecretIsKept(t *testing.T) {
	for name, text := range secretive {
		require.NotContains(t, keep(name, []byte(text)), "S3CRET", name)
	}
	require.NotContains(t, keepConfig(secretiveGuest), "S3CRET")
	require.NotContains(t, keepSource("# S3CRET\ndeb https://user:S3CRET@mirror.example.com/debian trixie main\n"), "S3CRET")
	require.NotContains(t, keepSource("Types: deb\nURIs: https://user:S3CRET@mirror.example.com/pve\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n S3CRET\nSuites: trixie\n"), "S3CRET")
}

func TestWhatIsNeededIsKept(t *testing.T) {
	for name, want := range map[string]string{
		"corosync.conf":    "\ntotem {\n  cluster_name: lab\n  token: 3000\n  interface {\n    linknumber: 0\n  }\n}\n",
		"datacenter.cfg":   "keyboard: de\nmigration: type=secure\n",
		"ceph.conf":        "[global]\n\tfsid = 1-2\n\tmon_host = 10.0.3.1\n[client]\n\tkeyring = /etc/pve/priv/$cluster.$name.keyring\n",
		"replication.cfg":  "local: 100-0\n\ttarget pve2\n\n",
		"ha/resources.cfg": "vm: 100\n\tstate started\n\n",
		"user.cfg":         "pool:web::100,101::\n",
	} {
		require.Equal(t, want, keep(name, []byte(secretive[name])), name)
	}
	storages := keep("storage.cfg", []byte(secretive["storage.cfg"]))
	require.Contains(t, storages, "options vers=3.0\n")
	require.Contains(t, storages, "username backup\n")
	require.Contains(t, storages, "server https://192.0.2.61\n")
	require.Equal(t, "boot: order=scsi0\nmemory: 2048\nname: web\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\nscsi0: vm:vm-100-disk-0,size=32G\n\n[before]\nmemory: 1024\nsnaptime: 1700000000\n", keepConfig(secretiveGuest))
	require.Equal(t, "Types: deb\nURIs: https://mirror.example.com/pve\nSuites: trixie\n", keepSource("# mine\nTypes: deb\nURIs: https://u:p@mirror.example.com/pve\nSigned-By:\n -----BEGIN\n x\nSuites: trixie\n"))
}

// What decides where a guest can run is what the reasoning about guests reads: a key that only that package knew would make a copy
// that is freer than the original.
func TestConfigsSayAsMuchAboutMovesAsTheOriginal(t *testing.T) {
	for _, text := range []string{
		secretiveGuest,
		"cores: 4\ncpu: host,flags=+aes\nhostpci0: mapping=gpu1\nide2: local:iso/x.iso,media=cdrom\nivshmem: size=32\nlock: backup\nmemory: 1\nname: a\nonboot: 1\nsmbios1: uuid=5a0b\nsockets: 2\ntags: a;b\nunused0: vm:vm-1-disk-9\nusb0: host=1234:5678\nvga: std,clipboard=vnc\nvirtiofs0: dirid=x\n\n[s]\nvmstate: vm:vm-1-state-s\nscsi1: vm:vm-1-disk-3,size=1G\n",
		"hostname: box\nmemory: 512\nrootfs: local-lvm:vm-1-disk-0,size=4G\nmp0: /mnt/data,mp=/data,shared=1\ndev0: /dev/ttyUSB0\nnet0: name=eth0,bridge=vmbr3\ntemplate: 1\n",
	} {
		for _, kind := range []guest.Kind{guest.VM, guest.CT} {
			require.Equal(t, guest.Parse(kind, 100, "pve1", text), guest.Parse(kind, 100, "pve1", keepConfig(text)))
		}
	}
}

func TestGrepOnTheNodeTakesTheSameKeys(t *testing.T) {
	pattern := regexp.MustCompile(guestGrep)
	for line := range strings.Lines(secretiveGuest) {
		key, _, _ := strings.Cut(line, ":")
		require.Equal(t, guestKeys.MatchString(key) || strings.HasPrefix(line, "["), pattern.MatchString(line), line)
	}
	require.True(t, pattern.MatchString("==> /etc/pve/nodes/pve1/qemu-server/100.conf <=="))
}

func TestReadingToleratesWhatItDoesNotKnow(t *testing.T) {
	s, err := Parse([]byte(`{"pxrun_snapshot": 1, "taken": "2026-01-02T03:04:05Z", "from": "pve1", "later": {"x": 1}, "files": {}, "nodes": [{"name": "pve1", "address": "192.0.2.11", "online": true, "colour": "red"}]}`))
	require.NoError(t, err)
	require.Equal(t, "pve1", s.Nodes[0].Name)
	var text bytes.Buffer
	require.NoError(t, s.Write(&text))
	again, err := Parse(text.Bytes())
	require.NoError(t, err)
	require.Equal(t, s, again)
	for text, want := range map[string]string{
		`[]`:         "it is no snapshot",
		`{"run": 1}`: `"pxrun_snapshot" is missing`,
		`{"pxrun_snapshot": 2, "nodes": [{"name": "a"}]}`:                                                       "it has format 2",
		`{"pxrun_snapshot": 1}`:                                                                                 "it has no nodes",
		`{"pxrun_snapshot": 1, "nodes": [{"name": "a"}], "files": {"corosync.conf": "}"}}`:                      "without a block",
		`{"pxrun_snapshot": 1, "nodes": [{"name": "a"}], "guests": [{"id": 100, "kind": "vm", "node": "b"}]}`:   `guest 100 is on "b"`,
		`{"pxrun_snapshot": 1, "nodes": [{"name": "a"}], "guests": [{"id": 100, "kind": "jail", "node": "a"}]}`: `guest 100 is of the kind "jail"`,
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzKeepTellsNoSecret(f *testing.F) {
	for name, text := range secretive {
		f.Add(name, text)
	}
	f.Add("guest", secretiveGuest)
	f.Fuzz(func(t *testing.T, name, text string) {
		// A line with free text never gets through, wherever it stands.
		require.NotContains(t, keep(name, []byte(text+"\n\tcomment S3CRETWORD\n\tpassword S3CRETWORD\n")), "S3CRETWORD")
		require.NotContains(t, keepConfig(text+"\ncipassword: S3CRETWORD\ndescription: S3CRETWORD\n"), "S3CRETWORD")
	})
}
