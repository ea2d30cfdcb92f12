package rolling

import (
	"errors"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

func TestWhatBecomesOfAGuest(t *testing.T) {
	for name, tt := range map[string]struct {
		guest    func(*guest.Guest)
		policies Policies
		fate     Fate
		way      guest.Way
		policy   Policy
		why      string
		code     guest.Code // of the block
		stops    bool
	}{
		"a machine moves live":                  {nil, Policies{}, Moves, guest.Live, Migrate, "the most memory left; 56 GiB stay free there", "", false},
		"one that does not run stays":           {stopped, Policies{}, Stays, "", "", "it does not run", "", false},
		"a template stays":                      {template, Policies{}, Stays, "", "", "a template stays where it is", "", false},
		"a device blocks":                       {device, Policies{}, Blocked, "", Refuse, "it uses devices of its node: hostpci0", guest.LocalDevice, false},
		"local disks block":                     {local, Policies{}, Blocked, "", Refuse, "local-zfs:vm-100-disk-0 (100 GiB) is on the local storage local-zfs", guest.LocalDisk, false},
		"a container blocks":                    {container, Policies{}, Blocked, "", Refuse, "it is a running container: containers cannot move live", guest.NeedsRestart, false},
		"a device, default shutdown":            {device, Policies{Default: Shutdown}, StopsIt, "", Shutdown, "it cannot move: it uses devices of its node: hostpci0", "", true},
		"a device, default leave":               {device, Policies{Default: Leave}, Stays, "", Leave, "it cannot move: it uses devices of its node: hostpci0", "", true},
		"default shutdown, and it can move":     {nil, Policies{Default: Shutdown}, Moves, guest.Live, Migrate, "the most memory left; 56 GiB stay free there", "", false},
		"local disks may be copied":             {local, Policies{Default: MigrateWithDisks}, Moves, guest.Live, MigrateWithDisks, "the most memory left; 56 GiB stay free there", "", false},
		"a container may be restarted":          {container, Policies{Containers: RestartContainer}, Moves, guest.Restart, RestartContainer, "the most memory left; 56 GiB stay free there", "", true},
		"a machine, default restart_container":  {nil, Policies{Default: RestartContainer}, Moves, guest.Live, RestartContainer, "the most memory left; 56 GiB stay free there", "", false},
		"said of the guest: shutdown":           {nil, Policies{Guests: map[int]Policy{100: Shutdown}}, StopsIt, "", Shutdown, "its policy is to be shut down", "", true},
		"said of the guest: leave":              {nil, Policies{Guests: map[int]Policy{100: Leave}}, Stays, "", Leave, "its policy is to stay", "", true},
		"said of the guest: block":              {nil, Policies{Guests: map[int]Policy{100: Refuse}}, Blocked, "", Refuse, "its policy is block, and it runs", "", false},
		"said of the guest: migrate":            {local, Policies{Default: Shutdown, Guests: map[int]Policy{100: Migrate}}, Blocked, "", Migrate, "local-zfs:vm-100-disk-0 (100 GiB) is on the local storage local-zfs", guest.LocalDisk, false},
		"said of a tag":                         {tagged("batch"), Policies{Tags: map[string]Policy{"batch": Shutdown}}, StopsIt, "", Shutdown, "its policy is to be shut down", "", true},
		"the guest counts before its tags":      {tagged("batch"), Policies{Tags: map[string]Policy{"batch": Shutdown}, Guests: map[int]Policy{100: Migrate}}, Moves, guest.Live, Migrate, "the most memory left; 56 GiB stay free there", "", false},
		"of tags, the first in the alphabet":    {tagged("z", "a"), Policies{Tags: map[string]Policy{"z": Refuse, "a": Shutdown}}, StopsIt, "", Shutdown, "its policy is to be shut down", "", true},
		"one that is stopped by policy and off": {func(g *guest.Guest) { g.Status = "stopped" }, Policies{Guests: map[int]Policy{100: Shutdown}}, Stays, "", "", "it does not run", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2")
			w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 1, true
			change := []func(*guest.Guest){}
			if tt.guest != nil {
				change = append(change, tt.guest)
			}
			w.guest(100, "pve1", 8*gib, change...)
			w.s.Policies = tt.policies
			p := w.prove()
			g := plan(t, p, "pve1", 100)
			require.Equal(t, tt.fate, g.Fate)
			require.Equal(t, tt.way, g.Way)
			require.Equal(t, tt.policy, g.Policy)
			if tt.fate == Moves {
				require.Equal(t, "pve2", g.To)
				require.NotEmpty(t, g.Why)
			} else {
				require.Equal(t, tt.why, g.Why)
				require.Empty(t, g.To)
			}
			require.Equal(t, tt.stops, g.Stopping())
			require.Equal(t, tt.fate == Blocked, !p.Holds())
			if tt.fate == Blocked {
				require.Equal(t, tt.code, p.Blocks[0].Code)
				require.Equal(t, "pve1: "+g.Guest+": "+tt.why, p.Blocks[0].String())
				require.NotEmpty(t, p.Blocks[0].Want)
				require.NotEmpty(t, p.Blocks[0].Look)
				require.NotEmpty(t, p.Blocks[0].Override)
			}
		})
	}
}

func TestLockedGuestsAreWaitedFor(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib, func(g *guest.Guest) { g.Lock = "backup" })
	p := w.prove()
	g := plan(t, p, "pve1", 100)
	require.Equal(t, Moves, g.Fate)
	require.Equal(t, "backup", g.Locked)
	require.Equal(t, []string{"it is locked now (backup): that is waited for"}, g.Notes)
	require.Contains(t, p.MayChange, "Locked guests are waited for; one that stays locked stops the run before its node.")
}

func TestAGuestOfWhichNothingIsKnownBlocks(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib)
	delete(w.s.Site.Nodes, "pve1")
	w.s.Site.Guests[0].Status = ""
	p := w.prove()
	g := plan(t, p, "pve1", 100)
	require.Equal(t, Blocked, g.Fate)
	require.Equal(t, UnknownGate, g.Blocks[0].Gate)
	require.Contains(t, p.Against("pve1"), Block{
		Gate: UnknownGate, Node: "pve1", Saw: "pve1 was not asked what it has", Want: "a node that is there and answers", Look: "pvecm nodes; ssh pve1", Override: "leave it out",
	})
}

func TestWhatTheClusterHasHeardOfANodeThatDoesNotAnswerMayBeOld(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve1", 8*gib, stopped).guest(102, "pve1", gib, template)
	w.s.Site.Nodes["pve1"].Err = errors.New("read guests of pve1: no answer")
	for i, want := range []Fate{Blocked, Blocked, Stays} {
		require.Equal(t, want, Targets(w.s, "pve1", nil)[i].Fate)
	}
}

func TestANodeThatWasInMaintenanceTakesGuestsWhenItIsThrough(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve2", 16*gib).guest(102, "pve2", gib, stopped).managed(102, func(r *ha.Resource) { r.State = "stopped" })
	w.s.Site.HA.Manager.Maintenance, w.s.Site.HA.Manager.Nodes["pve3"] = []string{"pve3"}, "maintenance"
	w.s.Site.HA.Manager.Master = "pve2"
	require.Equal(t, "pve2", Targets(w.s, "pve1", nil)[0].To)
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve3", "pve1", "pve2"}, p.Order)
	require.Equal(t, "pve3", plan(t, p, "pve1", 100).To)
}

func TestTargetsAreWhatTheProofSays(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve1", 16*gib).guest(102, "pve2", 4*gib).guest(103, "pve2", 2*gib, stopped).guest(104, "pve3", 40*gib)
	p := w.prove()
	first := p.Rounds[0].Steps[0]
	require.Equal(t, "pve2", first.Node)
	plans := Targets(w.s, "pve2", nil)
	for i := range plans {
		plans[i].Downtime = first.Guests[i].Downtime // times of a stop are reckoned for the whole step
	}
	require.Equal(t, first.Guests, plans)
	require.Nil(t, Targets(w.s, "pve9", nil))

	plans = Targets(w.s, "pve1", []string{"pve2"})
	require.Len(t, plans, 2)
	require.Equal(t, []string{"pve3", "pve3"}, []string{plans[0].To, plans[1].To}, "pve2 is away")
}
