package guest

import (
	"slices"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
)

// Index answers what CanMove asks of a site without searching it each time, and can be told what would be otherwise later:
// who is upgraded, and whose maintenance is over. It is for those who ask about very many moves; the site itself stays as
// it was read, and must stay so as long as the index is used. It is not for use by several goroutines.
type Index struct {
	site     *Site
	nodes    map[string]*indexedNode
	storages map[string]*indexedStorage
	runs     map[int]known
	missing  string
}

// known is whether a guest runs; sure is false if nobody can tell.
type known struct{ running, sure bool }

type indexedNode struct {
	online        bool
	released      bool // from maintenance, since
	committed     int64
	qemu, manager string
}

type indexedStorage struct {
	section config.Section
	shared  bool
	content []string
	nodes   map[string]bool // nil: all
}

// Index indexes a site.
func (s *Site) Index() *Index {
	x := &Index{site: s, nodes: map[string]*indexedNode{}, storages: map[string]*indexedStorage{}, runs: make(map[int]known, len(s.Guests))}
	x.missing = s.Missing(needed...)
	online := map[string]bool{}
	if s.Members != nil {
		for _, m := range s.Members.Nodes {
			online[m.Name] = m.Online
		}
	}
	for _, name := range s.Names() {
		n := &indexedNode{online: online[name] || s.standalone(name)}
		if asked := s.Nodes[name]; asked != nil {
			n.qemu, n.manager = asked.QEMU, asked.Manager
		}
		x.nodes[name] = n
	}
	for _, section := range s.Storages {
		if x.storages[section.ID] != nil {
			continue
		}
		kept := &indexedStorage{section: section, shared: storage.Shared(section), content: storage.Content(section)}
		if only := section.List("nodes"); len(only) > 0 && section.ID != "local" {
			kept.nodes = map[string]bool{}
			for _, node := range only {
				kept.nodes[node] = true
			}
		}
		x.storages[section.ID] = kept
	}
	for _, g := range s.Guests {
		running, sure := s.Runs(g)
		x.runs[g.ID] = known{running, sure}
		if n := x.nodes[g.Node]; n != nil && (running || !sure) {
			n.committed += g.Memory
		}
	}
	return x
}

// CanMove is CanMove on the indexed site. The guest may be given with another node than the site has it on: with the one that
// it would be on by then.
func (x *Index) CanMove(g Guest, to string, o Options) Move { return canMove(x.site, x, g, to, o) }

// Runs reports whether a guest runs, wherever it would be by then.
func (x *Index) Runs(id int) (running, sure bool) {
	k := x.runs[id]
	return k.running, k.sure
}

// committed is the configured memory of all guests that run on a node, in bytes.
func (x *Index) committed(node string) int64 {
	if n := x.nodes[node]; n != nil {
		return n.committed
	}
	return 0
}

// Versions are those of a node's packages pve-qemu-kvm and pve-manager.
func (x *Index) Versions(node string) (qemu, manager string) {
	if n := x.nodes[node]; n != nil {
		return n.qemu, n.manager
	}
	return "", ""
}

// SetVersions says what a node would have by then.
func (x *Index) SetVersions(node, qemu, manager string) {
	if n := x.nodes[node]; n != nil {
		n.qemu, n.manager = qemu, manager
	}
}

// Release says that a node's maintenance would be over by then.
func (x *Index) Release(node string) {
	if n := x.nodes[node]; n != nil {
		n.released = true
	}
}

// Online reports whether a node is in the cluster and there.
func (x *Index) Online(node string) bool {
	n := x.nodes[node]
	return n != nil && n.online
}

// Usable reports whether a storage is there, enabled, and to be used on a node.
func (x *Index) Usable(name, node string) bool {
	s := x.storages[name]
	return s != nil && !s.section.Is("disable") && (s.nodes == nil || s.nodes[node])
}

// The following are what a decision asks, of the index if there is one.

func (d *decision) runs() (running, sure bool) {
	if d.x != nil {
		return d.x.Runs(d.g.ID)
	}
	return d.s.Runs(d.g)
}

func (d *decision) unread() string {
	if d.x != nil {
		return d.x.missing
	}
	return d.s.Missing(needed...)
}

func (d *decision) member(node string) bool {
	if d.x != nil {
		return d.x.nodes[node] != nil
	}
	return slices.Contains(d.s.Names(), node)
}

func (d *decision) online(node string) bool {
	if d.x != nil {
		return d.x.Online(node)
	}
	return d.s.Online(node)
}

func (d *decision) committed(node string) int64 {
	if d.x != nil {
		return d.x.committed(node)
	}
	return d.s.Committed(node)
}

func (d *decision) released(node string) bool {
	return d.x != nil && d.x.nodes[node] != nil && d.x.nodes[node].released
}

func (d *decision) versions(name string, n *Node) (qemu, manager string) {
	if d.x != nil {
		return d.x.Versions(name)
	}
	return n.QEMU, n.Manager
}

func (d *decision) section(name string) (config.Section, bool) {
	if d.x == nil {
		return config.FindSection(d.s.Storages, name)
	}
	if s := d.x.storages[name]; s != nil {
		return s.section, true
	}
	return config.Section{}, false
}

func (d *decision) shared(s config.Section) bool {
	if d.x != nil && d.x.storages[s.ID] != nil {
		return d.x.storages[s.ID].shared
	}
	return storage.Shared(s)
}

func (d *decision) content(s config.Section) []string {
	if d.x != nil && d.x.storages[s.ID] != nil {
		return d.x.storages[s.ID].content
	}
	return storage.Content(s)
}

func (d *decision) there(s config.Section, node string) bool {
	if d.x != nil && d.x.storages[s.ID] != nil {
		kept := d.x.storages[s.ID]
		return kept.nodes == nil || kept.nodes[node]
	}
	return len(storage.NodesOf(s, []string{node})) > 0
}
