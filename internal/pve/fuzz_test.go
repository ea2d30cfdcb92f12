package pve

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func seed(f *testing.F, files ...string) {
	f.Helper()
	for _, name := range files {
		f.Add(data(f, name))
	}
}

func FuzzCorosyncConf(f *testing.F) {
	f.Add([]byte(twoLinks))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCorosyncConf(text)
		if (c == nil) == (err == nil) {
			t.Fatalf("either a configuration or an error, got %v and %v", c, err)
		}
		if c != nil && len(c.Names()) != len(c.Nodes) {
			t.Fatalf("%d names of %d nodes", len(c.Names()), len(c.Nodes))
		}
	})
}

func FuzzMembers(f *testing.F) {
	seed(f, "members-offline.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := ParseMembers(text); err == nil {
			for _, n := range m.Nodes {
				if m.Online(n.Name) != n.Online {
					t.Fatalf("%s is online and is not", n.Name)
				}
			}
		}
	})
}

func FuzzGuests(f *testing.F) {
	seed(f, "vmlist-one.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		guests, err := ParseGuests(text)
		if err != nil && guests != nil {
			t.Fatal("guests beside an error")
		}
		quick, ok := guestLines(string(text))
		if !ok {
			return
		}
		thorough, err := guestObjects(text)
		require.NoError(t, err)
		require.ElementsMatch(t, thorough, quick)
	})
}

func FuzzQuorum(f *testing.F) {
	seed(f, "quorum-one.txt", "quorum-blocked.txt", "quorum-qdevice.txt", "quorum-qdevice-absent.txt", "quorum-unregistered.txt")
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := ParseQuorum(text)
		if err != nil {
			return
		}
		for _, m := range q.Members {
			if m.ID == 0 || m.Name == "" {
				t.Fatalf("a member without id or name: %+v", m)
			}
		}
	})
}

func FuzzLinks(f *testing.F) {
	seed(f, "cfgtool-n.txt", "cmapctl.txt")
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, l := range AddKnetStats(ParseLinks(text), text, 1) {
			if l.Connected && l.NodeID == 0 && bytes.Contains(text, []byte("nodeid")) && !bytes.Contains(text, []byte("stats.knet.node0")) {
				t.Fatalf("a link to nobody: %+v", l)
			}
		}
		ParseUnits(text)
	})
}

func FuzzSnapshot(f *testing.F) {
	seed(f, "snapshot-member.txt")
	f.Fuzz(func(t *testing.T, text []byte) {
		s := ParseNode("pve1", text)
		if s.Err != nil && ClassifyJoin("lab", s, nil).Phase != PhaseUnknown {
			t.Fatal("a conclusion from a snapshot that could not be read")
		}
		Status([]NodeState{s}, Wanted{Cluster: "lab"})
	})
}
