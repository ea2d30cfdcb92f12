package moves

import (
	"errors"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/stretchr/testify/require"
)

func TestCommandOfAMove(t *testing.T) {
	vm, ct := guest.Guest{ID: 100, Kind: guest.VM, Node: "pve1"}, guest.Guest{ID: 201, Kind: guest.CT, Node: "pve1"}
	disk := []guest.Volume{{Key: "scsi0"}}
	for _, tt := range []struct {
		m    Move
		want string
	}{
		{Move{Guest: vm, Move: guest.Move{Target: "pve2"}, running: true}, "qm migrate 100 pve2 --online 1"},
		{Move{Guest: vm, Move: guest.Move{Target: "pve2"}}, "qm migrate 100 pve2"},
		{Move{Guest: vm, Move: guest.Move{Target: "pve2", Copied: disk}, running: true, Options: guest.Options{Storages: map[string]string{"": "tank"}}, Bwlimit: 1024}, "qm migrate 100 pve2 --online 1 --with-local-disks 1 --targetstorage tank --bwlimit 1024"},
		{Move{Guest: vm, Move: guest.Move{Target: "pve2", Copied: disk}, Options: guest.Options{Storages: map[string]string{"b": "c", "a": "d"}}}, "qm migrate 100 pve2 --targetstorage a:d,b:c"},
		{Move{Guest: ct, Move: guest.Move{Target: "pve2"}, running: true, Shutdown: time.Minute}, "pct migrate 201 pve2 --restart 1 --timeout 60"},
		{Move{Guest: ct, Move: guest.Move{Target: "pve2", Copied: disk}, Options: guest.Options{Storages: map[string]string{"": "tank"}}}, "pct migrate 201 pve2 --target-storage tank"},
	} {
		got := ""
		for i, word := range tt.m.command() {
			if i > 0 {
				got += " "
			}
			got += word
		}
		require.Equal(t, tt.want, got)
	}
}

func TestWhyAMigrationFailed(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{"2026-11-21 23:16:19 ERROR: migration aborted (duration 00:00:00): can't migrate VM which uses local devices: serial0", "migration aborted"}, "can't migrate VM which uses local devices: serial0"},
		{[]string{
			"2026-11-21 23:16:25 conntrack state migration not supported or disabled, active connections might get dropped",
			"2026-11-21 23:16:25 found local disk 'local:100/vm-100-disk-0.raw' (attached)",
			"2026-11-21 23:16:25 can't migrate local disk 'local:100/vm-100-disk-0.raw': can't live migrate attached local disks without with-local-disks option",
			"2026-11-21 23:16:25 ERROR: Problem found while scanning volumes - can't migrate VM - check log",
			"2026-11-21 23:16:25 aborting phase 1 - cleanup resources",
			"2026-11-21 23:16:25 ERROR: migration aborted (duration 00:00:00): Problem found while scanning volumes - can't migrate VM - check log",
			"migration aborted",
		}, "can't migrate local disk 'local:100/vm-100-disk-0.raw': can't live migrate attached local disks without with-local-disks option; Problem found while scanning volumes - can't migrate VM - check log"},
		{[]string{
			"2026-11-21 23:16:29 ERROR: online migrate failure - drive-scsi0: throttle node without file child node name!", "2026-11-21 23:16:29 aborting phase 2 - cleanup resources",
			"2026-11-21 23:16:33 ERROR: migration finished with problems (duration 00:00:07)", "migration problems",
		}, "online migrate failure - drive-scsi0: throttle node without file child node name!"},
		{[]string{"can't migrate running VM without --online"}, "can't migrate running VM without --online"},
		{[]string{"VM is locked (backup)"}, "VM is locked (backup)"},
		{nil, "it said nothing"},
	} {
		require.Equal(t, tt.want, Because(tt.lines))
	}
}

func TestVerdicts(t *testing.T) {
	node := func(name string, running ...int) *guest.Node {
		n := &guest.Node{Name: name, Running: map[int]guest.Kind{}}
		for _, id := range running {
			n.Running[id] = guest.VM
		}
		return n
	}
	at := func(where, lock string) guest.Guest {
		return guest.Guest{ID: 100, Kind: guest.VM, Node: where, Lock: lock}
	}
	for _, tt := range []struct {
		name        string
		guests      []guest.Guest
		one, two    *guest.Node
		running     bool
		done, final bool
		text        string
	}{
		{"arrived", []guest.Guest{at("pve2", "")}, node("pve1"), node("pve2", 100), true, true, true, ""},
		{"arrived, stopped", []guest.Guest{at("pve2", "")}, node("pve1"), node("pve2"), false, true, true, ""},
		{"arrived, still locked", []guest.Guest{at("pve2", "migrate")}, node("pve1"), node("pve2", 100), true, false, false, "still locked"},
		{"arrived, does not run", []guest.Guest{at("pve2", "")}, node("pve1"), node("pve2"), true, false, false, "does not run there"},
		{"on both", []guest.Guest{at("pve2", "")}, node("pve1", 100), node("pve2", 100), true, false, false, "a process of it is still on pve1"},
		{"target does not answer", []guest.Guest{at("pve2", "")}, node("pve1"), &guest.Node{Err: errors.New("away")}, true, false, false, "does not say"},
		{"as before", []guest.Guest{at("pve1", "")}, node("pve1", 100), node("pve2"), true, false, true, "runs on pve1 as before"},
		{"as before, stopped", []guest.Guest{at("pve1", "")}, node("pve1"), node("pve2"), false, false, true, "is on pve1 as before"},
		{"cut off", []guest.Guest{at("pve1", "migrate")}, node("pve1", 100), node("pve2", 100), true, false, true, "qm unlock 100 on pve1"},
		{"died", []guest.Guest{at("pve1", "")}, node("pve1"), node("pve2"), true, false, false, "Start it there"},
		{"elsewhere", []guest.Guest{at("pve3", "")}, node("pve1"), node("pve2"), true, false, true, "is on pve3"},
		{"gone", nil, node("pve1"), node("pve2"), true, false, false, "no config on any node"},
	} {
		m := Move{Guest: at("pve1", ""), Move: guest.Move{Target: "pve2"}, running: tt.running}
		v := m.judge(&guest.Site{Guests: tt.guests, Nodes: map[string]*guest.Node{"pve1": tt.one, "pve2": tt.two}})
		require.Equal(t, tt.done, v.done, tt.name)
		require.Equal(t, tt.final, v.final, tt.name)
		require.Contains(t, v.text, tt.text, tt.name)
		require.Equal(t, tt.text == "", v.text == "", tt.name)
	}
}
