package guest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const webConf = `#the notes of web01: scsi9: local:vm-1-disk-0
boot: order=scsi0;ide2
cores: 4
cpu: x86-64-v2-AES,flags=+aes
ide2: local:iso/debian.iso,media=cdrom,size=500M
ide0: local-lvm:vm-100-cloudinit,media=cdrom
memory: 8192
name: web01
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1
net1: virtio=BC:24:11:00:00:02,bridge=vmbr1
scsi0: local-lvm:vm-100-disk-0,size=32G
scsi1: ceph:vm-100-disk-1,size=100G,replicate=0
sockets: 2
tags: prod;web
unused0: local-lvm:vm-100-disk-7
usb0: host=1-2
usb1: spice
hostpci0: mapping=gpu1
serial0: socket
vga: std,clipboard=vnc

[PENDING]
hostpci1: 0000:01:00.0
lock: backup

[before]
memory: 4096
scsi0: local-lvm:vm-100-disk-0,size=32G
scsi5: local-lvm:vm-100-disk-9,size=1G
vmstate: local-lvm:vm-100-state-before

[special:cloudinit]
name: other
`

func TestConfigOfAMachine(t *testing.T) {
	g := Parse(VM, 100, "pve1", webConf)
	require.Equal(t, "vm 100 (web01)", g.String())
	require.Equal(t, []string{"prod", "web"}, g.Tags)
	require.EqualValues(t, 8<<30, g.Memory)
	require.Equal(t, 8, g.Cores)
	require.Equal(t, "x86-64-v2-AES", g.CPU)
	require.Equal(t, []string{"vmbr0", "vmbr1"}, g.Bridges)
	require.Equal(t, []string{"usb0"}, g.Devices, "what is pending does not count")
	require.Equal(t, []Device{{"hostpci0", "pci/gpu1"}}, g.Mapped)
	require.Empty(t, g.Lock)
	require.True(t, g.Clipboard)
	require.Equal(t, []string{"before"}, g.Snapshots)
	var seen []string
	for _, v := range g.Volumes {
		seen = append(seen, fmt.Sprintf("%s %s %s snapshot=%s unused=%t cd=%t ci=%t replicate=%t", v.Key, v.File, FormatBytes(v.Size), v.Snapshot, v.Unused, v.CDROM, v.CloudInit, v.Replicate))
	}
	require.Equal(t, []string{
		"ide0 local-lvm:vm-100-cloudinit 0 B snapshot= unused=false cd=true ci=true replicate=true",
		"ide2 local:iso/debian.iso 500 MiB snapshot= unused=false cd=true ci=false replicate=true",
		"scsi0 local-lvm:vm-100-disk-0 32 GiB snapshot=before unused=false cd=false ci=false replicate=true",
		"scsi1 ceph:vm-100-disk-1 100 GiB snapshot= unused=false cd=false ci=false replicate=false",
		"unused0 local-lvm:vm-100-disk-7 0 B snapshot= unused=true cd=false ci=false replicate=true",
		"scsi5 local-lvm:vm-100-disk-9 1 GiB snapshot=before unused=false cd=false ci=false replicate=true",
		"vmstate local-lvm:vm-100-state-before 0 B snapshot=before unused=false cd=false ci=false replicate=true",
	}, seen)
}

func TestConfigOfAContainer(t *testing.T) {
	g := Parse(CT, 201, "pve2", "hostname: box\nlock: backup\nmp0: /srv/data,mp=/data\nmp1: /mnt/all,mp=/all,shared=1\nrootfs: tank:subvol-201-disk-0,size=8G\ndev0: /dev/ttyUSB0\nnet0: name=eth0,bridge=vmbr0\nmemory: 1024\n")
	require.Equal(t, "ct 201 (box)", g.String())
	require.Equal(t, "backup", g.Lock)
	require.Equal(t, []string{"dev0"}, g.Devices)
	require.Equal(t, []Volume{
		{Key: "mp0", File: "/srv/data", Replicate: true, Format: "raw"},
		{Key: "mp1", File: "/mnt/all", Declared: true, Replicate: true, Format: "raw"},
		{Key: "rootfs", File: "tank:subvol-201-disk-0", Storage: "tank", Size: 8 << 30, Replicate: true, Format: "raw"},
	}, g.Volumes)
}

func TestManyConfigs(t *testing.T) {
	got := ParseConfigs([]byte("noise\n==> /etc/pve/nodes/pve1/qemu-server/101.conf <==\nname: b\n\n==> /etc/pve/nodes/pve2/lxc/100.conf <==\nhostname: a\n==> /etc/pve/nodes/pve2/lxc/0x.conf <==\n"))
	require.Len(t, got, 2)
	require.Equal(t, "ct 100 (a) pve2", got[0].String()+" "+got[0].Node)
	require.Equal(t, "vm 101 (b) pve1", got[1].String()+" "+got[1].Node)
}

// The answer about many guests must fit in what a connection keeps of an output.
func TestAThousandGuestsFit(t *testing.T) {
	var b strings.Builder
	for id := range 1000 {
		fmt.Fprintf(&b, "\n==> /etc/pve/nodes/pve-node-%02d/qemu-server/%d.conf <==\ncores: 4\ncpu: x86-64-v2-AES\nide2: none,media=cdrom\nmemory: 8192\nname: customer-web-%04d\n"+
			"net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=100\nscsi0: ceph-vm:vm-%d-disk-0,discard=on,iothread=1,size=32G,ssd=1\nscsi1: ceph-vm:vm-%d-disk-1,size=200G\nsockets: 1\ntags: customer;prod;web\n", id%32, 1000+id, id, 1000+id, 1000+id)
	}
	const besides = 300 << 10 // .rrd, .vmlist and the HA manager's files
	require.Less(t, b.Len()+besides, transport.OutputLimit)
	require.Len(t, ParseConfigs([]byte(b.String())), 1000)
}

func TestWhatANodeSays(t *testing.T) {
	out := `@@n begin
@@n running
vm 100
ct 201
end

@@n rc 0
@@n memory
MemTotal:       16777216 kB
MemAvailable:    8388608 kB

@@n rc 0
@@n cpu
processor	: 0
vendor_id	: GenuineIntel
model name	: Lab CPU
flags		: fpu aes

@@n rc 0
@@n interfaces
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
 vmbr0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0

@@n rc 0
@@n versions
pve-manager 9.1.8
pve-qemu-kvm 10.1.2-4

@@n rc 0
@@n end
`
	n := ParseNode("pve1", []byte(out))
	require.NoError(t, n.Err)
	require.Equal(t, map[int]Kind{100: VM, 201: CT}, n.Running)
	require.EqualValues(t, 16<<30, n.Memory)
	require.Equal(t, "GenuineIntel Lab CPU vmbr0 10.1.2-4 9.1.8", strings.Join([]string{n.Vendor, n.Model, n.Interfaces[0], n.QEMU, n.Manager}, " "))
	require.Len(t, n.Interfaces, 1)
	require.True(t, n.Flags["aes"])
	require.Error(t, ParseNode("pve1", []byte(strings.Replace(out, "end\n\n@@n rc 0\n@@n memory", "\n@@n rc 124\n@@n memory", 1))).Err, "a list that is cut is none")
	require.Error(t, ParseNode("pve1", nil).Err)
}

func TestPreconditionsAsRecorded(t *testing.T) {
	text, err := os.ReadFile("testdata/preconditions.txt")
	require.NoError(t, err)
	answers := strings.Split(strings.TrimSpace(string(text)), "\n")
	p := ParsePreconditions(answers[0], 0)
	require.True(t, p.Running)
	require.Empty(t, p.LocalDisks)
	p = ParsePreconditions(answers[1], 0)
	require.Equal(t, []string{"serial0"}, p.LocalResources)
	require.False(t, p.Running)
	p = ParsePreconditions(answers[2], 0)
	require.Equal(t, []string{"local:100/vm-100-disk-0.raw"}, p.LocalDisks)
	p = ParsePreconditions(answers[3], 0)
	require.Equal(t, []string{"storage local-zfs is not available there", "the mapped device gpu1 is not available there", "vm:101 keeps it away by a rule (resource-affinity)"}, p.Not["pve3"])
	require.Equal(t, "VM is locked (backup)", ParsePreconditions("VM is locked (backup)", 255).Refused)
	require.NotEmpty(t, ParsePreconditions("", 0).Refused, "no answer is no consent")

	m := Move{Way: Live, Target: "pve3"}
	m.Add(p, Options{})
	require.Len(t, m.Reasons, 3)
	require.Equal(t, Nowhere, m.Way)
	m = Move{Way: Live, Target: "pve3"}
	m.Add(p, Options{Storages: map[string]string{"": "tank"}})
	require.Len(t, m.Reasons, 2, "the storage is mapped")
}

const storages = `dir: local
	path /var/lib/vz
	content iso,images,rootdir

lvmthin: local-lvm
	content rootdir,images

zfspool: tank
	pool tank
	nodes pve1,pve2

rbd: ceph
	content images,rootdir

nfs: isos
	content iso

dir: off
	content images
	disable

esxi: odd
	content images
`

// cluster is pve1 to pve3, with a guest on pve1 that runs.
func cluster(g Guest) *Site {
	sections, _ := config.ParseSections([]byte(storages))
	node := func(name string) *Node {
		return &Node{
			Name: name, Running: map[int]Kind{}, Memory: 32 << 30, Available: 30 << 30, Vendor: "GenuineIntel", Model: "A", Interfaces: []string{"vmbr0"}, QEMU: "10.1.2-4", Manager: "9.1.8",
			Flags: map[string]bool{"cx16": true, "lahf_lm": true, "popcnt": true, "sse4_1": true, "sse4_2": true, "ssse3": true, "aes": true},
		}
	}
	s := &Site{
		Storages: sections, Guests: []Guest{g}, Mappings: map[string][]string{"pci/gpu1": {"pve2"}}, Unread: map[string]string{},
		Members: &pve.Members{NodeName: "pve1", Cluster: &pve.MemberCluster{Name: "lab"}, Nodes: []pve.Member{{Name: "pve1", Online: true}, {Name: "pve2", Online: true}, {Name: "pve3"}}},
		HA:      &ha.State{Manager: &ha.Manager{Master: "pve1", Nodes: map[string]string{"pve1": "online", "pve2": "online"}}},
		Nodes:   map[string]*Node{"pve1": node("pve1"), "pve2": node("pve2")},
	}
	if g.Status == "running" {
		s.Nodes[g.Node].Running[g.ID] = g.Kind
	}
	return s
}

func vm(lines ...string) Guest {
	g := Parse(VM, 100, "pve1", strings.Join(append([]string{"memory: 4096", "name: web"}, lines...), "\n"))
	g.Status = "running"
	return g
}

func stopped(g Guest) Guest { g.Status = "stopped"; return g }

func ct(lines ...string) Guest {
	g := Parse(CT, 200, "pve1", strings.Join(lines, "\n"))
	g.Status = "running"
	return g
}

func managed(g Guest, state string) Guest {
	g.Managed = Managed{State: "started", Known: true, Service: ha.Service{Node: "pve1", State: state}}
	return g
}

func TestCanMove(t *testing.T) {
	for _, tt := range []struct {
		name   string
		guest  Guest
		change func(*Site)
		to     string
		o      Options
		want   []Code
		way    Way
	}{
		{name: "a machine that runs", guest: vm("scsi0: ceph:vm-100-disk-0,size=32G"), way: Live},
		{name: "one that does not", guest: stopped(vm()), way: Offline},
		{name: "is there", guest: vm(), to: "pve1", way: AtTarget},
		{name: "under HA", guest: managed(vm(), "started"), way: Live},
		{name: "ignored by HA", guest: func() Guest { g := vm(); g.Managed.State = "ignored"; return g }(), way: Live},
		{name: "template", guest: stopped(vm("template: 1")), want: []Code{IsTemplate}},
		{name: "locked", guest: vm("lock: backup"), want: []Code{IsLocked}},
		{name: "no such node", guest: vm(), to: "pve9", want: []Code{NoTarget}},
		{name: "offline", guest: vm(), to: "pve3", want: []Code{NoTarget}},
		{name: "in maintenance", guest: vm(), change: func(s *Site) { s.HA.Manager.Maintenance = []string{"pve2"} }, want: []Code{NoTarget}},
		{name: "in error", guest: managed(vm(), "error"), want: []Code{InHAError}},
		{name: "on its way", guest: managed(vm(), "migrate"), want: []Code{StateUnknown}},
		{name: "disarmed", guest: managed(vm(), "started"), change: func(s *Site) { s.HA.Manager.Disarmed = "freeze" }, want: []Code{HADisarmed}},
		{name: "device", guest: stopped(vm("hostpci0: 0000:01:00")), want: []Code{LocalDevice}},
		{name: "mapped device, live", guest: vm("hostpci0: mapping=gpu1"), want: []Code{LocalDevice}},
		{name: "mapped device, stopped", guest: stopped(vm("hostpci0: mapping=gpu1")), way: Offline},
		{name: "mapped device that is not there", guest: stopped(vm("hostpci0: mapping=gpu2")), want: []Code{MappingMissing}},
		{name: "local disk", guest: vm("scsi0: local-lvm:vm-100-disk-0,size=32G"), want: []Code{LocalDisk}},
		{name: "local disk, allowed", guest: vm("scsi0: local-lvm:vm-100-disk-0,size=32G"), o: Options{LocalDisks: true}, way: Live},
		{name: "local disk, stopped", guest: stopped(vm("scsi0: local-lvm:vm-100-disk-0,size=32G")), way: Offline},
		{name: "local disk under HA, stopped", guest: stopped(managed(vm("scsi0: local-lvm:vm-100-disk-0,size=32G"), "stopped")), want: []Code{LocalDisk}},
		{name: "cdrom", guest: vm("ide2: local:iso/x.iso,media=cdrom"), want: []Code{LocalMedium}},
		{name: "shared cdrom", guest: vm("ide2: isos:iso/x.iso,media=cdrom"), way: Live},
		{name: "drive", guest: vm("ide2: cdrom,media=cdrom"), want: []Code{LocalMedium}},
		{name: "no medium", guest: vm("ide2: none,media=cdrom"), way: Live},
		{name: "cloud-init", guest: vm("ide2: local-lvm:vm-100-cloudinit,media=cdrom"), way: Live},
		{name: "disk of the node", guest: stopped(vm("scsi0: /dev/sdb")), want: []Code{LocalPath}},
		{name: "snapshot", guest: stopped(vm("scsi0: local-lvm:vm-100-disk-0,size=1G", "[a]", "scsi0: local-lvm:vm-100-disk-0,size=1G")), want: []Code{HasSnapshot}},
		{name: "snapshot on ZFS", guest: stopped(vm("scsi0: tank:vm-100-disk-0,size=1G", "[a]", "scsi0: tank:vm-100-disk-0,size=1G")), way: Offline},
		{name: "snapshot on ZFS, live", guest: vm("scsi0: tank:vm-100-disk-0,size=1G", "[a]", "scsi0: tank:vm-100-disk-0,size=1G"), o: Options{LocalDisks: true}, want: []Code{HasSnapshot}},
		{name: "another's disk", guest: stopped(vm("scsi0: local-lvm:vm-105-disk-0,size=1G")), want: []Code{ForeignVolume}},
		{name: "clones", guest: stopped(vm("scsi0: local-lvm:base-100-disk-0,size=1G")), change: func(s *Site) {
			s.Guests = append(s.Guests, Parse(VM, 101, "pve1", "scsi0: local-lvm:base-100-disk-0/vm-101-disk-0,size=1G"))
		}, want: []Code{HasClones}},
		{name: "storage of other nodes", guest: stopped(vm("scsi0: tank:vm-100-disk-0,size=1G")), change: func(s *Site) { s.Members.Nodes[2].Online = true }, to: "pve3", want: []Code{StorageMissing}},
		{name: "the same, mapped", guest: stopped(vm("scsi0: tank:vm-100-disk-0,size=1G")), change: func(s *Site) { s.Members.Nodes[2].Online = true }, to: "pve3", o: Options{Storages: map[string]string{"tank": "local-lvm"}}, way: Offline},
		{name: "storage off", guest: stopped(vm("scsi0: off:vm-100-disk-0,size=1G")), want: []Code{StorageMissing}},
		{name: "no storage", guest: stopped(vm("scsi0: gone:vm-100-disk-0,size=1G")), want: []Code{StorageMissing}},
		{name: "content", guest: stopped(vm("scsi0: local-lvm:vm-100-disk-0,size=1G")), o: Options{Storages: map[string]string{"": "isos"}}, want: []Code{StorageContent}},
		{name: "type", guest: stopped(vm("scsi0: odd:vm-100-disk-0,size=1G")), want: []Code{StorageKind}},
		{name: "replicated elsewhere", guest: func() Guest { g := vm(); g.Jobs = []Job{{ID: "100-0", Target: "pve3"}}; return g }(), want: []Code{NotReplicated}},
		{name: "job goes", guest: func() Guest { g := vm(); g.Jobs = []Job{{ID: "100-0", Target: "pve2", Removed: true}}; return g }(), want: []Code{JobRemoved}},
		{name: "bridge", guest: vm("net0: virtio,bridge=vmbr7"), want: []Code{BridgeMissing}},
		{name: "bridge of a stopped one", guest: stopped(vm("net0: virtio,bridge=vmbr7")), way: Offline},
		{name: "older target", guest: vm(), change: func(s *Site) { s.Nodes["pve2"].QEMU = "9.2.0-5" }, want: []Code{OlderTarget}},
		{name: "newer target", guest: vm(), change: func(s *Site) { s.Nodes["pve2"].QEMU = "11.0.0-1" }, way: Live},
		{name: "host processor", guest: vm("cpu: host"), change: func(s *Site) { s.Nodes["pve2"].Model = "B" }, want: []Code{CPUDiffers}},
		{name: "the same processor", guest: vm("cpu: host"), way: Live},
		{name: "portable processor", guest: vm("cpu: x86-64-v2-AES"), way: Live},
		{name: "level that is not there", guest: vm("cpu: x86-64-v3"), want: []Code{CPUDiffers}},
		{name: "another maker", guest: vm("cpu: Cascadelake-Server"), change: func(s *Site) { s.Nodes["pve2"].Vendor = "AuthenticAMD" }, want: []Code{CPUDiffers}},
		{name: "memory", guest: vm("memory: 40960"), want: []Code{MemoryShort}},
		{name: "memory, overcommitted", guest: vm("memory: 40960"), o: Options{Overcommit: true}, way: Live},
		{name: "memory that is promised", guest: vm("memory: 8192"), o: Options{Promised: 28 << 30}, want: []Code{MemoryShort}},
		{name: "target that is not known", guest: vm(), change: func(s *Site) { s.Nodes["pve2"].Err = fmt.Errorf("no route") }, want: []Code{StateUnknown}},
		{name: "files that are not known", guest: vm(), change: func(s *Site) { s.Unread["configs"] = "no answer" }, want: []Code{StateUnknown}},
		{name: "container", guest: ct("rootfs: ceph:vm-200-disk-0,size=8G"), want: []Code{NeedsRestart}},
		{name: "container, restarted", guest: ct("rootfs: ceph:vm-200-disk-0,size=8G"), o: Options{Restart: true}, way: Restart},
		{name: "bind mount", guest: ct("mp0: /srv,mp=/srv"), o: Options{Restart: true}, want: []Code{LocalPath}},
		{name: "declared bind mount", guest: ct("mp0: /srv,mp=/srv,shared=1"), o: Options{Restart: true}, way: Restart},
	} {
		s := cluster(tt.guest)
		if tt.change != nil {
			tt.change(s)
		}
		to := tt.to
		if to == "" {
			to = "pve2"
		}
		m := CanMove(s, tt.guest, to, tt.o)
		var codes []Code
		for _, r := range m.Reasons {
			codes = append(codes, r.Code)
			require.NotEmpty(t, r.Saw, tt.name)
			require.NotEmpty(t, r.Look, tt.name)
		}
		require.Equal(t, tt.want, codes, tt.name)
		require.Equal(t, tt.way, m.Way, tt.name)
		require.Equal(t, tt.guest.ByHA(), m.ByHA, tt.name)
		require.Equal(t, m, s.Index().CanMove(tt.guest, to, tt.o), "%s, asked by an index", tt.name)
	}
}

func TestWhatAMoveCosts(t *testing.T) {
	g := vm("scsi0: local-lvm:vm-100-disk-0,size=100G", "scsi1: ceph:vm-100-disk-1,size=500G")
	m := CanMove(cluster(g), g, "pve2", Options{LocalDisks: true})
	require.Equal(t, "live, 4 GiB of memory and 100 GiB of disks", m.String())
	require.InDelta(t, (16*time.Minute + 16*time.Second).Seconds(), m.Duration(GigabitSpeed).Seconds(), 5)
	require.Less(t, m.Downtime(GigabitSpeed), time.Second)
	g.Jobs = []Job{{ID: "100-0", Target: "pve2"}}
	require.Less(t, CanMove(cluster(g), g, "pve2", Options{LocalDisks: true}).Duration(0), time.Minute+10*time.Second, "a replica is there")
	require.Equal(t, "not at all", Move{}.String())
}

func TestChoosing(t *testing.T) {
	s := &Site{Pools: map[string][]int{"web": {100}}, Guests: []Guest{
		{ID: 100, Kind: VM, Node: "pve1", Tags: []string{"prod"}, Pool: "web"}, {ID: 101, Kind: VM, Node: "pve2", Tags: []string{"prod", "db"}},
		{ID: 102, Kind: VM, Node: "pve1", Template: true, Tags: []string{"prod"}}, {ID: 103, Kind: CT, Node: "pve1"},
	}}
	for _, tt := range []struct {
		sel  Selection
		want []int
	}{
		{Selection{IDs: []int{103, 100}}, []int{100, 103}},
		{Selection{Tags: []string{"db", "web"}}, []int{101}},
		{Selection{Tags: []string{"prod"}, From: "pve1"}, []int{100}},
		{Selection{From: "pve1"}, []int{100, 103}},
		{Selection{Pool: "web", IDs: []int{102}}, []int{100, 102}},
		{Selection{}, nil},
	} {
		chosen, _, err := s.Choose(tt.sel)
		require.NoError(t, err)
		var ids []int
		for _, g := range chosen {
			ids = append(ids, g.ID)
		}
		require.Equal(t, tt.want, ids, "%+v", tt.sel)
	}
	_, templates, _ := s.Choose(Selection{From: "pve1"})
	require.Len(t, templates, 1)
	_, _, err := s.Choose(Selection{IDs: []int{999}})
	require.ErrorContains(t, err, "guest 999 does not exist")
	_, _, err = s.Choose(Selection{Pool: "none"})
	require.Error(t, err)
}

func TestMappingsPoolsAndJobs(t *testing.T) {
	require.Equal(t, map[string][]string{"pci/gpu1": {"pve1", "pve2"}, "usb/key": {"pve3"}},
		parseMappings("#pci\ngpu1\n\tdescription x\n\tmap id=10de:2204,node=pve1,path=0000:01:00\n\tmap id=10de:2204,node=pve2\n\n#usb\nkey\n\tmap id=1,node=pve3\n\n#directory\n\n"))
	require.Equal(t, map[string][]int{"web": {100, 101}, "empty": {}}, parsePools("user:root@pam:1:0:::::\npool:web::100,101::\npool:empty:a comment:::\n"))
	require.Equal(t, map[int][]Job{100: {{ID: "100-0", Target: "pve2"}, {ID: "100-1", Target: "pve3", Disabled: true, Removed: true}}},
		parseJobs([]byte("local: 100-0\n\ttarget pve2\n\nlocal: 100-1\n\tdisable\n\tremove_job full\n\ttarget pve3\n")))
}

// Whatever a move is asked, more leave never makes it less possible.
func TestLeaveOnlyEverHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.SampledFrom([]string{
			"scsi0: local-lvm:vm-100-disk-0,size=1G", "scsi1: ceph:vm-100-disk-1,size=1G", "hostpci0: 0000:01:00", "lock: backup", "memory: 65536", "net0: virtio,bridge=vmbr9", "cpu: host", "ide2: local:iso/x.iso,media=cdrom",
		})).Draw(t, "config")
		g := vm(lines...)
		if rapid.Bool().Draw(t, "container") {
			g = ct(lines...)
		}
		strict := CanMove(cluster(g), g, "pve2", Options{})
		lenient := CanMove(cluster(g), g, "pve2", Options{LocalDisks: true, Restart: true, Overcommit: true})
		if len(lenient.Reasons) > len(strict.Reasons) || strict.Can() && !lenient.Can() {
			t.Fatalf("%v became %v", strict.Reasons, lenient.Reasons)
		}
		if strict.Can() == (strict.Way == Nowhere) {
			t.Fatalf("%s with reasons %v", strict.Way, strict.Reasons)
		}
	})
}
